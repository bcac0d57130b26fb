"""The `slices` of a LoraConfig: which parts of a fused weight are adapted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Slice = tuple[int | None, bool]
"""Height of one slice of a fused weight (None: an equal share), and whether it is adapted."""


def normalised_slices(
    given: Mapping[str, Sequence[Any]],
) -> tuple[dict[str, tuple[Slice, ...]], list[str]]:
    """Each value as a tuple of (height or None, adapted), and a list of what is invalid."""
    slices: dict[str, tuple[Slice, ...]] = {}
    problems = []
    for name, parts in given.items():
        listed = isinstance(parts, list | tuple)
        pairs = [(None, p) if isinstance(p, bool) else p for p in (parts if listed else ())]
        readable = listed and all(
            isinstance(pair, list | tuple)
            and len(pair) == 2
            and isinstance(pair[1], bool)
            and (pair[0] is None or (type(pair[0]) is int and pair[0] > 0))
            for pair in pairs
        )
        if not readable or len({pair[0] is None for pair in pairs}) > 1:
            problems.append(
                f"slices[{name!r}] is {parts!r}; it must list booleans (equal slices) or "
                "(height, boolean) pairs"
            )
        elif not any(pair[1] for pair in pairs):
            problems.append(f"slices[{name!r}] adapts none of its {len(pairs)} slices")
        else:
            slices[name] = tuple((pair[0], pair[1]) for pair in pairs)
    return slices, problems
