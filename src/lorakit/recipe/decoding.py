"""How a text is chosen, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lorakit.errors import ConfigError
from lorakit.tasks.registry import TASKS

NEW_TOKENS = 128


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen: the likeliest, drawn with a temperature, or by beam search."""

    max_new_tokens: int | None = None
    """Tokens of one answer at most; None: what the longest reference has, or 128."""
    temperature: float = 0.0
    """0: nothing is drawn."""
    top_p: float = 1.0
    seed: int = 0
    beams: int = 1
    """Texts that are followed at once; 1: always the likeliest token."""
    length_penalty: float = 1.0
    """A beam's score is its log-probability over length ** length_penalty."""
    no_repeat_ngram: int = 0
    """No sequence of that many tokens occurs twice in an answer; 0: all may. The prompt's own may
    be said again."""
    stop: Sequence[str] = ()
    """Texts that end an answer and are no part of it; those of one token end its search as well."""
    batch_rows: int = 32
    """Prompts of one batch at most; changes time and memory only."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", tuple(self.stop))
        problems = {
            f"max_new_tokens is {self.max_new_tokens}; at least 1": (
                self.max_new_tokens is not None and self.max_new_tokens < 1
            ),
            f"temperature is {self.temperature}; 0 or above": self.temperature < 0,
            f"top_p is {self.top_p}; above 0, at most 1": not 0 < self.top_p <= 1,
            f"beams is {self.beams}; at least 1": self.beams < 1,
            f"no_repeat_ngram is {self.no_repeat_ngram}; 0 or above": self.no_repeat_ngram < 0,
            f"batch_rows is {self.batch_rows}; at least 1": self.batch_rows < 1,
            "beams are not drawn; leave temperature at 0": self.beams > 1 and self.temperature > 0,
        }
        if any(problems.values()):
            raise ConfigError(
                "Text cannot be generated so:", [p for p, bad in problems.items() if bad]
            )

    @property
    def longest(self) -> int:
        """Tokens of one answer at most."""
        return NEW_TOKENS if self.max_new_tokens is None else self.max_new_tokens

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of transformers' `generate`; neutral ones where nothing is drawn."""
        if self.temperature == 0:
            drawing: dict[str, Any] = {"do_sample": False, "temperature": 1.0, "top_p": 1.0}
        else:
            drawing = {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p}
        return {
            "max_new_tokens": self.longest,
            "top_k": 50,
            "num_beams": self.beams,
            "length_penalty": self.length_penalty,
            **drawing,
        }


def decoding_defaults(task: object) -> dict[str, Any]:
    """Where a task's decoding differs from Sampling's own defaults."""
    return dict(TASKS[task].decoding) if isinstance(task, str) and task in TASKS else {}
