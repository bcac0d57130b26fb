"""Several training files: read as one, set apart file by file, mixed by weight."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lorakit.errors import ConfigError, FormatError
from lorakit.recipe import from_mapping, with_settings
from lorakit.recipe.data import split, with_guesses
from lorakit.recipe.schema import Recipe
from lorakit.recipe.yaml_file import load_recipe, to_yaml


def save(path: Path, begin: int, end: int, names: Sequence[str] = ("text", "label")) -> str:
    rows = [(f"text {i}", "xy"[i % 2], "z")[: len(names)] for i in range(begin, end)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    return str(path)


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    """Files of 40 rows and of 20."""
    return save(tmp_path / "a.csv", 0, 40), save(tmp_path / "b.csv", 40, 60)


def recipe(train: Any, **data: Any) -> Recipe:
    settings = {"learning_rate": 1e-3, "epochs": 1, "total_batch": 8, "early_stopping": 0}
    mapping = {"base": "b", "data": {"train": train, **data}, "output": "o", "training": settings}
    return from_mapping(mapping)


def tables_of(train: Any, lines: list[str] | None = None, **data: Any) -> dict[str, Any]:
    lines = [] if lines is None else lines
    return split(with_guesses(recipe(train, **data), lines.append).data, lines.append)


def test_a_list_is_one_training_set(two: tuple[str, str]) -> None:
    lines: list[str] = []
    tables = tables_of([*two], lines, test=6, validation=6)
    texts = {name: table["text"][:] for name, table in tables.items()}
    assert {text for part in texts.values() for text in part} == {f"text {i}" for i in range(60)}
    for name in ("test", "validation"):
        from_first = sum(int(text.split()[1]) < 40 for text in texts[name])
        assert (from_first, len(texts[name])) == (4, 6)
    a, b = two
    assert lines[-1] == (
        "an epoch sees, but for the rows that are set apart: "
        f"{a} 40 of 40 rows (67%), {b} 20 of 20 rows (33%)"
    )


def test_a_weight_is_how_often_an_epoch_sees_a_row(two: tuple[str, str]) -> None:
    a, b = two
    lines: list[str] = []
    tables = tables_of({a: 0.5, b: 2.5}, lines, test=6)
    seen = Counter(tables["train"]["text"])
    first = [count for text, count in seen.items() if int(text.split()[1]) < 40]
    second = [count for text, count in seen.items() if int(text.split()[1]) >= 40]
    assert first == [1] * 18
    assert Counter(second) == {2: 9, 3: 9}
    assert len(set(tables["test"]["text"]) - set(seen)) == 6
    assert f"{a} 20 of 40 rows (29%), {b} 50 of 20 rows (71%)" in lines[-1]
    again = tables_of({a: 0.5, b: 2.5}, test=6)
    assert again["train"].to_dict() == tables["train"].to_dict()
    other = tables_of({a: 0.5, b: 2.5}, test=6, split_seed=1)
    assert other["train"].to_dict() != tables["train"].to_dict()


def test_one_file_is_split_as_without_a_weight(two: tuple[str, str]) -> None:
    alone = {name: table.to_dict() for name, table in tables_of(two[0]).items()}
    for train in ([two[0]], {two[0]: 1}):
        assert {name: table.to_dict() for name, table in tables_of(train).items()} == alone


def test_a_row_of_two_files_is_not_tested_where_it_is_trained(tmp_path: Path) -> None:
    files = [save(tmp_path / "a.csv", 0, 40), save(tmp_path / "b.csv", 20, 60)]
    lines: list[str] = []
    tables = tables_of(files, lines, test=20, validation=10)
    for name in ("test", "validation"):
        assert not {*tables[name]["text"]} & {*tables["train"]["text"]}
        assert any(line.startswith(f"data.{name} leaves out") for line in lines)


def test_files_of_the_same_rows_have_nothing_to_test(tmp_path: Path) -> None:
    train = [save(tmp_path / "a.csv", 0, 4), str(tmp_path / "b.csv")]
    names, *rows = (tmp_path / "a.csv").read_text().splitlines()
    (tmp_path / "b.csv").write_text("\n".join([names, *rows[::-1]]))
    found = [_outcome(train, seed) for seed in range(20)]
    assert "refused" in found
    assert set(found) <= {"refused", "apart"}


def _outcome(train: Any, seed: int) -> str:
    try:
        tables = tables_of(train, test=2, split_seed=seed)
    except ConfigError as error:
        return "refused" if "also stand in training" in str(error) else str(error)
    shared = {*tables["test"]["text"]} & {*tables["train"]["text"]}
    return "leaked" if shared else "apart"


def test_files_with_other_columns_are_refused_with_what_differs(
    tmp_path: Path, two: tuple[str, str]
) -> None:
    c = save(tmp_path / "c.csv", 60, 70, ("review", "label"))
    with pytest.raises(FormatError, match="different columns") as caught:
        tables_of([*two, c])
    a, b = two
    assert caught.value.problems == (
        f"{a}: text, label (without review)",
        f"{b}: text, label (without review)",
        f"{c}: review, label (without text)",
    )


def test_columns_that_nothing_reads_may_differ_where_the_read_ones_are_named(
    tmp_path: Path, two: tuple[str, str]
) -> None:
    c = save(tmp_path / "c.csv", 60, 70, ("text", "label", "more"))
    tables = tables_of([*two, c], text=["text"], label="label", task="classification")
    assert len(tables["train"]) + len(tables["test"]) == 70
    assert tables["test"].column_names == ["text", "label"]
    with pytest.raises(FormatError, match="different columns"):
        tables_of([*two, c])


def test_columns_that_nothing_reads_stay_where_all_files_have_them(tmp_path: Path) -> None:
    names = ("text", "label", "more")
    files = [save(tmp_path / "a.csv", 0, 10, names), save(tmp_path / "b.csv", 10, 20, names)]
    assert tables_of(files, test=2)["test"].column_names == [*names]


def test_labels_of_other_types_are_the_same_classes(tmp_path: Path) -> None:
    rows = [{"text": f"a{i}", "label": i % 2} for i in range(8)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "b.csv").write_text("text,label\n" + "".join(f"b{i},{i % 2}\n" for i in range(8)))
    tables = tables_of([str(tmp_path / "a.jsonl"), str(tmp_path / "b.csv")], test=2)
    assert set(tables["train"]["label"]) == {0, 1, "0", "1"}


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([], "train is empty"),
        (["a.csv", "a.csv"], "train names a file twice"),
        ({"a.csv": 0}, "train gives a.csv the weight 0"),
        ({"a.csv": -1.5}, "train gives a.csv the weight -1.5"),
        ({"a.csv": "much"}, "train is {'a.csv': 'much'}; it must be a string or a list of strings"),
        (3, "train is 3; it must be"),
    ],
)
def test_what_names_no_files_is_refused(train: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe(train)


def test_weights_that_leave_no_row_are_refused(two: tuple[str, str]) -> None:
    said = r"The weights of data\.train leave no row for training; raise them\."
    with pytest.raises(ConfigError, match=said):
        tables_of({two[0]: 0.01})
    with pytest.raises(ConfigError, match=said):  # of 40 rows one, of the 10 that are left none
        tables_of({two[0]: 0.02}, test=30)


def test_files_and_weights_are_set_and_saved(tmp_path: Path) -> None:
    plain = {"base": "b", "output": "o"}
    listed = from_mapping(with_settings(plain, ["data.train=a.csv,b.csv"]))
    assert listed.data.train == ("a.csv", "b.csv")
    weighted = from_mapping(with_settings(plain, ["data.train={a.csv: 1, b.csv: 0.5}"]))
    assert weighted.data.sources == {"a.csv": 1, "b.csv": 0.5}
    for one in (listed, weighted):
        (tmp_path / "recipe.yaml").write_text(to_yaml(one))
        assert from_mapping(load_recipe(tmp_path / "recipe.yaml")) == one
