"""Which forwards a study of latency times."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorakit.errors import require
from lorakit.models.dtypes import Dtype


@dataclass(frozen=True)
class LatencyStudy:
    """Which forwards are timed."""

    model: str
    """Directory or hub id of a transformers model, or a config.json; only its config is read."""
    methods: Mapping[str, Any]
    """The config of each method by its name."""
    batches: Sequence[int] = (1, 4, 16)
    """Numbers of texts in a batch."""
    lengths: Sequence[int] = (64, 128, 256)
    """Numbers of tokens in a text."""
    device: str | None = None
    """Any that torch knows. None: the accelerator, or without one the processor."""
    dtype: Dtype = "fp32"
    """What the frozen weights are stored, and products computed in."""
    seconds: float = 10.0
    """About how long a batch and length are measured."""
    rounds: int = 5
    """How often each candidate is measured at least."""
    revision: str | None = None
    """Branch, tag or commit of the model on the Hub."""

    def __post_init__(self) -> None:
        sizes = {"batch": self.batches, "length": self.lengths, "rounds": (self.rounds,)}
        require(
            {
                f"{name} is {size}; it must be at least 1": size >= 1
                for name, values in sizes.items()
                for size in values
            }
            | {
                f"seconds is {self.seconds}; it must be above 0 and finite": (
                    0 < self.seconds < math.inf
                )
            }
        )
