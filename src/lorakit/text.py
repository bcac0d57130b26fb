"""Text for people, tables with aligned columns, sizes, counts; and for programs, JSON."""

from __future__ import annotations

import json
import math
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_NAMED_ROWS = 5


def table(rows: Iterable[Sequence[object]]) -> list[str]:
    """Rows of cells as aligned lines; numbers to the right.

    >>> print(*table([("name", "size"), ("a", 10), ("bcd", 2)]), sep="\\n")
    name  size
    a       10
    bcd      2
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [all(_is_number(c) for c in column[1:]) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    ]


def size_text(size: int) -> str:
    """Bytes in kB or MB.

    >>> size_text(3240), size_text(1_366_088)
    ('3.2 kB', '1.37 MB')
    """
    return f"{size / 1e6:,.2f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"


def count_text(count: float) -> str:
    """A large number in thousands, millions, ..., as SI writes them.

    >>> count_text(999), count_text(66_123_456), count_text(1.05e12)
    ('999 ', '66.1 M', '1.05 T')
    """
    for power, letter in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if count >= 10**power:
            return f"{count / 10**power:.3g} {letter}"
    return f"{count:.3g} "


def duration_text(seconds: float) -> str:
    """
    >>> duration_text(0.234), duration_text(72), duration_text(600), duration_text(9000)
    ('0.23 s', '72 s', '10 min', '2.5 h')
    """
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


def plural(count: int, noun: str) -> str:
    """
    >>> plural(1, "row"), plural(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def first_of(names: Iterable[str]) -> str:
    """The first name, and how many others there are.

    >>> first_of(["a"]), first_of(["a", "b"]), first_of(["a", "b", "a", "c"])
    ('a', 'a and 1 other', 'a and 2 others')
    """
    first, *others = dict.fromkeys(names)
    return first + (f" and {plural(len(others), 'other')}" if others else "")


def rows_text(rows: Sequence[int]) -> str:
    """Rows by their number, the first below the header being 1.

    >>> rows_text([0]), rows_text([0, 2]), rows_text(range(8))
    ('row 1', 'rows 1, 3', 'rows 1, 2, 3, 4, 5 and 3 more')
    """
    named = ", ".join(str(row + 1) for row in rows[:_NAMED_ROWS])
    more = len(rows) - _NAMED_ROWS
    return f"row{'s' if len(rows) > 1 else ''} {named}" + (f" and {more} more" if more > 0 else "")


def repeated(values: Iterable[Any]) -> list[Any]:
    """The values that are there more than once, sorted.

    >>> repeated(["text", "label", "text"])
    ['text']
    """
    return sorted(value for value, count in Counter(values).items() if count > 1)


def to_json(value: Any, **options: Any) -> str:
    """JSON as RFC 8259 has it, without NaN and infinity, which become null.

    >>> to_json({"loss": float("nan"), "steps": [1, 2.5]})
    '{"loss": null, "steps": [1, 2.5]}'
    """
    return json.dumps(_finite(value), allow_nan=False, **options)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "", 1).replace("e-", "", 1).isdigit()


def settings(values: Mapping[str, object]) -> str:
    """Names and values in one line, long values shortened.

    >>> settings({"r": 8, "tool": {"name": "x"}})
    "r=8, tool={'name': 'x'}"
    """
    return ", ".join(f"{name}={reprlib.repr(value)}" for name, value in values.items())
