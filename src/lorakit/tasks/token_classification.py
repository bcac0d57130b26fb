"""A tag for each word: named entities, parts of speech.

A cell is a list of words, or a text, which is split; the tags are a list of as many. A row of more
than `max_length` tokens is read in windows, so every word is learned and gets a tag.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

from torch import Tensor

from lorakit.errors import ConfigError
from lorakit.metrics.entities import (
    Sentences,
    entities,
    entity_metrics,
    mark_entities,
    require_package,
    tag_accuracy,
)
from lorakit.tables.cells import label_names
from lorakit.tasks.base import TOKEN_CLASSIFICATION, Example, Row, Rows, Task, inputs_of
from lorakit.tasks.baseline import Baseline, commonest, same_answer
from lorakit.tasks.class_head import ClassHead
from lorakit.tasks.ends import IGNORED
from lorakit.tasks.label_lists import is_list
from lorakit.tasks.padding import padded
from lorakit.tasks.pieces import Piece
from lorakit.tasks.table_checks import AtRows, by_problem
from lorakit.tasks.tokenizing import require_room
from lorakit.tasks.word_examples import ANSWERS, CONTINUES, joined_rows, own_words, word_examples
from lorakit.tasks.word_pieces import frame_of, pieces_of
from lorakit.tasks.words import have_marks_apart, places, tags_in, tags_of, words_of, words_problem
from lorakit.text import plural


@dataclass(frozen=True)
class TokenClassification(ClassHead):
    """`text` is the column of words, `label` that of their tags."""

    marks_apart: bool = False
    """Whether punctuation marks are words of their own where a text is split."""

    name: ClassVar[str] = "token_classification"
    auto_class: ClassVar[str] = TOKEN_CLASSIFICATION

    @classmethod
    def from_table(
        cls, table: Any, text: tuple[str, ...], label: str | None, max_length: int
    ) -> Task:
        """The task with the tags that occur in the table."""
        labels = label_names(tags_in(table[label]))
        if len(labels) < 2:
            found = f"only the tag {labels[0]!r}" if labels else "no tags"
            raise ConfigError(
                f"Column {label!r} has {found}; token classification needs two different tags or "
                "more."
            )
        marks_apart = have_marks_apart(map(words_of, table[text[0]]))
        return cls(text, label, max_length, labels, marks_apart)

    @classmethod
    def unseen_labels(cls, train: Sequence[Any], other: Sequence[Any]) -> dict[int, str]:
        known = {*tags_in(train)}
        new = ((row, {*tags_in([cell])} - known) for row, cell in enumerate(other))
        return {row: ", ".join(sorted(tags)) for row, tags in new if tags}

    @property
    def best_metric(self) -> str:
        return "overall_f1" if self._marks_entities else "accuracy"

    def require_probabilities(self) -> None:
        raise ConfigError(
            f"The task {self.name} predicts a tag for each word, and probabilities are of answers "
            "to a whole row."
        )

    @property
    def _marks_entities(self) -> bool:
        return mark_entities(self.labels)

    def require_packages(self) -> None:
        if self._marks_entities:
            require_package()

    def remarks(self, tokenizer: Any, table: Any) -> list[str]:
        """That tags of entities are not measured as such, where some tags are others."""
        others = [tag for tag in self.labels if not mark_entities(["O", "B", tag])]
        if not others or len(others) == len({*self.labels} - {"O"}):
            return []
        return [
            f"The tags {', '.join(map(repr, others[:10]))} are none of entities, as the others "
            "are, so accuracy is measured and no F1; write them as O, or as B-NAME and I-NAME."
        ]

    def baseline(self, train: Any, test: Any) -> Baseline | None:
        """The most frequent tag of the test set for every word."""
        labels = [tags_of(cell) for cell in test[self.label]]
        tag = commonest(chain.from_iterable(labels))
        found = self._metrics([[tag] * len(tags) for tags in labels], labels)
        return Baseline(f"tag {tag} for every word", self.best_metric, found[self.best_metric])

    def sameness(self, predictions: Sequence[Any], test: Any) -> str | None:
        """About one tag for every word."""
        tags = [*chain.from_iterable(predictions)]
        return same_answer(tags, [*tags_in(test[self.label])], 1.0, "words of the rows")

    def text_problem(self, column: str, value: Any) -> str | None:
        return words_problem(value) if is_list(value) else super().text_problem(column, value)

    def target(self, value: Any) -> list[int]:
        """The indices of the tags' logits."""
        return [self.index(tag) for tag in tags_of(value)]

    def cell_problems(self, columns: Rows) -> list[AtRows]:
        problems = super().cell_problems(columns)
        if problems or self.label is None or self.label not in columns:
            return problems
        pairs = zip(columns[self.text[0]], columns[self.label], strict=True)
        return by_problem(self._uneven(words_of(w), tags_of(t)) for w, t in pairs)

    def _uneven(self, words: Sequence[str], tags: Sequence[str]) -> str | None:
        if len(words) == len(tags):
            return None
        return (
            f"column {self.text[0]!r} has {plural(len(words), 'word')}, and {self.label!r} "
            f"{plural(len(tags), 'tag')}"
        )

    def encode(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        """One example a row, or one for each of its windows."""
        frame = frame_of(tokenizer)
        require_room(frame.size, self.max_length)
        room = self.max_length - frame.size
        marks_apart = self.marks_apart and self.label not in rows
        sentences = [words_of(cell, marks_apart) for cell in rows[self.text[0]]]
        pieces = pieces_of(tokenizer, chain.from_iterable(sentences))
        targets = self.targets(rows).get("labels", [None] * len(sentences))
        examples = [
            example
            for words, tags in zip(sentences, targets, strict=True)
            for example in word_examples(frame, [pieces[word] for word in words], tags, room)
        ]
        return {name: [example[name] for example in examples] for name in examples[0]}

    def row_pieces(self, row: Row) -> list[Piece]:
        """Each word before its tag."""
        pairs = zip(words_of(row[self.text[0]]), tags_of(row[str(self.label)]), strict=True)
        return [piece for word, tag in pairs for piece in (Piece(f"{word}/"), *_tag(tag))]

    def pieces(self, tokenizer: Any, example: Example) -> list[Piece]:
        """Each tag behind the piece that carries it."""
        ids, labels, found, start = example["input_ids"], example["labels"], [], 0
        for place in example[ANSWERS]:
            text = tokenizer.decode(ids[start : place + 1])
            found += [Piece(f"{text}/"), *_tag(self.labels[labels[place]])]
            start = place + 1
        return [*found, Piece(tokenizer.decode(ids[start:]))]

    def class_counts(self, table: Any) -> dict[str, int]:
        """How many words have each tag."""
        counts = Counter(tags_in(table[self.label]))
        return {tag: counts[tag] for tag in self.labels}

    def collate(self, tokenizer: Any, examples: Sequence[Example]) -> dict[str, Tensor]:
        own = (ANSWERS, CONTINUES)
        inputs = [{k: v for k, v in inputs_of(e).items() if k not in own} for e in examples]
        batch = dict(tokenizer.pad(inputs, padding_side="right", return_tensors="pt"))
        if "labels" in examples[0]:
            batch["labels"] = padded([example["labels"] for example in examples], IGNORED)
        return batch

    def weight(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The weight of a batch's mean loss within a step: its number of words with a tag."""
        return (batch["labels"] != IGNORED).sum()

    def own(self, values: Tensor, examples: Sequence[Example]) -> Sequence[Tensor]:
        return own_words(values, examples)

    def joined(self, parts: Sequence[Tensor], examples: Sequence[Example]) -> list[Tensor]:
        return joined_rows(parts, examples)

    def predictions(self, outputs: Sequence[Tensor]) -> list[list[str]]:
        return self._tags(row.argmax(-1) for row in outputs)

    def score(self, outputs: Sequence[Tensor], labels: Sequence[Tensor]) -> dict[str, float]:
        return self._metrics(self.predictions(outputs), self._tags(labels))

    def _metrics(self, predicted: Sentences, labels: Sentences) -> dict[str, float]:
        return (entity_metrics if self._marks_entities else tag_accuracy)(predicted, labels)

    def _tags(self, rows: Iterable[Tensor]) -> list[list[str]]:
        return [[self.labels[i] for i in row.tolist()] for row in rows]

    def answers(self, rows: Rows, predictions: list[Any]) -> list[Any]:
        """A list of words has its tags; a text its entities, or all words, by their characters."""
        cells = zip(rows[self.text[0]], predictions, strict=True)
        return [tags if is_list(cell) else self._in_text(str(cell), tags) for cell, tags in cells]

    def _in_text(self, text: str, tags: Sequence[str]) -> list[dict[str, Any]]:
        spans = places(text, self.marks_apart)
        one_each = [(tag, i, i) for i, tag in enumerate(tags)]
        found = entities(tags) if self._marks_entities else one_each
        return [
            {"type": kind, "text": text[start:end], "start": start, "end": end}
            for kind, first, last in found
            for start, end in [(spans[first][0], spans[last][1])]
        ]


def _tag(tag: str) -> tuple[Piece, Piece]:
    """A tag that is learned, and the space behind it."""
    return Piece(tag, learned=True), Piece(" ")
