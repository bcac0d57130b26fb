"""Which task a table is for, and which columns it uses, from the names and the values.

Names that data sets on the Hub use decide first. Of two columns without such names, the one with
fewer distinct values is the label.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lorakit.tables.cells import decimal_mark, is_blank, label_name, number
from lorakit.tables.chunks import Cells
from lorakit.tasks.label_lists import is_list
from lorakit.tasks.spec import Columns, TextColumns
from lorakit.text import plural

_TEXTS = ("text", "sentence", "review", "content", "body", "comment", "tweet", "title")
_PAIRS = (("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"),
          ("question", "sentence"), ("question", "answer"),
          ("text1", "text2"), ("text_a", "text_b"))  # fmt: skip
LABELS = ("label", "labels", "target", "class", "category", "sentiment", "rating", "score", "y")
_CHOICE = re.compile(r"(choice|ending|option|answer)_?\d+")
_MOST_CLASSES = 50


def by_lower_case(table: Any) -> dict[str, str]:
    """The table's columns by their lower case."""
    return {name.lower(): name for name in table.column_names}


def choice_columns(table: Any, given: Columns) -> Columns | None:
    """The column of questions, those of the choices and the one with the right choice."""
    names = by_lower_case(table)
    choices = [name for lower, name in names.items() if _CHOICE.fullmatch(lower)]
    label = given.label or next((names[name] for name in LABELS if name in names), None)
    texts = [name for name in names.values() if name not in (*choices, label)]
    if len(choices) < 2 or label is None or not texts:
        return None
    known = (*_TEXTS, "question", "prompt", "context", "startphrase")
    question = next((name for name in texts if name.lower() in known), texts[0])
    return replace(given, text=(question, *choices), label=label)


def guess_labelled(table: Any, given: Columns, texts: TextColumns) -> Columns:
    """`given` with a column of labels, one or two of text, and the kind of task by the labels."""
    names, found = by_lower_case(table), given
    if found.label is None:
        found = replace(found, label=_label(table, names, found.text))
    if found.text is None and texts.least <= 2:
        found = replace(found, text=_texts(table, names, found.label))
    if found.task is None and found.label is not None:
        kind, held = _kind(Cells(table, found.label))
        found = replace(found, task=kind, why=f"{found.label} has {held}")
    return found


def _label(table: Any, names: Mapping[str, str], text: Sequence[str] | None) -> str | None:
    free = {lower: name for lower, name in names.items() if name not in (text or ())}
    named = next((free[name] for name in LABELS if name in free), None)
    if named is not None or len(free) != (2 if text is None else 1):
        return named
    others = [name for name in free.values() if name.lower() not in _TEXTS] or list(free.values())
    distinct = {name: len(set(map(str, Cells(table, name)))) for name in others}
    return min(reversed(others), key=distinct.__getitem__)


def _texts(table: Any, names: Mapping[str, str], label: str | None) -> tuple[str, ...] | None:
    free = {lower: name for lower, name in names.items() if name != label}
    for first, second in _PAIRS:
        if first in free and second in free:
            return free[first], free[second]
    named = next((free[name] for name in _TEXTS if name in free), None)
    if named is not None:
        return (named,)
    samples = {name: table[name][:100] for name in free.values()}
    strings = [
        name
        for name, values in samples.items()
        if all(isinstance(v, str) and number(v) is None for v in values if not is_blank(v))
    ]
    return (
        (max(strings, key=lambda name: sum(map(len, map(str, samples[name])))),)
        if strings
        else None
    )


def _kind(values: Sequence[Any]) -> tuple[str | None, str]:
    """The task, and what the column holds that says so.

    Lists hold several labels; numbers with a fraction, or many of them, are measured; few values
    are classes. Texts that are nearly all different are neither: None.
    """
    filled = [value for value in values if not is_blank(value)]
    if filled and all(map(is_list, filled)):
        return "multi_label_classification", "lists"
    names = set(map(label_name, filled))
    mark = decimal_mark(filled)
    numbers = [number(name, mark) for name in names]
    measured = [value for value in numbers if value is not None]
    if any(not value.is_integer() for value in measured) and len(measured) == len(names):
        return "regression", "numbers with fractions"
    if len(measured) == len(names) > _MOST_CLASSES:
        return "regression", f"{len(names):,} different numbers"
    few = len(names) <= max(_MOST_CLASSES, len(values) / 2)
    return "classification" if few else None, plural(len(names), "different value")
