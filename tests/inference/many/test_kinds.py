"""Every kind of model: what a mixed batch gives each adapter is what it gives alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lorakit.inference import evaluate, generate_rows, many, open_session, predict
from lorakit.recipe.decoding import DecodingConfig
from lorakit.tasks import (
    Classification,
    Generation,
    LanguageModeling,
    MultipleChoice,
    Task,
    TokenClassification,
)
from tests.inference.many.files import save_bert, save_trained, table_of
from tests.inference.many.languages import save_llama
from tests.training.tiny_seq2seq import save_seq2seq

Base = Callable[[Path, Path], Path]
"""(MiniLM, directory) -> the base."""
WORDS = ["Anna", "Weber", "moved", "to", "Rome", "and", "lives", "there"]
LONG = "he sold the house that his father had built and went away for good"


@dataclass(frozen=True)
class Kind:
    base: Base
    tasks: Mapping[str, Task]
    rows: Mapping[str, list[dict[str, Any]]]
    """Of each adapter."""
    config: Mapping[str, Any] = field(
        default_factory=lambda: {"r": 3, "target_modules": "all-linear"}
    )


def bert(minilm: Path, directory: Path) -> Path:
    return save_bert(minilm, directory)


def choices(*names: str) -> MultipleChoice:
    return MultipleChoice(("question", *names), "label", 32)


ASKED = {"question": "he left", "one": "and came back", "two": "it rained", "three": LONG}
KINDS = {
    "tags of words": Kind(
        bert,
        {
            "names": TokenClassification(("words",), "tags", 8, ("O", "B-PER", "I-PER")),
            "verbs": TokenClassification(("words",), "tags", 32, ("N", "V")),
        },
        {
            "names": [{"words": WORDS * 2, "tags": ["B-PER", "I-PER", *["O"] * 6] * 2},
                      {"words": WORDS[:3], "tags": ["B-PER", "I-PER", "O"]}],
            "verbs": [{"words": WORDS[1:], "tags": list("NVNNNVN")}],
        },
    ),
    "choices": Kind(
        bert,
        {"two": choices("one", "two"), "three": choices("one", "two", "three")},
        {"two": [{**ASKED, "label": "one"}, {**ASKED, "label": "1"}],
         "three": [{**ASKED, "label": "2"}]},
    ),
    "texts of a decoder": Kind(
        lambda _, directory: save_llama(directory),
        {
            "short": Generation(("prompt",), "answer", 64),
            "cut": Generation(("prompt",), "answer", 12),
            "whole": LanguageModeling(("prompt",), None, 8),
        },
        {
            "short": [{"prompt": "w1 w2", "answer": "w3"}],
            "cut": [{"prompt": "w5 " * 20, "answer": "w1 w2 w3"}, {"prompt": "w9", "answer": "w4"}],
            "whole": [{"prompt": " ".join(f"w{n}" for n in range(20)), "answer": ""}],
        },
    ),
    "texts of T5": Kind(
        lambda _, directory: save_seq2seq(directory, "t5"),
        {
            "short": Generation(("prompt",), "answer", 32, architecture="encoder_decoder"),
            "long": Generation(("prompt",), "answer", 48, architecture="encoder_decoder"),
        },
        {
            "short": [{"prompt": "w1 w2", "answer": "w3"}],
            "long": [{"prompt": "w5 w6 w7 w8", "answer": "w1 w2 w3"}],
        },
    ),
    "classes of BART": Kind(
        lambda _, directory: save_seq2seq(directory, "bart"),
        {
            "one": Classification(("prompt",), "label", 32, ("a", "b")),
            "two": Classification(("prompt", "answer"), "label", 32, ("a", "b", "c")),
        },
        {
            "one": [{"prompt": "w1 w2", "label": "a"}, {"prompt": "w5", "label": "b"}],
            "two": [{"prompt": "w5 w6 w7 w8", "answer": "w1 w2 w3", "label": "c"}],
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_each_adapter_gives_what_it_gives_alone(kind: str, minilm: Path, tmp_path: Path) -> None:
    about = KINDS[kind]
    base = about.base(minilm, tmp_path / "base")
    sources = {
        name: str(save_trained(base, tmp_path / name, task, seed, **about.config))
        for seed, (name, task) in enumerate(about.tasks.items())
    }
    names: list[str | None] = [name for name, own in about.rows.items() for _ in own]
    table = table_of([row for own in about.rows.values() for row in own])
    sessions = many.open_many(sources)
    metrics = {one.adapter: one for one in many.evaluate(sessions, names, table, "mixed").adapters}
    writes = all(task.generates for task in about.tasks.values())
    limit: dict[str, Any] = {"max_new_tokens": 5, "num_beams": 2}
    found: list[Any] = (
        many.generate_rows(sessions, names, table, "mixed", limit).texts
        if writes
        else many.predict(sessions, names, table, "mixed").values
    )
    for name, own in about.rows.items():
        session, alone = open_session(sources[name]), table_of(own)
        expected = evaluate(session, alone, "own")
        assert metrics[name].metrics == pytest.approx(expected.metrics, rel=1e-4, nan_ok=True)
        assert metrics[name].truncated_rows == expected.truncated_rows
        answers: list[Any] = (
            generate_rows(session, alone, "own", DecodingConfig(**limit)).texts
            if writes
            else predict(session, alone, "own").values
        )
        assert [v for v, who in zip(found, names, strict=True) if who == name] == answers
