"""The corpora of data-to-text as entries of the table of tasks."""

from __future__ import annotations

from typing import Any

from lorakit.metrics.data_to_text import names_of
from lorakit.tasks.generation import TOKENS
from lorakit.tasks.nlg.corpora import read_corpus
from lorakit.tasks.nlg.inputs import INPUT, REFERENCES
from lorakit.tasks.nlg.task import E2E, Dart, DataToText, WebNLG
from lorakit.tasks.spec import Columns, TextColumns
from lorakit.tasks.table_task import TableTask

DECODING: dict[str, Any] = {
    "max_new_tokens": 64,
    "num_beams": 10,
    "length_penalty": 0.8,
    "no_repeat_ngram_size": 4,
    "stop_strings": ["\n\n"],
}
"""microsoft/LoRA's settings for its three corpora (the README's; the paper has 0.9 for E2E)."""


def _spec_of(corpus: type[DataToText]) -> TableTask:
    return TableTask(
        corpus.name,
        corpus,
        TextColumns(1, 1, "the input"),
        decoding=DECODING,
        metrics=(*TOKENS, *names_of(corpus.name)),
        reader=lambda source, _: read_corpus(source, corpus.name),
        columns=Columns(corpus.name, (INPUT,), REFERENCES),
    )


CORPUS_TASKS = tuple(_spec_of(corpus) for corpus in (E2E, WebNLG, Dart, DataToText))
