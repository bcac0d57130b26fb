"""What the cell of a table means, whichever kind of file it came from.

CSV knows text only, JSON has numbers and booleans, pandas turns whole numbers with a gap into
floats. A label is therefore compared by its name: 1, 1.0, "1" and " 1.0 " are one label.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lorakit.errors import ConfigError

_WHOLE = re.compile(r"([-+]?\d+)\.0+")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_NO_TEXT = (list, tuple, Mapping, bytes)


def is_blank(value: Any) -> bool:
    """Whether there is nothing in the cell: None, NaN or white space.

    >>> [is_blank(v) for v in (None, float("nan"), "  ", "NA", 0)]
    [True, True, True, False, False]
    """
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def label_name(value: Any) -> str:
    """The name of a class, the same in all kinds of files.

    >>> [label_name(v) for v in (1, 1.0, " 1.0", 0.5, "01", True, "true", " pos ")]
    ['1', '1', '1', '0.5', '01', 'True', 'True', 'pos']
    """
    text = str(value).strip()
    if text.lower() in ("true", "false"):
        return text.capitalize()
    whole = _WHOLE.fullmatch(text)
    return whole.group(1) if whole else text


def label_names(values: Iterable[Any]) -> tuple[str, ...]:
    """The distinct labels, numbers by size and words by the alphabet; blank cells left out.

    >>> label_names([10, 2, "2.0", None]), label_names(["pos", "neg"])
    (('2', '10'), ('neg', 'pos'))
    """
    names = {label_name(value) for value in values if not is_blank(value)}
    numbers = {name: number(name) for name in names}
    if all(value is not None for value in numbers.values()):
        return tuple(sorted(names, key=lambda name: (numbers[name], name)))
    return tuple(sorted(names))


def number(value: Any, decimal: str = ".") -> float | None:
    """The finite number in the cell; None for anything else, booleans too.

    >>> [number(v) for v in (3, "-1.5", "2e-3", "3,5", "1_000", True, "inf", 10**400)]
    [3.0, -1.5, 0.002, None, None, None, None, None]
    >>> [number(v, decimal=",") for v in ("3,5", "4", "3.5", 3.5)]
    [3.5, 4.0, None, 3.5]
    """
    if isinstance(value, str):
        text = value.strip().translate({ord(decimal): ".", ord("."): decimal})
        return _finite(float(text)) if _NUMBER.fullmatch(text) else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return _finite(value) if is_number else None


def decimal_mark(values: Iterable[Any]) -> str:
    """The mark before decimals: a comma if all of the texts are numbers with that, else a point.

    Raises ConfigError if each comma stands before three digits, where it may mark thousands.

    >>> [decimal_mark(v) for v in (["3,5", "4", None], ["3.5", "4,0"], ["a, b", "4"], [1.5])]
    [',', '.', '.', '.']
    """
    filled = [value for value in values if not is_blank(value)]
    marked = [value for value in filled if isinstance(value, str) and "," in value]
    if not marked or any(number(value, decimal=",") is None for value in filled):
        return "."
    if all(_THOUSANDS.fullmatch(value.strip()) for value in marked):
        raise ConfigError(
            f"{marked[0]!r} may be a number with three decimals, or one of thousands; write "
            "decimals after a point, and thousands without a mark"
        )
    return ","


def text_problem(value: Any) -> str | None:
    """Why the cell is no text; None if it is one, or a number.

    >>> [text_problem(v) for v in ("a", 5, [1], "\\ud83d")]
    [None, None, 'is a list, where text is wanted', 'has half a surrogate pair, which is no text']
    """
    if isinstance(value, _NO_TEXT):
        kind = "an object" if isinstance(value, Mapping) else f"a {type(value).__name__}"
        return f"is {kind}, where text is wanted"
    has_half_pair = isinstance(value, str) and _HALF_PAIR.search(value)
    return "has half a surrogate pair, which is no text" if has_half_pair else None


def json_in(value: Any) -> Any:
    """What the cell holds: the value of its JSON, None for text that is none; no text is itself.

    >>> [json_in(v) for v in ('{"a": [1]}', "{'a'}", {"a": 1}, "null", None)]
    [{'a': [1]}, None, {'a': 1}, None, None]
    """
    return _read_with(json.loads, value) if isinstance(value, str) else value


def list_in(value: Any) -> list[Any] | None:
    """The list in the cell: itself, or written in text as JSON or as Python, which pandas does.

    >>> [list_in(v) for v in ([1], "[1, null]", "['a', None]", "[a]", "a", None)]
    [[1], [1, None], ['a', None], None, None, None]
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = json_in(value) or _read_with(ast.literal_eval, value.strip())
    return value if isinstance(value, list) else None


def _read_with(read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def is_place(name: str, count: int) -> bool:
    """Whether a label is the number of one of `count` places, the first being 0."""
    return name.isascii() and name.isdigit() and len(name) < 10 and int(name) < count


def is_scalar(value: Any) -> bool:
    """Whether the cell holds one value, not a list or a mapping."""
    return value is None or isinstance(value, str | int | float)


def _finite(value: int | float) -> float | None:
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer that no float reaches
        return None
