"""Names of layers that differ in a number alone, as one: for messages and reports."""

from __future__ import annotations

import re
from collections.abc import Iterable


def is_index(part: str) -> bool:
    """Whether a part of a name is a number, as short as those of layers."""
    return part.isdecimal() and len(part) < 10


def without_indices(name: str) -> str:
    """A name with its layer numbers replaced, to group layers that differ in nothing else.

    >>> without_indices("encoder.layer.3.attention.query")
    'encoder.layer.*.attention.query'
    """
    return ".".join("*" if is_index(part) else part for part in name.split("."))


def group_layers(problems: Iterable[tuple[str, str]]) -> list[str]:
    """(name, what is wrong) pairs as sentences; one for all layers that have the same problem.

    >>> group_layers([(f"layer.{n}.q", "is missing") for n in (10, 2, 1, 0)])
    ['layer.{0-2,10}.q is missing']
    """
    return _grouped((name, f" {text}") for name, text in problems)


def _grouped(problems: Iterable[tuple[str, str]]) -> list[str]:
    groups: dict[tuple[str, str], list[str]] = {}
    for name, text in problems:
        groups.setdefault((without_indices(name), text), []).append(name)
    return [f"{joined(names)}{text}" for (_, text), names in groups.items()]


def joined(names: list[str]) -> str:
    """Names that differ in one number as one, with all of its values; else a list."""
    columns = [
        list(dict.fromkeys(parts)) for parts in zip(*(n.split(".") for n in names), strict=True)
    ]
    if len(names) == 1 or sum(len(column) > 1 for column in columns) != 1:
        return ", ".join(names)
    return ".".join(c[0] if len(c) == 1 else f"{{{ranges(map(int, c))}}}" for c in columns)


def ranges(numbers: Iterable[int]) -> str:
    """Numbers in order, three or more in a row as first-last.

    >>> ranges([40, 41, 42, 7])
    '7,40-42'
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(
        f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs
    )


def group_sentences(problems: Iterable[str]) -> list[str]:
    """Sentences that begin with the name of a layer, as `group_layers` has them; others stay.

    >>> group_sentences(["layer.0.q: is DoRA", "layer.1.q: is DoRA", "the head is new"])
    ['layer.{0,1}.q: is DoRA', 'the head is new']
    """
    return _grouped((name, text) for problem in problems for name, text in _NAME.findall(problem))


_NAME = re.compile(r"\A((?:[\w-]+\.[\w.-]+)?)(.*)", re.DOTALL)
"""A dotted name, and the rest."""
