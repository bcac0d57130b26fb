"""Completions of prompts by a session's model, with transformers' `generate`.

Prompts of similar length form a batch. In float32 the adapter runs merged, at the base's speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lorakit.errors import ConfigError
from lorakit.inference.batch_generation import generate_batch
from lorakit.inference.partial_outputs import PartialOutputs, weights_digest
from lorakit.inference.prediction import columns_read, fitted, inference_context, progress_bar
from lorakit.inference.session import Session
from lorakit.inference.streaming import Say
from lorakit.models.processes import gathered, process_number, share
from lorakit.recipe.decoding import DEFAULT_NEW_TOKENS, DecodingConfig, decoding_defaults
from lorakit.tasks.base import TRUNCATED
from lorakit.tasks.batching import batches
from lorakit.tasks.generation import CausalTask, require_generating

TOKENS = 8192
"""Of one batch at most, prompts, completions and beams together; a batch has at least one row."""


@dataclass(frozen=True)
class Generated:
    """One completion a prompt, in the prompts' order."""

    texts: list[str]
    truncated_rows: int
    """The number of prompts that were too long and lost their beginning."""


def generate_texts(
    session: Session,
    prompts: Sequence[str],
    decoding: DecodingConfig | None = None,
    progress: bool = False,
) -> Generated:
    """The completion of each of `prompts` by `session`; for chat a prompt is a user message.

    `decoding` overrides the settings of the run, and `progress` shows a bar.
    Raises ConfigError if the model does not generate text, or max_new_tokens leaves no room for the
    prompt.
    """
    task, rows = of_prompts(session, prompts)
    return _generate(session, task, rows, decoding or DecodingConfig(), progress)


def stream_text(session: Session, prompt: str, say: Say, decoding: DecodingConfig) -> Generated:
    """`generate_texts` of one prompt; `say` is told each part of the completion as it comes.

    Raises as `generate_texts` does.
    """
    task, rows = of_prompts(session, [prompt])
    return _generate(session, task, rows, decoding, progress=False, say=say)


def generate_rows(
    session: Session,
    table: Any,
    data: str,
    decoding: DecodingConfig | None = None,
    progress: bool = False,
    output: Path | None = None,
) -> Generated:
    """The completion of each row: of its prompt, or of its messages up to the last assistant turn.

    `session` generates; `data` is what messages call the `table`, `decoding` overrides the
    settings of the run, and `progress` shows a bar.

    With an `output`, where the caller will write the completions, they are kept beside it batch by
    batch until `partial_outputs.remove_partial`, so the same call continues an interrupted one.

    Raises ConfigError for missing columns, and as `generate_texts` does.
    """
    task = fitted(_generating(session), table, data, with_label=False)
    task = replace(task, label=None)
    rows = columns_read(task, table)
    return _generate(session, task, rows, decoding or DecodingConfig(), progress, output)


def decoding_of(session: Session) -> DecodingConfig:
    """The generation settings of a run's recipe; for an adapter, the defaults of its task."""
    if session.recipe is not None:
        return session.recipe.decoding
    return DecodingConfig(**decoding_defaults(session.task.name))


def generate_test_rows(
    session: Session, table: Any, output: Path, progress: bool = False
) -> list[str]:
    """The completion of each test row of a run, over all processes, as its recipe decodes.

    There are none for a task whose rows have no expected completion.

    Where the recipe does not set max_new_tokens, it is the length of the longest reference and its
    end-of-sequence token, and at most what leaves room for the prompt.
    """
    task, decoding = _generating(session), decoding_of(session)
    if not task.has_references:
        return []
    if decoding.max_new_tokens is None:
        references = task.references(columns_read(task, table))
        longest = max(map(len, task.text_model.completion_ids(session.tokenizer, references)))
        most = task.text_model.longest_completion(task.max_length)
        decoding = replace(decoding, max_new_tokens=min(longest + 1, most))
    mine = list(share(len(table)))
    texts: list[str] = []
    if mine:
        data = session.measured_on
        texts = generate_rows(session, table.select(mine), data, decoding, progress, output).texts
    return [text for _, text in sorted(gathered(list(zip(mine, texts, strict=True))))]


def of_prompts(session: Session, prompts: Sequence[str]) -> tuple[CausalTask, dict[str, list[Any]]]:
    """The session's task for prompts in a column of their own, and that column."""
    task = replace(_generating(session), text=("prompt",), label=None)
    return task, {"prompt": [task.prompt_cell(prompt) for prompt in prompts]}


@dataclass(frozen=True)
class Prompts:
    """Prompts as a model reads them, and how it answers them."""

    ids: list[tuple[int, ...]]
    decoding: DecodingConfig
    """With the number of new tokens."""
    truncated_rows: int
    """The number of prompts that were too long and lost their beginning."""

    @property
    def distinct(self) -> list[tuple[int, ...]]:
        """Those to be completed: each one once, unless completions are drawn."""
        return self.ids if self.decoding.temperature > 0 else list(dict.fromkeys(self.ids))

    def generated(self, texts: Sequence[str]) -> Generated:
        """The completions of all prompts, from those of the distinct ones."""
        if self.decoding.temperature == 0:
            by_prompt = dict(zip(self.distinct, texts, strict=True))
            texts = [by_prompt[prompt] for prompt in self.ids]
        return Generated(list(texts), self.truncated_rows)


def encode_prompts(
    session: Session, task: CausalTask, rows: dict[str, list[Any]], decoding: DecodingConfig
) -> Prompts:
    """The prompts of these rows; raises ConfigError if nothing is left for a prompt."""
    room, limit = task.text_model.lengths(
        task.max_length, decoding.max_new_tokens, DEFAULT_NEW_TOKENS
    )
    encoded = replace(task, max_length=room).prompts(session.tokenizer, rows)
    prompts = [tuple(ids) or (_first_token(session),) for ids in encoded["input_ids"]]
    truncated = sum(map(bool, encoded[TRUNCATED]))
    return Prompts(prompts, replace(decoding, max_new_tokens=limit), truncated)


def cost(prompt: Sequence[int], decoding: DecodingConfig) -> int:
    """The tokens of a prompt, its completion and beams, of which a batch has `TOKENS` at most."""
    return (len(prompt) + decoding.new_token_limit) * decoding.num_beams


def _generate(
    session: Session,
    task: CausalTask,
    rows: dict[str, list[Any]],
    decoding: DecodingConfig,
    progress: bool,
    output: Path | None = None,
    say: Say | None = None,
) -> Generated:
    prompts = encode_prompts(session, task, rows, decoding)
    partial = None
    if output is not None and prompts.decoding.temperature == 0:
        partial = _partial_outputs(session, prompts.distinct, prompts.decoding, output)
    return prompts.generated(
        _completions(session, prompts.distinct, prompts.decoding, progress, partial, say)
    )


def _completions(
    session: Session,
    prompts: Sequence[tuple[int, ...]],
    decoding: DecodingConfig,
    progress: bool,
    partial: PartialOutputs | None,
    say: Say | None,
) -> list[str]:
    """One completion a prompt, in batches of similar length; those in `partial` are read."""
    texts = partial.read() if partial is not None else {}
    if partial is not None:
        partial.start(texts)
    torch.manual_seed(decoding.seed)
    missing = [i for i in range(len(prompts)) if i not in texts]
    costs = [cost(prompts[i], decoding) for i in missing]
    model, tokenizer = session.model, session.tokenizer
    with torch.no_grad(), inference_context(session), progress_bar(len(prompts), progress) as shown:
        shown.update(len(texts))
        for batch in batches(costs, TOKENS, decoding.batch_size):
            rows = [missing[i] for i in batch]
            found = generate_batch(model, tokenizer, [[*prompts[i]] for i in rows], decoding, say)
            completed = dict(zip(rows, found, strict=True))
            texts |= completed
            if partial is not None:
                partial.add(completed)
            shown.update(len(rows))
    return [texts[i] for i in range(len(prompts))]


def _partial_outputs(
    session: Session, prompts: Sequence[tuple[int, ...]], decoding: DecodingConfig, output: Path
) -> PartialOutputs:
    model = {"base": session.base, "weights": weights_digest(session.model)}
    about = {"prompts": prompts, **search_settings(decoding), **model}
    return PartialOutputs(output, about, process_number())


def search_settings(decoding: DecodingConfig) -> dict[str, Any]:
    """What decides on a completion."""
    return {name: value for name, value in asdict(decoding).items() if name != "batch_size"}


def _generating(session: Session) -> CausalTask:
    return require_generating(session.task, session.source)


def _first_token(session: Session) -> int:
    """The token that replaces an empty prompt: BOS, else EOS."""
    tokenizer = session.tokenizer
    token = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if token is None:
        raise ConfigError(
            "A prompt is empty, and the tokenizer has no BOS or EOS token to start from; pass a "
            "prompt that is not empty."
        )
    return int(token)
