"""Words as ids: the pieces of each as a tokenizer has them inside of a text, and what frames one.

A byte-level tokenizer, as RoBERTa's and GPT-2's, has other pieces for a word behind a space; there
each word gets one, which is what transformers does with `add_prefix_space=True`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorakit.tasks.padding import padding_id


@dataclass(frozen=True)
class Frame:
    """The inputs of the special tokens around a text, and those of each token in it."""

    before: Mapping[str, list[int]]
    within: Mapping[str, int]
    behind: Mapping[str, list[int]]

    @property
    def size(self) -> int:
        """The number of special tokens."""
        return len(self.before["input_ids"]) + len(self.behind["input_ids"])

    def around(self, ids: Sequence[int]) -> dict[str, list[int]]:
        """The model's inputs for a text of these ids."""
        inside = {name: [value] * len(ids) for name, value in self.within.items()}
        inside["input_ids"] = [*ids]
        return {n: [*self.before[n], *inside[n], *self.behind[n]] for n in self.before}


def frame_of(tokenizer: Any) -> Frame:
    """What this tokenizer puts around a text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = dict(tokenizer("a"))
    ids = whole["input_ids"]
    start = next(i for i in range(len(ids)) if ids[i : i + len(bare)] == bare)
    return Frame(
        {name: values[:start] for name, values in whole.items()},
        {name: values[start] for name, values in whole.items()},
        {name: values[start + len(bare) :] for name, values in whole.items()},
    )


def pieces_of(tokenizer: Any, words: Iterable[str]) -> dict[str, list[int]]:
    """The ids of each distinct word, at least one: the unknown token's for a word of none."""
    distinct = list(dict.fromkeys(words))
    found = _ids(tokenizer, [_space(tokenizer) + word for word in distinct])
    unknown = tokenizer.unk_token_id
    none = [padding_id(tokenizer) if unknown is None else unknown]
    return {word: ids or none for word, ids in zip(distinct, found, strict=True)}


def _space(tokenizer: Any) -> str:
    """What stands in front of a word, so that its pieces are those inside of a text."""
    (both,), (one, other) = _ids(tokenizer, ["a a"]), _ids(tokenizer, ["a", "a"])
    return "" if both == [*one, *other] else " "


def _ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer([*texts], add_special_tokens=False, verbose=False)["input_ids"]
    return ids
