"""Entities that tags of words mark, and their precision, recall and F1, as seqeval has them.

An entity is its type, its first word and its last; it is found if all three are right. IOB1, IOB2
and IOBES are read alike, as by conlleval and by seqeval's default mode; BILOU's L and U are IOBES'
E and S. Other tags, such as parts of speech, mark no entities: their number is the accuracy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from lorakit.metrics.optional import imported

_TAG = re.compile(r"O|[BILUES](-.+)?")
_UNNAMED = "_"
"""seqeval's type of an entity with the tags B and I alone."""
_IOBES = {"L": "E", "U": "S"}

Sentences = Sequence[Sequence[str]]
"""The tags of each sentence's words."""


def require_package() -> None:
    """Raise MissingDependencyError without seqeval."""
    _seqeval()


def mark_entities(tags: Iterable[str]) -> bool:
    """Whether these are all tags of entities.

    >>> mark_entities(["O", "B-PER", "I-PER"]), mark_entities(["B", "I", "O"])
    (True, True)
    >>> mark_entities(["NOUN", "O"]), mark_entities(["O"])
    (False, False)
    """
    distinct = {*tags}
    return all(map(_TAG.fullmatch, distinct)) and bool(distinct - {"O"})


def entities(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """(type, first word, last word) of each entity of a sentence.

    >>> entities(["B-PER", "I-PER", "O", "U-LOC"])
    [('PER', 0, 1), ('LOC', 3, 3)]
    """
    found: list[tuple[str, int, int]] = _seqeval().get_entities(*_in_iobes([tags]))
    return found


def tag_accuracy(predicted: Sentences, labels: Sentences) -> dict[str, float]:
    """accuracy: the share of words with the right tag.

    >>> tag_accuracy([["A", "B"], ["C"]], [["A", "B"], ["D"]])
    {'accuracy': 0.6666666666666666}
    """
    pairs = [
        pair
        for row, right in zip(predicted, labels, strict=True)
        for pair in zip(row, right, strict=True)
    ]
    return {"accuracy": sum(tag == right for tag, right in pairs) / len(pairs)}


def entity_metrics(predicted: Sentences, labels: Sentences) -> dict[str, float]:
    """overall_f1, overall_precision and overall_recall, over all entities, and the tags' accuracy.

    Then f1, precision and recall of each type that occurs or is predicted: f1_PER. What is
    undefined is 0. Source: seqeval 1.2.2.

    >>> found = entity_metrics([["B-PER", "O"]], [["B-PER", "B-LOC"]])
    >>> found["overall_precision"], found["overall_recall"], found["recall_LOC"]
    (1.0, 0.5, 0.0)
    """
    right, guessed = _in_iobes(labels), _in_iobes(predicted)
    overall = {f"overall_{name}": value for name, (value,) in _scores(right, guessed, "micro")}
    types = sorted({kind for kind, *_ in _seqeval().get_entities([*right, *guessed])})
    by_type = {
        f"{name}_{kind}": value
        for name, values in _scores(right, guessed, None)
        for kind, value in zip(types, values, strict=True)
        if kind != _UNNAMED
    }
    return {**overall, **tag_accuracy(predicted, labels), **by_type}


def _scores(
    right: Sentences, guessed: Sentences, average: str | None
) -> Iterable[tuple[str, list[float]]]:
    """f1, precision and recall: one number for all types, or one for each."""
    precision, recall, f1, _ = _seqeval().precision_recall_fscore_support(
        right, guessed, average=average, zero_division=0
    )
    numbers = {"f1": f1, "precision": precision, "recall": recall}
    return [(name, [float(x) for x in _listed(value)]) for name, value in numbers.items()]


def _listed(value: Any) -> Any:
    return value if getattr(value, "ndim", 0) else [value]


def _in_iobes(sentences: Sentences) -> list[list[str]]:
    return [[_IOBES.get(tag[0], tag[0]) + tag[1:] for tag in tags] for tags in sentences]


def _seqeval() -> Any:
    return imported("seqeval.metrics.sequence_labeling", "train")
