"""Adapters with weights on the command line: `A`, or `A=0.7 B=0.3`."""

from __future__ import annotations

from pathlib import Path

from lorakit.errors import ConfigError


def parse_weighted(texts: list[str]) -> list[tuple[str | Path, float]]:
    """(adapter, weight) of each; raises ConfigError that lists those whose weight is no number.

    >>> parse_weighted(["legal=0.7", "runs/lr=1e-3/adapter"])
    [('legal', 0.7), ('runs/lr=1e-3/adapter', 1.0)]
    """
    found: list[tuple[str | Path, float]] = []
    wrong = []
    for text in texts:
        name, equals, number = text.rpartition("=")
        if not equals or "/" in number or Path(text).exists():
            found.append((text, 1.0))
            continue
        try:
            found.append((name, float(number)))
        except ValueError:
            wrong.append(f"{text}: {number!r} is no number")
    if wrong:
        raise ConfigError("A weight is written as ADAPTER=WEIGHT, such as legal=0.7:", wrong)
    return found
