"""Text from a saved model, with transformers' `generate`.

Prompts of like length form a batch and are padded on the left, so that every row continues at its
end. The adapter runs merged, at the base's speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lorakit.errors import ConfigError
from lorakit.inference.batch_generation import answer
from lorakit.inference.partial_outputs import PartialOutputs, weights_digest
from lorakit.inference.prediction import bar, columns_read, fitted, running
from lorakit.inference.session import Session
from lorakit.models.processes import gathered, process_number, share
from lorakit.recipe.decoding import Sampling, decoding_defaults
from lorakit.tasks.base import CUT
from lorakit.tasks.batching import batches
from lorakit.tasks.generation import CausalTask, require_generating

TOKENS = 8192
"""Of one batch at most, prompts, answers and beams together; a batch has at least one row."""


@dataclass(frozen=True)
class Generated:
    """One text a prompt, in the prompts' order."""

    texts: list[str]
    truncated_rows: int
    """Prompts that were too long and lost their beginning."""


def generate_texts(
    saved: Session, prompts: Sequence[str], sampling: Sampling | None = None, progress: bool = False
) -> Generated:
    """What the model says to each prompt; with a chat task a prompt is the user's message.

    Raises ConfigError if the model does not generate text, or the prompt leaves it no room.
    """
    task = replace(_generating(saved), text=("prompt",), label=None)
    rows = {"prompt": [task.asked(prompt) for prompt in prompts]}
    return _generate(saved, task, rows, sampling or Sampling(), progress)


def generate_rows(
    saved: Session,
    table: Any,
    data: str,
    sampling: Sampling | None = None,
    progress: bool = False,
    output: Path | None = None,
) -> Generated:
    """What the model says to each row: to its prompt, or its messages up to the last answer.

    With an `output`, where the caller will write the texts, they are kept beside it batch by batch
    until `partial_outputs.remove_partial`: what was interrupted continues.

    Raises ConfigError for missing columns, and as `generate_texts` does.
    """
    task = fitted(_generating(saved), table, data, with_label=False)
    task = replace(task, label=None)
    rows = columns_read(task, table)
    return _generate(saved, task, rows, sampling or Sampling(), progress, output)


def sampling_of(saved: Session) -> Sampling:
    """How a run's recipe says that texts are generated; else as its task's corpus has it."""
    if saved.recipe is not None:
        return saved.recipe.decoding
    return Sampling(**decoding_defaults(saved.task.name))


def generate_answers(saved: Session, table: Any, output: Path, progress: bool = False) -> list[str]:
    """What the model says to each row of a run's data, over all processes, as its recipe says.

    Where that leaves the length open, an answer has at most as many tokens as the longest reference
    and its end, and leaves the prompt half of what the model reads.
    """
    sampling = sampling_of(saved)
    if sampling.max_new_tokens is None:
        references = _generating(saved).references(columns_read(saved.task, table))
        ids = saved.tokenizer(references, add_special_tokens=False, verbose=False)["input_ids"]
        longest = min(max(map(len, ids)) + 1, max(1, saved.task.max_length // 2))
        sampling = replace(sampling, max_new_tokens=longest)
    mine = list(share(len(table)))
    texts: list[str] = []
    if mine:
        texts = generate_rows(saved, table.select(mine), "test", sampling, progress, output).texts
    return [text for _, text in sorted(gathered(list(zip(mine, texts, strict=True))))]


def _generate(
    saved: Session,
    task: CausalTask,
    rows: dict[str, list[Any]],
    sampling: Sampling,
    progress: bool,
    output: Path | None = None,
) -> Generated:
    room = task.max_length - sampling.longest
    if room < 1:
        raise ConfigError(
            f"The model reads {task.max_length} tokens in all, so {sampling.longest} new "
            "ones leave none for the prompt; lower --max-new-tokens."
        )
    encoded = replace(task, max_length=room).prompts(saved.tokenizer, rows)
    prompts = [tuple(ids) or (_first_token(saved),) for ids in encoded["input_ids"]]
    drawn = sampling.temperature > 0
    asked = prompts if drawn else list(dict.fromkeys(prompts))  # the same prompt, the same answer
    kept = None if drawn or output is None else _kept(saved, asked, sampling, output)
    texts = _answers(saved, asked, sampling, progress, kept)
    if not drawn:
        by_prompt = dict(zip(asked, texts, strict=True))
        texts = [by_prompt[prompt] for prompt in prompts]
    return Generated(texts, sum(map(bool, encoded[CUT])))


def _answers(
    saved: Session,
    prompts: Sequence[tuple[int, ...]],
    sampling: Sampling,
    progress: bool,
    kept: PartialOutputs | None,
) -> list[str]:
    """One text a prompt, in batches of like length; what is kept is not computed again."""
    texts = kept.read() if kept is not None else {}
    if kept is not None:
        kept.start(texts)
    torch.manual_seed(sampling.seed)
    missing = [i for i in range(len(prompts)) if i not in texts]
    costs = [(len(prompts[i]) + sampling.longest) * sampling.beams for i in missing]
    with torch.no_grad(), running(saved.model), bar(len(prompts), progress) as shown:
        shown.update(len(texts))
        for batch in batches(costs, TOKENS, sampling.batch_rows):
            rows = [missing[i] for i in batch]
            said = answer(saved.model, saved.tokenizer, [[*prompts[i]] for i in rows], sampling)
            found = dict(zip(rows, said, strict=True))
            texts |= found
            if kept is not None:
                kept.add(found)
            shown.update(len(rows))
    return [texts[i] for i in range(len(prompts))]


def _kept(
    saved: Session, prompts: Sequence[tuple[int, ...]], sampling: Sampling, output: Path
) -> PartialOutputs:
    settings = {name: value for name, value in asdict(sampling).items() if name != "batch_rows"}
    model = {"base": saved.base, "weights": weights_digest(saved.model)}
    about = {"prompts": prompts, **settings, **model}
    return PartialOutputs(output, about, process_number())


def _generating(saved: Session) -> CausalTask:
    return require_generating(saved.task, saved.source)


def _first_token(saved: Session) -> int:
    """What stands for an empty prompt."""
    tokenizer = saved.tokenizer
    token = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if token is None:
        raise ConfigError("An empty prompt needs a tokenizer with a first token; this has none.")
    return int(token)
