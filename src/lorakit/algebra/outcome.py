"""What an operation on adapters gives: a new adapter, and how far it is from what it stands for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lorakit.checkpoint import AdapterBundle
from lorakit.errors import MismatchError
from lorakit.functional.finite import is_finite
from lorakit.layer_groups import group_sentences
from lorakit.text import plural, table
from lorakit.variants import ModuleAdapter

_SHOWN = 12


class Approximation(NamedTuple):
    """An adapter that stands for an update X of one module: ||X - dW|| and ||X||, Frobenius."""

    adapter: ModuleAdapter
    missed: float = 0.0
    norm: float = 0.0
    """Not finite where X is too large to be computed with; the adapter is none then."""

    @property
    def problem(self) -> str | None:
        """Why there is no adapter of finite values."""
        if not math.isfinite(self.norm):
            return "its update is too large to be computed"
        for name, tensor in self.adapter.tensors.items():
            if not is_finite(tensor):
                dtype = str(tensor.dtype).removeprefix("torch.")
                return f"{dtype} cannot hold the values of its {name}"
        return None


def require_finite(parts: Mapping[str, Approximation]) -> None:
    """Raise MismatchError that lists the modules whose adapters are not finite."""
    problems = [f"{name}: {text}" for name, part in parts.items() if (text := part.problem)]
    if problems:
        raise MismatchError(
            "The result leaves the range of its type; use smaller weights or scales, or adapters "
            "in float32:",
            group_sentences(problems),
        )


@dataclass(frozen=True)
class Deviation:
    """||X - dW|| / ||X|| in the Frobenius norm: what was asked for is X, what the adapter has dW.

    What rounding to the adapter's dtype costs is in it.
    """

    whole: float = 0.0
    """Of all modules together."""
    modules: Mapping[str, float] = field(default_factory=dict)
    """Of each module that was computed; the others are what they were, to the bit."""

    def __float__(self) -> float:
        return self.whole

    @classmethod
    def of(cls, parts: Mapping[str, Approximation]) -> Deviation:
        """From that of each module."""
        missed = math.hypot(*(part.missed for part in parts.values()))
        norm = math.hypot(*(part.norm for part in parts.values()))
        return cls(_share(missed, norm), {n: _share(x.missed, x.norm) for n, x in parts.items()})


def _share(missed: float, norm: float) -> float:
    return missed / norm if norm else 0.0


@dataclass(frozen=True)
class Outcome:
    """A new adapter and the error that was made; prints as a table."""

    bundle: AdapterBundle
    """The new adapter."""
    error: Deviation
    """How far its update is from what was asked for."""

    def __str__(self) -> str:
        return describe(self.error, {n: x.spec.r for n, x in self.bundle.adapters.items()})


def describe(error: Deviation, ranks: Mapping[str, int]) -> str:
    """The error of the whole, and that of the modules where it is largest with their ranks."""
    head = f"{plural(len(ranks), 'module')}, relative error {error.whole:.2g}"
    worst = sorted(error.modules, key=lambda name: -error.modules[name])
    if not worst:
        return f"{head}: the same to the bit"
    rows = [(name, ranks[name], f"{error.modules[name]:.2g}") for name in worst[:_SHOWN]]
    lines = [head, *table([("module", "rank", "relative error"), *rows])]
    if more := worst[_SHOWN:]:
        lines.append(f"and {plural(len(more), 'module')} with at most {rows[-1][2]}")
    return "\n".join(lines)
