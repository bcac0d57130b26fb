"""Generation settings: which token comes next, and when a completion ends.

The names are transformers' own (`GenerationConfig`), and so are the meanings, with two exceptions
that their fields document: `no_repeat_ngram_size` still allows n-grams of the prompt, and a stop
string is not part of the completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lorakit.errors import require
from lorakit.tasks.registry import TASKS

DEFAULT_NEW_TOKENS = 128
_NEUTRAL = {"min_length": 0, "no_repeat_ngram_size": 0, "repetition_penalty": 1.0}

_LARGEST = {
    "max_new_tokens": 2**20,
    "temperature": 1e6,
    "num_beams": 1000,
    "length_penalty": 1e6,
    "no_repeat_ngram_size": 2**20,
    "batch_size": 2**20,
}


@dataclass(frozen=True)
class DecodingConfig:
    """Greedy decoding (the default), beam search, or sampling."""

    max_new_tokens: int | None = None
    """Maximum number of generated tokens, the prompt not counted. None: 128, or for the test set of
    a run the length of its longest reference."""
    temperature: float = 0.0
    """Sampling temperature; 0 is greedy decoding, or beam search with num_beams above 1. Above 0,
    transformers' default top_k of 50 applies as well."""
    top_p: float = 1.0
    """Nucleus sampling: sample from the smallest set of most probable tokens whose probabilities
    add up to top_p. 1 keeps all tokens; without effect at temperature 0."""
    seed: int = 0
    """Random seed of sampling; without effect at temperature 0."""
    num_beams: int = 1
    """Number of beams for beam search; 1 is no beam search."""
    length_penalty: float = 1.0
    """Exponent of the length by which beam search divides a sequence's log-probability: above 0
    favours longer completions, below 0 shorter ones."""
    no_repeat_ngram_size: int = 0
    """If above 0, n-grams of that size occur only once in a completion. Unlike in transformers, an
    n-gram of the prompt may be repeated."""
    stop_strings: Sequence[str] = ()
    """Strings that end a completion. Unlike in transformers, they are not part of it; one that is a
    single token also ends the search, as an end-of-sequence token does."""
    batch_size: int = 32
    """Maximum number of prompts in one batch; changes time and memory only."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop_strings", tuple(self.stop_strings))
        new_tokens, ngram = self.max_new_tokens, self.no_repeat_ngram_size
        require(
            {
                f"max_new_tokens is {new_tokens}; it must be at least 1": (
                    new_tokens is None or new_tokens >= 1
                ),
                f"temperature is {self.temperature}; it must be 0 (greedy decoding) or above": (
                    self.temperature >= 0
                ),
                f"top_p is {self.top_p}; it must be above 0 and at most 1": 0 < self.top_p <= 1,
                f"num_beams is {self.num_beams}; it must be at least 1": self.num_beams >= 1,
                f"no_repeat_ngram_size is {ngram}; it must be 0 (off) or above": ngram >= 0,
                f"seed is {self.seed}; it must be in [0, 2**32)": 0 <= self.seed < 2**32,
                f"batch_size is {self.batch_size}; it must be at least 1": self.batch_size >= 1,
                f"num_beams is {self.num_beams} and temperature is {self.temperature}; beam search "
                "does not sample: set temperature to 0, or num_beams to 1": (
                    self.num_beams <= 1 or self.temperature <= 0
                ),
            }
            | {
                f"{name} is {value}; it must be at most {most} in size": (
                    value is None or abs(value) <= most
                )
                for name, most in _LARGEST.items()
                for value in [getattr(self, name)]
            },
            "These generation settings are invalid:",
        )

    @property
    def new_token_limit(self) -> int:
        """`max_new_tokens`, or its default."""
        return DEFAULT_NEW_TOKENS if self.max_new_tokens is None else self.max_new_tokens

    def generate_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of transformers' `generate`; neutral ones where nothing is sampled.

        Habits of the base's own generation config, such as BART's least length, are off.
        """
        if self.temperature == 0:
            sampling: dict[str, Any] = {"do_sample": False, "temperature": 1.0, "top_p": 1.0}
        else:
            sampling = {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p}
        return {
            "max_new_tokens": self.new_token_limit,
            "top_k": 50,
            "num_beams": self.num_beams,
            "length_penalty": self.length_penalty,
            **_NEUTRAL,
            **sampling,
        }


def decoding_defaults(task: object) -> dict[str, Any]:
    """Where a task's decoding differs from DecodingConfig's own defaults."""
    return dict(TASKS[task].decoding) if isinstance(task, str) and task in TASKS else {}
