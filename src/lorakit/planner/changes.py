"""What makes a training step smaller: six settings, each with its values from mild to strong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

from lorakit.config import LoraConfig
from lorakit.methods.bottleneck import BottleneckConfig
from lorakit.methods.lora_prefix import LoraPrefixConfig
from lorakit.planner.quantised import QUANTISATIONS
from lorakit.planner.settings import StepSettings
from lorakit.text import plural

EFFECTS = ("the same result", "rounds", "learns less")
"""What a change does to what is trained, the mildest first."""
SAME, ROUNDS, LESS = range(len(EFFECTS))
_SHORTEST = 16
"""Tokens of a row, below which none is shortened."""


@dataclass(frozen=True)
class Change:
    """A setting that memory depends on."""

    effect: int
    """An index of `EFFECTS`."""
    strength: Callable[[StepSettings], float]
    """How strong it is in a step: more for a value with less memory."""
    smaller: Callable[[StepSettings], Sequence[StepSettings]]
    """The same step with other values of the setting, each with less memory than the one before."""
    words: Callable[[StepSettings], str]
    recipe: Callable[[StepSettings], str | None] = lambda _: None
    """The setting of a recipe."""

    def levels(self, settings: StepSettings) -> list[StepSettings]:
        """The step as it is, and with each smaller value."""
        return [settings, *self.smaller(settings)]


def with_rows(settings: StepSettings, rows: int) -> StepSettings:
    """The step in micro-batches of so many rows at most."""
    budget = rows * settings.length * settings.passes
    return replace(settings, token_budget=budget if rows < settings.batch else None)


def _fewer_rows(settings: StepSettings) -> list[StepSettings]:
    """In 2, 3, ... micro-batches."""
    counts = {math.ceil(settings.batch / number) for number in range(1, settings.batch + 1)}
    smaller = (with_rows(settings, rows) for rows in sorted(counts, reverse=True))
    return [step for step in smaller if step.rows < settings.rows]


def _shorter(settings: StepSettings) -> list[StepSettings]:
    """7/8, 6/8, ... 1/8 of the length, then halves of that; of as many rows."""
    eighths = [settings.length * part // 8 for part in range(7, 0, -1)]
    lengths = [*eighths, *_halves(eighths[-1])]
    rows = settings.rows
    return [with_rows(replace(settings, length=n), rows) for n in lengths if n >= _SHORTEST]


def _halves(number: int) -> Iterator[int]:
    while number > 1:
        number //= 2
        yield number


_RANKS = ((LoraPrefixConfig, "lora"), (LoraConfig, "r"), (BottleneckConfig, "bottleneck"))
"""Where a method's config has the size of what trains."""


def _rank(config: Any) -> tuple[str, int]:
    """Its name in the config, and the number; 0 of a method without one."""
    name = _rank_field(config)
    if name is None:
        return "", 0
    value = getattr(config, name)
    if not is_dataclass(value):
        return name, value
    inner, number = _rank(value)
    return f"{name}.{inner}", number


def _lower(config: Any) -> list[Any]:
    """The config with half of its rank, a quarter, ... 1."""
    name = _rank_field(config)
    if name is None:
        return []
    value = getattr(config, name)
    smaller = _lower(value) if is_dataclass(value) else _halves(value)
    return [replace(config, **{name: one}) for one in smaller]


def _rank_field(config: Any) -> str | None:
    return next((name for kind, name in _RANKS if isinstance(config, kind)), None)


def _rank_words(settings: StepSettings) -> str:
    name, number = _rank(settings.method_config)
    return f"{settings.method}.{name}={number}" if name else ""


_WAYS = (None, *QUANTISATIONS)
"""To store the base, the most bytes first."""


def _more_quantised(settings: StepSettings) -> list[StepSettings]:
    if settings.devices > 1:
        return []
    later = _WAYS[_WAYS.index(settings.quantised) + 1 :]
    return [replace(settings, quantised=way) for way in later]


CHANGES = {
    "micro-batches": Change(
        SAME,
        lambda step: -step.rows,
        _fewer_rows,
        lambda step: f"micro-batches of {plural(step.rows, 'row')}",
        lambda step: (
            None if step.token_budget is None else f"training.token_budget: {step.token_budget}"
        ),
    ),
    "checkpointing": Change(
        SAME,
        lambda step: bool(step.checkpointing),
        lambda step: [] if step.checkpointing else [replace(step, checkpointing=True)],
        lambda step: "checkpointing",
        lambda step: f"training.gradient_checkpointing: {str(bool(step.checkpointing)).lower()}",
    ),
    "precision": Change(
        ROUNDS,
        lambda step: step.dtype != "fp32",
        lambda step: [replace(step, dtype="bf16")] if step.dtype == "fp32" else [],
        lambda step: step.dtype,
        lambda step: f"training.dtype: {step.dtype}",
    ),
    "quantisation": Change(
        ROUNDS,
        lambda step: _WAYS.index(step.quantised),
        _more_quantised,
        lambda step: f"base in {step.quantised} by formula",
    ),
    "length": Change(
        LESS,
        lambda step: -step.length,
        _shorter,
        lambda step: f"rows of {step.length} tokens",
        lambda step: f"data.max_length: {step.length}",
    ),
    "rank": Change(
        LESS,
        lambda step: -_rank(step.method_config)[1],
        lambda step: [replace(step, config=config) for config in _lower(step.method_config)],
        _rank_words,
        lambda step: _rank_words(step).replace("=", ": "),
    ),
}
"""By name."""


def changed(settings: StepSettings, asked: StepSettings) -> list[Change]:
    """In which of the settings one step differs from another."""
    return [one for one in CHANGES.values() if one.strength(settings) != one.strength(asked)]


def strength(settings: StepSettings) -> tuple[float, ...]:
    """How strong each change is in a step, as numbers that can be compared with another step's."""
    return tuple(one.strength(settings) for one in CHANGES.values())
