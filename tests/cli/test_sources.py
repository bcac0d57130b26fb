"""What a name stands for: a run, an adapter or data; a run is used as its adapter on its base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from lorakit.recipe.schema import from_mapping
from lorakit.training import train
from tests.cli.files import write_csv

ROWS = [("it was a joy", "good"), ("it was a bore", "bad")] * 6


@pytest.fixture(scope="module")
def trained(small_bert, tmp_path_factory) -> Path:
    """A finished run of one step."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_csv(folder / "reviews.csv", [("text", "label"), *ROWS])
    recipe = {"base": str(small_bert), "data": {"train": str(data)}, "output": str(folder / "run"),
              "training": {"max_steps": 1}}  # fmt: skip
    train(from_mapping(recipe), log=lambda text: None)
    return folder / "run"


def test_inspect_of_a_run_is_that_of_its_adapter(run, trained, small_bert):
    of_run, of_adapter = (
        run("inspect", trained, "--json"),
        run("inspect", trained / "adapter", "--json"),
    )
    assert of_run[0] == 0
    assert json.loads(of_run[1]) == json.loads(of_adapter[1])
    code, out, _ = run("inspect", trained, "--base", small_bert)
    assert (code, f"fits             {small_bert}" in out) == (0, True)


def test_merge_takes_a_run_with_the_base_of_its_recipe(run, trained, small_bert, tmp_path):
    code, out, err = run("merge", trained, "--output", tmp_path / "merged")
    assert (code, err) == (0, "")
    assert f"base: {small_bert}" in out
    assert run("merge", trained / "adapter", "--output", tmp_path / "other")[0] == 0
    one, other = (
        AutoModelForSequenceClassification.from_pretrained(tmp_path / name).state_dict()
        for name in ("merged", "other")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_merge_of_a_run_moves_to_another_base(run, trained, small_bert, tmp_path):
    moved = shutil.copytree(small_bert, tmp_path / "moved")
    code, out, _ = run("merge", trained, "--base", moved, "--output", tmp_path / "merged")
    assert (code, f"base: {moved}" in out) == (0, True)


@pytest.mark.parametrize("command", ["inspect", "merge"])
def test_a_run_without_its_adapter_is_refused(run, trained, tmp_path, command):
    unfinished = tmp_path / "run"
    unfinished.mkdir()
    shutil.copy(trained / "recipe.yaml", unfinished)
    output = ("--output", tmp_path / "merged") if command == "merge" else ()
    code, _, err = run(command, unfinished, *output)
    assert code == 1
    assert "is an unfinished run, which has no adapter yet" in err


@pytest.mark.parametrize("command", ["inspect", "merge"])
def test_a_run_has_no_revision(run, trained, tmp_path, command):
    output = ("--output", tmp_path / "merged") if command == "merge" else ()
    code, _, err = run(command, trained, "--revision", "main", *output)
    assert (code, "is for an adapter on the Hub" in err) == (1, True)


def test_a_folder_of_rows_is_data(run, tmp_path):
    write_csv(tmp_path / "train.csv", [("text", "label"), *ROWS])
    code, out, err = run("inspect", tmp_path)
    assert (code, err) == (0, "")
    assert f"{tmp_path} (CSV)" in out
    assert "-> [[good]]" in out


@pytest.mark.parametrize("name", ["notes.md", "folder", "model"])
def test_what_is_neither_adapter_nor_data_is_refused_with_both(run, small_bert, tmp_path, name):
    path = tmp_path / name
    if name == "model":
        shutil.copytree(small_bert, path)
    elif path.suffix:
        path.write_text("# Notes", encoding="utf-8")
    else:
        path.mkdir()
    code, _, err = run("inspect", path)
    assert code == 1
    assert "is neither an adapter nor data: it must be a run, an adapter in a format of" in err
    assert "a file that ends in .csv, .tsv, .jsonl, .json," in err


def test_a_file_of_an_adapter_is_no_data(run, trained):
    code, _, err = run("inspect", trained / "adapter" / "adapter_config.json")
    assert (code, "is neither an adapter nor data" in err) == (1, True)


@pytest.mark.parametrize(
    ("name", "said"),
    [("absent.csv", "absent.csv does not exist"), ("absent", "No adapter found at")],
)
def test_what_is_not_there_is_said(run, tmp_path, name, said):
    code, _, err = run("inspect", tmp_path / name)
    assert (code, said in err) == (1, True)


def test_options_of_adapters_are_refused_for_data(run, tmp_path):
    data = write_csv(tmp_path / "data.csv", [("text", "label"), *ROWS])
    code, _, err = run("inspect", data, "--lora-alpha", "16")
    assert (code, "are for adapters, and" in err) == (1, True)
