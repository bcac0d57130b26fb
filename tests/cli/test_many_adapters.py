"""`--adapter NAME=PATH`, several times: one base, one file, each row by its adapter."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.inference.many.files import ROWS, save_all, save_bert, write_rows


@pytest.fixture(scope="module")
def sources(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    base = save_bert(minilm, tmp_path_factory.mktemp("bert"))
    return save_all(base, tmp_path_factory.mktemp("adapters"))


def named(sources: dict[str, str]) -> list[str]:
    """The options for all of them."""
    return [part for name, path in sources.items() for part in ("--adapter", f"{name}={path}")]


def rows_in(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_predict_answers_each_row_by_its_adapter(run, sources, tmp_path):
    data, output = write_rows(tmp_path / "mixed.jsonl"), tmp_path / "out.jsonl"
    code, out, err = run("predict", *named(sources), "--data", data, "--output", output)
    assert code == 0, err
    assert out == f"{output}: 9 rows with their predictions\n"
    found = rows_in(output)
    assert [(row["adapter"], row["label"]) for row in found] == [
        (row["adapter"], row["label"]) for row in ROWS
    ]
    for name, path in sources.items():
        own = [row for row in ROWS if row["adapter"] == name]
        single = tmp_path / f"{name}.jsonl"
        code, _, err = run(
            "predict", path, "--data", write_rows(tmp_path / "own.jsonl", own), "--output", single
        )
        assert code == 0, err
        together = [row["prediction"] for row in found if row["adapter"] == name]
        expected = [row["prediction"] for row in rows_in(single)]
        assert together == (pytest.approx(expected, rel=1e-5) if name == "stars" else expected)
