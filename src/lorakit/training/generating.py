"""Text from a saved model, with transformers' `generate`.

Prompts of like length form a batch and are padded on the left, so that every row continues at its
end. The adapter runs merged, at the base's speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from lorakit.errors import ConfigError
from lorakit.tasks.base import CUT
from lorakit.tasks.chat import Chat
from lorakit.tasks.generation import CausalTask
from lorakit.training.distributed import gathered, share
from lorakit.training.inference import bar, columns_read, fitted, running
from lorakit.training.saved import Saved
from lorakit.training.scoring import batches


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    """0: always the most likely token."""
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        problems = {
            f"max_new_tokens is {self.max_new_tokens}; at least 1": self.max_new_tokens < 1,
            f"temperature is {self.temperature}; 0 or above": self.temperature < 0,
            f"top_p is {self.top_p}; above 0, at most 1": not 0 < self.top_p <= 1,
        }
        if any(problems.values()):
            raise ConfigError(
                "Text cannot be generated so:", [p for p, bad in problems.items() if bad]
            )

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of transformers' `generate`; neutral ones where nothing is drawn."""
        if self.temperature == 0:
            drawing: dict[str, Any] = {"do_sample": False, "temperature": 1.0, "top_p": 1.0}
        else:
            drawing = {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p}
        return {
            "max_new_tokens": self.max_new_tokens,
            "top_k": 50 if self.temperature else 0,
            **drawing,
        }


@dataclass(frozen=True)
class Generated:
    """One text a prompt, in the prompts' order."""

    texts: list[str]
    truncated_rows: int
    """Prompts that were too long and lost their beginning."""


def generate_texts(
    saved: Saved, prompts: Sequence[str], sampling: Sampling | None = None, progress: bool = False
) -> Generated:
    """What the model says to each prompt; with a chat task a prompt is the user's message.

    Raises ConfigError if the model does not generate text, or the prompt leaves it no room.
    """
    chat = isinstance(saved.task, Chat)
    column = [[{"role": "user", "content": p}] for p in prompts] if chat else list(prompts)
    task = replace(_generating(saved), text=("prompt",), label=None)
    return _generate(saved, task, {"prompt": column}, sampling or Sampling(), progress)


def generate_rows(
    saved: Saved,
    table: Any,
    data: str,
    sampling: Sampling | None = None,
    progress: bool = False,
) -> Generated:
    """What the model says to each row: to its prompt, or its messages up to the last answer.

    Raises ConfigError for missing columns, and as `generate_texts` does.
    """
    task = fitted(_generating(saved), table, data, with_label=False)
    task = replace(task, label=None)
    return _generate(saved, task, columns_read(task, table), sampling or Sampling(), progress)


def generate_answers(saved: Saved, table: Any, data: str, progress: bool = False) -> list[str]:
    """What the model says to each row of a run's data, over all processes, by the likeliest tokens.

    An answer has at most as many tokens as the longest reference and its end, and leaves the prompt
    half of what the model reads.
    """
    references = _generating(saved).references(columns_read(saved.task, table))
    ids = saved.tokenizer(references, add_special_tokens=False, verbose=False)["input_ids"]
    longest = min(max(map(len, ids)) + 1, max(1, saved.task.max_length // 2))
    mine = list(share(len(table)))
    texts: list[str] = []
    if mine:
        rows = table.select(mine)
        texts = generate_rows(saved, rows, data, Sampling(longest), progress).texts
    return [text for _, text in sorted(gathered(list(zip(mine, texts, strict=True))))]


def _generate(
    saved: Saved,
    task: CausalTask,
    rows: dict[str, list[Any]],
    sampling: Sampling,
    progress: bool,
) -> Generated:
    room = task.max_length - sampling.max_new_tokens
    if room < 1:
        raise ConfigError(
            f"The model reads {task.max_length} tokens in all, so {sampling.max_new_tokens} new "
            "ones leave none for the prompt; lower --max-new-tokens."
        )
    encoded = replace(task, max_length=room).prompts(saved.tokenizer, rows)
    prompts = [ids or [_first_token(saved)] for ids in encoded["input_ids"]]
    texts = [""] * len(prompts)
    torch.manual_seed(sampling.seed)
    with torch.no_grad(), running(saved.model), bar(len(prompts), progress) as shown:
        for batch in batches([len(ids) + sampling.max_new_tokens for ids in prompts]):
            answers = _generate_batch(saved, [prompts[i] for i in batch], sampling)
            for row, answer in zip(batch, answers, strict=True):
                texts[row] = answer
            shown.update(len(batch))
    return Generated(texts, sum(map(bool, encoded[CUT])))


def _generate_batch(saved: Saved, prompts: list[list[int]], sampling: Sampling) -> list[str]:
    tokenizer, device = saved.tokenizer, saved.model.device
    longest = max(map(len, prompts))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
    output = saved.model.generate(
        input_ids=ids, attention_mask=mask, pad_token_id=pad, **sampling.arguments()
    )
    answers: list[str] = tokenizer.batch_decode(output[:, longest:], skip_special_tokens=True)
    return [answer.strip() for answer in answers]


def _generating(saved: Saved) -> CausalTask:
    if isinstance(saved.task, CausalTask):
        return saved.task
    raise ConfigError(
        f"{saved.source} was trained for {saved.task.name} and generates no text; use "
        "lorakit predict."
    )


def _first_token(saved: Saved) -> int:
    """What stands for an empty prompt."""
    tokenizer = saved.tokenizer
    token = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if token is None:
        raise ConfigError("An empty prompt needs a tokenizer with a first token; this has none.")
    return int(token)
