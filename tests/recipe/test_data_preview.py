"""Data before a run: how they were read, what they hold, how long they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorakit.errors import FormatError
from lorakit.recipe.data_preview import lengths, preview_source
from tests.training import tiny


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    return tiny.save_reviews(tmp_path / "reviews.csv", rows=8)


def test_a_file_is_previewed_without_a_model(reviews: Path) -> None:
    found = preview_source(str(reviews))
    assert (found.read_as, found.rows) == ("CSV", {"the file": 8})
    assert (found.task, found.text, found.label) == ("classification", ("text",), "label")
    assert found.classes == {"neg": 4, "pos": 4}
    assert [pieces[-1].text for pieces in found.examples] == ["pos", "neg", "pos"]
    assert (found.lengths.unit, found.lengths.examples, found.max_length) == ("characters", 8, None)
    assert "label has 2 different values" in found.notes[0]


def test_a_base_adds_tokens_and_what_is_cut_off(reviews: Path, tmp_path: Path) -> None:
    base = tiny.save_encoder(tmp_path / "base")
    reviews.write_text("text,label\n" + "the film was,pos\n" * 3 + "dull " * 50 + ",neg\n")
    found = preview_source(str(reviews), str(base))
    assert (found.lengths.unit, found.max_length) == ("tokens", 40)
    assert (found.lengths.least, found.lengths.median, found.lengths.most) == (5, 5, 40)
    cut = found.truncated["the file"]
    assert (cut.rows, cut.tokens) == (1, 50 + 2 - 40)
    assert found.examples[0][0].text.startswith("[CLS] the film was [SEP]")
    assert "1 of the 4 rows of the file was truncated" in found.notes[1]


def test_a_separator_that_was_found_is_said(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text;label\na film;pos\na bore;neg\n", encoding="utf-8")
    found = preview_source(str(path))
    assert found.read_as == "CSV, ; between the cells"
    assert "; between the cells" in found.notes[0]
    assert found.classes == {"neg": 1, "pos": 1}


def test_rows_of_which_no_task_can_be_told_are_shown_with_what_to_set(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"one": "a", "two": "b", "three": "c"}\n' * 2, encoding="utf-8")
    found = preview_source(str(path))
    assert (found.task, found.unread) == (None, ("one", "two", "three"))
    assert found.examples[0][0].text == "one: a\ntwo: b\nthree: c"
    assert "set data.task" in found.notes[0]


def test_cells_that_are_bad_do_not_hide_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\na film,pos\n,neg\n", encoding="utf-8")
    found = preview_source(str(path))
    assert "column 'text' is empty: row 2" in found.notes[0]
    assert found.rows == {"the file": 2}


def test_a_number_to_learn_has_a_range(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"text": "a", "score": score} for score in (0.5, 1.5, 4)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = preview_source(str(path))
    assert (found.classes, found.numbers["mean"]) == ({}, 2.0)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"nothing\.csv does not exist"):
        preview_source(str(tmp_path / "nothing.csv"))


@pytest.mark.parametrize("values", [[7], [1, 900], [5] * 9, [0, 3], list(range(50))])
def test_bins_hold_every_length_once(values: list[int]) -> None:
    found = lengths(values, "tokens")
    assert sum(count for *_, count in found.histogram) == found.examples == len(values)
    assert len(found.histogram) <= 10
    for least, most, count in found.histogram:
        assert count == sum(least <= value <= most for value in values)
