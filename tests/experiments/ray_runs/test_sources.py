"""What a run takes from this machine: local files by absolute paths, variables without secrets."""

from __future__ import annotations

import os
from pathlib import Path

from lorakit.experiments.ray_runs.sources import local_sources, missing, shared_variables
from lorakit.recipe.schema import Recipe, from_mapping


def recipe(train: object = "t.csv", **changes: object) -> Recipe:
    return from_mapping({"base": "org/name", "data": {"train": train}, "output": "o", **changes})


def test_names_on_the_hub_are_no_local_sources(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").touch()
    assert local_sources(recipe()) == [str(tmp_path / "t.csv")]
    assert local_sources(recipe("org/data:config:train")) == []


def test_base_adapter_and_every_set_are_local_sources(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("base", "adapter", "a.csv", "b.csv", "test.csv", "valid.csv"):
        (tmp_path / name).touch()
    found = local_sources(
        recipe(
            base="base",
            init_adapter="./adapter",
            data={"train": ["a.csv", "b.csv"], "test": "test.csv", "validation": "valid.csv"},
        )
    )
    names = ["base", "adapter", "a.csv", "b.csv", "test.csv", "valid.csv"]
    assert found == [str(tmp_path / name) for name in names]


def test_patterns_and_splits_of_a_directory_are_local_sources(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saved").mkdir()
    (tmp_path / "part-1.csv").touch()
    assert local_sources(recipe("part-*.csv")) == [str(tmp_path / "part-*.csv")]
    assert local_sources(recipe("saved::train")) == [str(tmp_path / "saved::train")]


def test_what_is_not_there_is_missing(tmp_path: Path) -> None:
    there, gone = tmp_path / "t.csv", tmp_path / "*.gone"
    there.touch()
    assert missing([str(there), str(gone)]) == [str(gone)]


def test_variables_are_passed_with_absolute_paths_and_without_tokens(monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"src{os.pathsep}/lib")
    monkeypatch.setenv("HF_HOME", "cache")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_TOKEN", "secret")
    found = shared_variables()
    assert found["PYTHONPATH"] == f"{Path.cwd() / 'src'}{os.pathsep}/lib"
    assert found["HF_HOME"] == str(Path.cwd() / "cache")
    assert found["HF_HUB_OFFLINE"] == "1"
    assert "secret" not in found.values()
