"""Decoders (GPT-2, Llama): a completion continues its prompt.

    ids     p p p p c c c e        p: the prompt's tokens, c: the completion's, e: its end
    labels  - - - - c c c e        -: IGNORED

Prompt and completion are tokenized together, as they stand in the text, unless the tokenizer would
then merge the end of one with the beginning of the other: in generation the model sees the prompt's
own tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lorakit.errors import ConfigError
from lorakit.tasks.base import TRUNCATED
from lorakit.tasks.ends import IGNORED, with_end
from lorakit.tasks.pieces import Piece, decoded_runs
from lorakit.tasks.text_models.base import Columns, TextModel, without_eos

Labelled = tuple[list[int], list[int]]
"""Ids and labels of one example."""


class Decoder(TextModel):
    """Next-token prediction over prompt and completion."""

    name = "decoder"
    auto_class = "AutoModelForCausalLM"
    continues_prompt = True

    def encode(
        self,
        tokenizer: Any,
        prompts: Sequence[str],
        completions: Sequence[str],
        max_length: int,
        end: int | None,
    ) -> Columns:
        pairs = zip(prompts, completions, strict=True)
        answers = [_continuing(prompt, completion) for prompt, completion in pairs]
        alone = self.completion_ids(tokenizer, answers)
        found = _ids(tokenizer, list(prompts), answers, alone)
        examples = [(p + c, [IGNORED] * len(p) + c) for p, c in found]
        return columns_of(examples, max_length, end)

    def encode_prompts(self, tokenizer: Any, prompts: Sequence[str], max_length: int) -> Columns:
        """Truncated at their beginning."""
        return last_tokens(open_ended(tokenizer, prompts), max_length)

    def completion_ids(self, tokenizer: Any, completions: Sequence[str]) -> list[list[int]]:
        encoded = tokenizer(list(completions), add_special_tokens=False, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def pieces(self, tokenizer: Any, ids: Sequence[int], labels: Sequence[int]) -> list[Piece]:
        return decoded_runs(tokenizer, ids, [label != IGNORED for label in labels])

    def targets(self, labels: Tensor) -> Tensor:
        return labels[:, 1:]

    def lengths(self, max_length: int, new_tokens: int | None, default: int) -> tuple[int, int]:
        new_tokens = default if new_tokens is None else new_tokens
        if new_tokens >= max_length:
            raise ConfigError(
                f"max_new_tokens is {new_tokens}, and the maximum length of the model, prompt and "
                f"completion together, is {max_length} tokens: none is left for the prompt. Set "
                f"--max-new-tokens (decoding.max_new_tokens) below {max_length}."
            )
        return max_length - new_tokens, new_tokens

    def longest_completion(self, max_length: int) -> int:
        """Half of it, so that the prompt has room."""
        return max(1, max_length // 2)


def columns_of(examples: Sequence[Labelled], max_length: int, end: int | None = None) -> Columns:
    """The columns of an encoded table from each example's ids and labels, truncated by `fit`.

    `end` is the token that closes a completion, where there is one.
    """
    if end is not None:
        examples = [with_end(ids, labels, end) for ids, labels in examples]
    kept = [fit(ids, labels, max_length) for ids, labels in examples]
    return {
        "input_ids": [ids for ids, _ in kept],
        "attention_mask": [[1] * len(ids) for ids, _ in kept],
        "labels": [labels for _, labels in kept],
        TRUNCATED: [max(0, len(ids) - max_length) for ids, _ in examples],
    }


def last_tokens(prompts: Sequence[list[int]], max_length: int) -> Columns:
    """The columns of prompts without labels, truncated at their beginning."""
    kept = [ids[-max_length:] for ids in prompts]
    masks = [[1] * len(ids) for ids in kept]
    truncated = [max(0, len(ids) - max_length) for ids in prompts]
    return {"input_ids": kept, "attention_mask": masks, TRUNCATED: truncated}


def fit(ids: list[int], labels: list[int], max_length: int) -> Labelled:
    """At most `max_length` tokens, with labels among them.

    The first completion is kept: the prompt is truncated at its beginning, what follows at its end.

    >>> fit([1, 2, 3, 4], [IGNORED, IGNORED, 3, 4], 3)
    ([2, 3, 4], [-100, 3, 4])
    >>> fit([1, 2, 3, 4], [IGNORED, 2, IGNORED, 4], 3)
    ([1, 2, 3], [-100, 2, -100])
    """
    first = next((i for i, label in enumerate(labels) if label != IGNORED), 0)
    stop = next((i for i in range(first, len(labels)) if labels[i] == IGNORED), len(labels))
    start = max(0, min(stop - max_length, first - 1))
    return ids[start : start + max_length], labels[start : start + max_length]


def _continuing(prompt: str, completion: str) -> str:
    """The completion with a space before it, unless there is white space between them already."""
    apart = not prompt or prompt[-1].isspace() or completion[:1].isspace()
    return completion if apart else f" {completion}"


def _ids(
    tokenizer: Any, prompts: list[str], completions: list[str], alone: list[list[int]]
) -> list[tuple[list[int], list[int]]]:
    """The ids of each prompt and of its completion, which are `alone` where the two would merge."""
    starts = open_ended(tokenizer, prompts)
    whole = open_ended(tokenizer, [p + c for p, c in zip(prompts, completions, strict=True)])
    return [
        (start, ids[len(start) :] if ids[: len(start)] == start else own)
        for start, ids, own in zip(starts, whole, alone, strict=True)
    ]


def open_ended(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The ids of texts without the EOS token that some tokenizers add."""
    return without_eos(tokenizer(list(texts), verbose=False)["input_ids"], tokenizer)
