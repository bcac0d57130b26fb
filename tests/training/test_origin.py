"""A run goes on with what it was begun with; everything else is noticed and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from lorakit import errors
from lorakit.recipe.schema import Recipe
from lorakit.runs.origin import ORIGIN, run_name
from lorakit.training import train
from tests.training import tiny


def silent(text: str) -> None:
    """No log."""


def recipe_in(place: Path) -> Recipe:
    return tiny.recipe(place / "base", place / "reviews.csv", place / "run")


@pytest.fixture(scope="module")
def template(encoder, reviews, tmp_path_factory) -> tuple[Path, Path]:
    """A place with base, data and a run that was interrupted after step 3, and a copy of it."""
    place = tmp_path_factory.mktemp("begun") / "place"
    model = AutoModelForSequenceClassification.from_pretrained(encoder)  # a base with a head
    model.save_pretrained(place / "base")
    tiny.tokenizer().save_pretrained(place / "base")
    shutil.copy(reviews, place / "reviews.csv")
    tiny.interrupt(recipe_in(place), 4)
    copy = place.with_name("copy")
    shutil.copytree(place, copy)
    return place, copy


@pytest.fixture
def begun(template: tuple[Path, Path]) -> Path:
    """The place as it was when the run was interrupted."""
    place, copy = template
    shutil.rmtree(place)
    shutil.copytree(copy, place)
    return place


def lines(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    """A change of the table's rows."""

    def changed(place: Path) -> None:
        head, *rows = (place / "reviews.csv").read_text().splitlines()
        (place / "reviews.csv").write_text("\n".join([head, *change(rows), ""]))

    return changed


def with_label(old: str, new: str) -> Callable[[str], str]:
    return lambda row: row[: -len(old)] + new if row.endswith(f",{old}") else row


def flipped(row: str) -> str:
    other = {"pos": "neg", "neg": "pos"}
    return row[:-3] + other[row[-3:]]


def weight(name: str) -> Callable[[Path], None]:
    """One element of a tensor of the base."""

    def changed(place: Path) -> None:
        file = place / "base/model.safetensors"
        state = load_file(file)
        state[name].view(-1)[-1] += 1
        save_file(state, file, metadata={"format": "pt"})

    return changed


def base_file(name: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def changed(place: Path) -> None:
        file = place / "base" / name
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return changed


def swap_words(tokenizer: Any) -> None:
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["actor"], vocabulary["it"] = vocabulary["it"], vocabulary["actor"]


CHANGES = {
    "labels flipped": (lines(lambda rows: [*map(flipped, rows)]), "train: column label"),
    "labels renamed": (
        lines(lambda rows: [*map(with_label("neg", "bad"), rows)]),
        'labels (task) was ["neg", "pos"] and is ["bad", "pos"]',
    ),
    "half the rows gone": (lines(lambda rows: rows[:30]), "train: rows (data) was 48 and is 18"),
    "one word of one row": (
        lines(lambda rows: [*rows[:-1], rows[-1].replace(",", " plot,")]),
        "column text (data) has changed",
    ),
    "other order": (lines(lambda rows: rows[::-1]), "train: column text (data) has changed"),
    "tokenizer": (base_file("tokenizer.json", swap_words), "vocabulary (tokenizer) has changed"),
    "how it splits": (
        base_file("tokenizer.json", lambda t: t.update(normalizer={"type": "Lowercase"})
                  or t.update(post_processor=None)),
        "train: tokens and labels (data) has changed",
    ),
    "embeddings": (
        weight("bert.embeddings.word_embeddings.weight"),
        "bert.embeddings.word_embeddings.weight (base weights) has changed",
    ),
    "head": (weight("classifier.weight"), "classifier.weight (base weights) has changed"),
    "one weight": (
        weight("bert.encoder.layer.1.output.dense.weight"),
        "bert.encoder.layer.1.output.dense.weight (base weights) has changed",
    ),
    "activation": (
        base_file("config.json", lambda config: config.update(hidden_act="relu")),
        'hidden_act (config) was "gelu" and is "relu"',
    ),
    "dropout": (
        base_file("config.json", lambda config: config.update(hidden_dropout_prob=0.3)),
        "hidden_dropout_prob (config) was 0.1 and is 0.3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_what_has_changed_is_refused_by_name(kind, begun):
    change, said = CHANGES[kind]
    change(begun)
    before = {path: path.read_bytes() for path in (begun / "run").rglob("*") if path.is_file()}
    with pytest.raises(errors.StateError) as caught:
        train(recipe_in(begun), silent)
    assert any(said in problem for problem in caught.value.problems), caught.value
    after = {path: path.read_bytes() for path in (begun / "run").rglob("*") if path.is_file()}
    assert after == before


def test_a_base_that_is_another_one_altogether_is_told_by_layers(begun):
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(begun / "base")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    model.save_pretrained(begun / "base")
    with pytest.raises(errors.StateError) as caught:
        train(recipe_in(begun), silent)
    assert len(caught.value.problems) < 30
    assert any("layer.{0,1}." in problem for problem in caught.value.problems)


def unread_column(place: Path) -> None:
    rows = (place / "reviews.csv").read_text().splitlines()
    numbered = [f"{row},{i}" for i, row in enumerate(rows)]
    (place / "reviews.csv").write_text("\n".join([*numbered, ""]))


def saved_again(place: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(place / "base")
    model.save_pretrained(place / "base", max_shard_size="20kB")


@pytest.mark.parametrize("change", [unread_column, saved_again])
def test_what_changes_nothing_does_not_matter(change, begun, template):
    change(begun)
    said: list[str] = []
    train(recipe_in(begun), said.append)
    assert any(line.startswith("resuming from") for line in said)


def test_before_the_first_checkpoint_nothing_has_begun(begun):
    shutil.rmtree(begun / "run/checkpoints")
    CHANGES["labels flipped"][0](begun)
    assert train(recipe_in(begun), silent).steps == 12


@pytest.mark.parametrize("text", [None, "", "[]", '{"run": "a", "facts": 1}', '{"run": "a"}'])
def test_an_origin_that_cannot_be_read_is_told(text, begun):
    if text is None:
        (begun / "run" / ORIGIN).unlink()
    else:
        (begun / "run" / ORIGIN).write_text(text)
    with pytest.raises(errors.StateError, match=r"origin.json cannot be read, so it is not known"):
        train(recipe_in(begun), silent)


def test_a_checkpoint_of_another_run_is_not_used(begun, tmp_path):
    """Of the same data and base, and of another recipe."""
    other = tiny.recipe(
        begun / "base", begun / "reviews.csv", tmp_path, training={"learning_rate": 0.5}
    )
    tiny.interrupt(other, 7)
    shutil.copytree(tmp_path / "checkpoints/checkpoint-6", begun / "run/checkpoints/checkpoint-6")
    said: list[str] = []
    train(recipe_in(begun), said.append)
    assert any("checkpoint-6 is not used: checkpoint-6 is of another run" in s for s in said)
    assert any("resuming from" in line and "checkpoint-3" in line for line in said)


def test_an_origin_without_the_name_of_its_run_is_told_in_words(tmp_path):
    (tmp_path / ORIGIN).parent.mkdir(exist_ok=True)
    (tmp_path / ORIGIN).write_text('{"facts": {}}')
    with pytest.raises(errors.StateError, match="it must be a mapping with run, a string, and "):
        run_name(tmp_path)
