"""The text of a completion while its tokens come.

transformers' `TextStreamer` decodes a line at a time, from which tokenizers lose the space that a
line begins with, and it shows a stop token that is a visible one. Here the whole completion is
decoded again with each token, and what can no longer change is told: no half of a character, of a
word or of a stop string. All that is told together is the completion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers.generation.streamers import BaseStreamer

Say = Callable[[str], None]
"""Is told the next part of a text."""

_HALF = "\ufffd"
"""What stands for bytes that are no whole character yet."""


@dataclass(frozen=True)
class CompletionText:
    """What tokens say as a completion: up to its end, without special tokens."""

    tokenizer: Any
    ends: Sequence[int]
    """Tokens that end it, also visible ones."""
    stop_strings: Sequence[str]

    def whole(self, ids: Sequence[int]) -> str:
        """The completion of these tokens, without white space around it."""
        return self._before_stop(self._decoded(ids)).strip()

    def settled(self, ids: Sequence[int]) -> str:
        """The part of it that further tokens leave as it is.

        The last word may go on, unless it is of a script without spaces.
        """
        text = self._decoded(ids)
        if self._before_stop(text) != text:
            return self.whole(ids)
        text = text.rstrip(_HALF)
        text = text[: len(text) - max((_overlap(text, s) for s in self.stop_strings), default=0)]
        word = text.split(" ")[-1].split("\n")[-1]
        return (text.removesuffix(word) if word.isascii() else text).strip()

    def _decoded(self, ids: Sequence[int]) -> str:
        stop = next((i for i, token in enumerate(ids) if token in self.ends), len(ids))
        return str(self.tokenizer.decode(ids[:stop], skip_special_tokens=True))

    def _before_stop(self, text: str) -> str:
        """The text before the first stop string."""
        return min((text.partition(stop)[0] for stop in self.stop_strings), key=len, default=text)


class CompletionStream(BaseStreamer):
    """A streamer for `generate` with one prompt, which tells `say` the completion."""

    def __init__(self, text: CompletionText, say: Say) -> None:
        self._text, self._say = text, say
        self._begun, self._told = False, ""
        self._ids: list[int] = []

    def put(self, value: Tensor) -> None:
        """The prompt, or what a decoder of its own begins with; then each next token."""
        if self._begun:
            self._ids += value.flatten().tolist()
            self._tell(self._text.settled(self._ids))
        self._begun = True

    def end(self) -> None:
        """The completion has ended."""
        self._tell(self._text.whole(self._ids))

    def _tell(self, text: str) -> None:
        if len(text) > len(self._told):
            self._say(text[len(self._told) :])
            self._told = text


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of the text may be the beginning of a stop string."""
    sizes = range(min(len(text), len(stop) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)
