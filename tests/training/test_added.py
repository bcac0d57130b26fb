"""A task and a loss from outside of the package: registered, trained, evaluated and used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from lorakit.errors import ConfigError
from lorakit.inference.prediction import evaluate_tables, predict
from lorakit.inference.session import LoadOptions, evaluation_tables, open_session
from lorakit.losses import LOSSES, Loss, LossConfig, register
from lorakit.losses.augmentations import Inputs, View
from lorakit.losses.divergences import task_loss
from lorakit.recipe.schema import from_mapping
from lorakit.tables.reading import read_table
from lorakit.tasks import TASKS, Classification, TableTask
from lorakit.tasks import register as register_task
from lorakit.tasks.task_file import load_task
from lorakit.training import train
from tests.training import tiny


@dataclass(frozen=True)
class Tone(Classification):
    """Classification of texts behind an opening, with a file of the wrong answers."""

    opening: str = "the film was"

    name: ClassVar[str] = "tone"

    def encode(self, tokenizer: Any, rows: Any) -> dict[str, list[Any]]:
        (column,) = self.text
        opened = [f"{self.opening} {text}" for text in rows[column]]
        return super().encode(tokenizer, {**rows, column: opened})

    def report(
        self, table: Any, predictions: Sequence[Any], output: Path, log: Callable[[str], None]
    ) -> dict[str, float]:
        pairs = zip(table, predictions, strict=True)
        wrong = [row[self.text[0]] for row, answer in pairs if row[self.label] != answer]
        (output / "wrong.txt").write_text("\n".join(wrong), encoding="utf-8")
        return {"wrong": float(len(wrong))}


@pytest.fixture
def tone() -> Iterator[None]:
    register_task(TableTask("tone", Tone))
    yield
    del TASKS["tone"]


def disagreement(z1: torch.Tensor, z2: torch.Tensor, y: torch.Tensor, weight: float) -> Any:
    return task_loss(z1, y) + weight * (z1 - z2).abs().mean()


def last_token_hidden(tokenizer: Any) -> View:
    """Everything but the last token, which is [SEP], or padding."""

    def view(inputs: Inputs, ratio: float) -> tuple[Inputs, None]:
        ids = inputs["input_ids"].clone()
        ids[:, -1] = tokenizer.unk_token_id
        return {**inputs, "input_ids": ids}, None

    return view


@pytest.fixture
def disagree() -> Iterator[None]:
    register(Loss("disagree", disagreement, {"weight": 0.5}, view=last_token_hidden))
    yield
    del LOSSES["disagree"]


@pytest.mark.usefixtures("tone")
def test_an_added_task_trains_and_its_run_is_evaluated_and_predicts(encoder, reviews, tmp_path):
    recipe = tiny.recipe(encoder, reviews, tmp_path / "run", data={"task": "tone"})
    said: list[str] = []
    result = train(recipe, said.append)
    assert result.task == "tone"
    assert result.baseline is not None
    wrong = (tmp_path / "run/wrong.txt").read_text(encoding="utf-8")
    assert result.metrics["wrong"] == len(wrong.splitlines())
    assert "guessed from" in said[0], "its columns are guessed as those of a classification"

    adapter = tmp_path / "run" / "adapter"
    task = load_task(adapter)
    assert task == Tone(("text",), "label", 40, ("neg", "pos"))
    saved = open_session(str(tmp_path / "run"))
    assert (saved.task, saved.spec) == (task, TASKS["tone"])
    report = evaluate_tables(saved, evaluation_tables(saved, None), "its test rows")
    metrics = {name: value for name, value in result.metrics.items() if name != "wrong"}
    assert report.metrics == pytest.approx(metrics, abs=1e-4)

    rows = read_table(str(reviews))
    alone = open_session(str(adapter))
    assert predict(alone, rows, "rows").values == predict(saved, rows, "rows").values
    with pytest.raises(ConfigError, match="was trained for tone, not for classification"):
        open_session(str(adapter), LoadOptions(task="classification"))


@pytest.mark.usefixtures("tone")
def test_an_added_task_takes_the_logits_of_an_adapter_alone(encoder, reviews, tmp_path):
    train(tiny.recipe(encoder, reviews, tmp_path / "run", data={"task": "tone"}), lambda text: None)
    adapter = tmp_path / "run" / "adapter"
    (adapter / "lorakit_task.json").unlink()
    asked = LoadOptions(task="tone", text=("text",), labels=("neg", "pos"))
    saved = open_session(str(adapter), asked)
    assert saved.task == Tone(("text",), None, 40, ("neg", "pos"))


@pytest.mark.usefixtures("disagree")
def test_an_added_loss_is_what_a_run_minimises(encoder, reviews, tmp_path):
    loss = {"kind": "disagree", "weight": 2.0}
    still = {"lora_dropout": 0.0, "init_lora_weights": False}
    recipe = tiny.recipe(encoder, reviews, tmp_path / "run", loss=loss, lora=still)
    trainer = tiny.trainer_of(recipe)
    trainer.model.eval()
    batch = trainer._collate([trainer.train_dataset[i] for i in range(6)])
    found = trainer.compute_loss(trainer.model, dict(batch))
    labels, ids = batch.pop("labels"), batch["input_ids"].clone()
    ids[:, -1] = trainer.tokenizer.unk_token_id
    z1 = trainer.model(**batch).logits
    z2 = trainer.model(**{**batch, "input_ids": ids}).logits
    torch.testing.assert_close(found, disagreement(z1, z2, labels, 2.0))
    result = train(replace(recipe, output=str(tmp_path / "whole")), lambda text: None)
    assert (result.loss, result.steps) == ("disagree", 12)


@pytest.mark.usefixtures("disagree")
def test_an_added_loss_has_its_defaults_and_its_errors():
    assert LossConfig("disagree").weight == 0.5
    with pytest.raises(ConfigError, match="ratio is set, and kind disagree has no such setting"):
        LossConfig("disagree", ratio=0.2)
    mapping = {"base": "b", "output": "o", "data": {"train": "t", "task": "chat"}}
    with pytest.raises(ConfigError, match=r"kind is disagree, which .* the task chat has none"):
        from_mapping({**mapping, "loss": {"kind": "disagree"}})
    with pytest.raises(ConfigError, match=r"one of plain.*, disagree \(did you mean 'disagree'"):
        from_mapping({**mapping, "loss": {"kind": "disagre"}})


@pytest.mark.parametrize("name", ["plain", "rdrop"])
def test_a_taken_name_of_a_loss_is_refused(name):
    before = dict(LOSSES)
    with pytest.raises(ConfigError, match=f"a loss '{name}' is registered already"):
        register(Loss(name, disagreement, {"weight": 1.0}))
    assert before == LOSSES


def test_a_loss_with_a_setting_that_no_recipe_has_is_refused():
    with pytest.raises(ConfigError, match=r"a recipe has the weights weight and .*, and not 'w'"):
        Loss("other", disagreement, {"w": 1.0})


def test_a_loss_that_edits_embeddings_has_to_say_so(encoder, reviews, tmp_path):
    def view(inputs: Inputs, ratio: float) -> tuple[Inputs, Any]:
        return inputs, torch.zeros_like

    loss = Loss("silent", disagreement, {"weight": 1.0}, view=lambda tokenizer: view)
    register(loss)
    try:
        trainer = tiny.trainer_of(tiny.recipe(encoder, reviews, tmp_path, loss={"kind": "silent"}))
        batch = trainer._collate([trainer.train_dataset[0]])
        with pytest.raises(ConfigError, match="edits_embeddings=True"):
            trainer.compute_loss(trainer.model, batch)
    finally:
        del LOSSES["silent"]
