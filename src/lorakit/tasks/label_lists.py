"""Cells with several labels: lists of names, or lists with a 0 or 1 for each label."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import mode
from typing import Any

from lorakit.errors import ConfigError
from lorakit.tables.cells import is_blank, label_name, list_in, text_problem
from lorakit.text import plural, rows_text


def is_list(value: Any) -> bool:
    """Whether the cell is a list, or one in text.

    >>> [is_list(cell) for cell in (["a"], '["a"]', "[]", "[a]", "a", 1)]
    [True, True, True, False, False, False]
    """
    return list_in(value) is not None


def as_list(value: Any) -> list[Any]:
    """The labels in a cell; raises ConfigError if it is no list of plain values."""
    found = list_in(value)
    if found is None:
        raise ConfigError(
            f'has {value!r}, which is not a list of labels; write a list, such as ["a", "b"] or '
            "[0, 1, 1]"
        )
    for part in found:
        if is_blank(part) or text_problem(part):
            raise ConfigError(f"has {part!r} in a list of labels")
    return found


def indicator_size(values: Iterable[Any]) -> int:
    """The length of the lists if all hold a 0 or 1 for each label, else 0: they hold names.

    They do if nothing but 0 and 1 is in them. Raises ConfigError for lists of one 0 or 1 each, or
    of different lengths, which may be the numbers of labels as well.

    >>> [indicator_size(cells) for cells in ([[0, 1, 1], [1, 0, 0]], [["a"], []], [[0], [1, 2]])]
    [3, 0, 0]
    """
    lists = {row: found for row, v in enumerate(values) if (found := list_in(v)) is not None}
    if not all(_is_bit(part) for found in lists.values() for part in found):
        return 0
    sizes = {row: len(found) for row, found in lists.items()}
    size = mode(sizes.values()) if sizes else 0
    if uneven := [row for row, length in sizes.items() if length != size]:
        raise ConfigError(
            "The lists of labels hold nothing but 0 and 1, and are not equally long: "
            f"{rows_text(uneven)}, where most have {plural(size, 'value')}. They may have a 0 or 1 "
            "for each label, and some are damaged, or hold the numbers of labels. Make them "
            'equally long, or write the numbers as names (["0", "1"]).'
        )
    if size == 1:
        raise ConfigError(
            "Each list of labels holds one 0 or 1, which may say that the only label is absent or "
            "present, or be the number of one of two labels. Write plain values and use the task "
            "classification, or write the names of the labels."
        )
    return size


def labels_in(values: Iterable[Any], size: int) -> set[str]:
    """The names of the labels that occur; with a `size` of 0 and 1, the places of the ones.

    >>> sorted(labels_in([["b", "a"], ["a"]], 0)), sorted(labels_in([[0, 1, 1]], 3))
    (['a', 'b'], ['1', '2'])
    """
    lists = [found for value in values if (found := list_in(value)) is not None]
    if size:
        return {str(i) for found in lists for i, part in enumerate(found) if part}
    return {label_name(part) for found in lists for part in found if not is_blank(part)}


def _is_bit(value: Any) -> bool:
    return isinstance(value, int | float) and value in (0, 1)
