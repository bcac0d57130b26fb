"""The data-to-text demo, on a tiny model and without the network."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from demo import e2e
from demo.commands import data_to_text
from demo.generate import before_and_after
from lorakit import training
from lorakit.recipe.catalogue import recipe_file
from lorakit.recipe.schema import from_mapping
from lorakit.recipe.yaml_file import load_recipe, with_settings, with_values
from lorakit.tasks.nlg.corpora import read_corpus
from tests.training.tiny_gpt2 import save_e2e, save_gpt2


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """E2E's files in small, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    save_e2e(tmp_path / "data" / "trainset.csv", 30)
    save_e2e(tmp_path / "data" / "testset_w_refs.csv", 8)
    return tmp_path / "data"


def test_the_demo_trains_on_a_part_and_shows_texts_before_and_after(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(e2e, "TRAIN_REFERENCES", 20)
    monkeypatch.setattr(e2e, "TEST_INPUTS", 3)
    train, test = e2e.prepare(str(folder))
    assert sum(map(len, read_corpus(str(train), "e2e")["references"])) == 20
    assert len(read_corpus(str(test), "e2e")) == 3
    base = save_gpt2(tmp_path / "gpt2")
    words = shlex.split(data_to_text(str(base), str(train), str(test), str(tmp_path / "run")))
    options = dict(zip(words[3::2], words[4::2], strict=True))
    settings = [
        value for name, value in zip(words[3::2], words[4::2], strict=True) if name == "--set"
    ]
    mapping = load_recipe(recipe_file(words[2]))
    named = {
        "base": options["--base"],
        "data.train": options["--data"],
        "output": options["--output"],
    }
    small = ["decoding.max_new_tokens=6", "data.max_length=100"]
    recipe = from_mapping(with_values(with_settings(mapping, [*settings, *small]), named))
    assert training.train(recipe, log=lambda text: None).metrics["bleu"] >= 0
    shown = before_and_after(tmp_path / "run")
    assert shown.count("before:") == shown.count("after:") == 3
    assert "name : " in shown


def test_without_the_data_the_demo_says_where_they_are(tmp_path):
    with pytest.raises(SystemExit, match="then make demo-generate E2E=FOLDER"):
        e2e.prepare(str(tmp_path))
