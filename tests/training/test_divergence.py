"""A run that diverges stops at its step; nothing that is written holds NaN or Infinity as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import TrainingArguments

from lorakit import errors
from lorakit.experiments import RENDERERS, compare
from lorakit.runs.directory import read_result
from lorakit.runs.prediction_files import write_predictions
from lorakit.text import to_json
from lorakit.training import divergence, train
from tests.training import tiny

NO_NUMBERS = [math.nan, math.inf, -math.inf]


def silent(text: str) -> None:
    """No log."""


def strict(text: str) -> Any:
    """JSON, without what Python reads beside it."""

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def args(tmp_path) -> TrainingArguments:
    return TrainingArguments(output_dir=str(tmp_path), learning_rate=0.5, use_cpu=True)


TOO_FAST = 4e9
"""Nearly the highest learning rate that a recipe may have."""


@pytest.mark.parametrize(
    ("method", "place"),
    [("lora", "at step 2"), ("full", "at step 2"), ("head", "after step 3")],
)
def test_a_run_that_diverges_stops_at_its_step(method, place, encoder, reviews, tmp_path):
    training = {"learning_rate": TOO_FAST, "warmup_steps": 0}
    with pytest.raises(errors.TrainingError) as caught:
        train(tiny.recipe(encoder, reviews, tmp_path, method=method, training=training), silent)
    assert caught.value.headline.startswith("Training has diverged: the ")
    assert f" {place} is " in caught.value.headline
    assert caught.value.problems[0] == "a lower training.learning_rate (it is 4e+09)"
    assert list(tmp_path.iterdir()) == [], "so that a lower rate may be tried there"


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_last_step_that_diverges_is_no_success(method, encoder, reviews, tmp_path):
    training = {"learning_rate": TOO_FAST, "warmup_steps": 0, "max_steps": 1}
    with pytest.raises(errors.TrainingError, match=r"has diverged: the .* after step 1 is"):
        train(tiny.recipe(encoder, reviews, tmp_path, method=method, training=training), silent)
    assert not (tmp_path / "adapter").exists()
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize("value", [1e30, float("1e400"), math.nan])
@pytest.mark.parametrize("name", ["learning_rate", "epochs", "weight_decay", "max_grad_norm"])
def test_a_setting_that_no_run_survives_is_refused(name, value, encoder, reviews, tmp_path):
    with pytest.raises(errors.ConfigError, match=f"training.{name} is "):
        tiny.recipe(encoder, reviews, tmp_path, training={name: value})


def test_labels_whose_squares_overflow_are_refused_before_the_run(encoder, tmp_path):
    data = tmp_path / "data.csv"
    data.write_text("\n".join(["text,label", *(f"the film,{i}e30" for i in range(40))]))
    recipe = tiny.recipe(encoder, data, tmp_path / "run", data={"task": "regression"})
    with pytest.raises(errors.ConfigError, match=r"'label' has numbers of up to 3.9e\+31 in size"):
        train(recipe, silent)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_loss_or_a_gradient_alone_is_enough(value, args):
    weight = torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    divergence.require_finite_step(torch.tensor(1.0), [weight], 7, args)
    with pytest.raises(errors.TrainingError, match="the loss at step 7 is"):
        divergence.require_finite_step(torch.tensor(value), [weight], 7, args)
    weight.grad[1] = value
    with pytest.raises(errors.TrainingError, match="the norm of the gradients at step 7 is"):
        divergence.require_finite_step(torch.tensor(1.0), [weight], 7, args)


def test_what_to_change_is_what_was_set(tmp_path):
    args = TrainingArguments(output_dir=str(tmp_path), max_grad_norm=0.0, use_cpu=True)
    args.fp16 = True
    with pytest.raises(errors.TrainingError) as caught:
        divergence.require_finite(math.nan, "the loss", args)
    said = " ".join(caught.value.problems)
    assert "training.max_grad_norm such as 1" in said
    assert "training.dtype bf16 or fp32" in said


@pytest.mark.parametrize(("scale", "helps"), [(65536.0, True), (1.0, True), (0.5, False)])
def test_the_scaler_of_fp16_comes_first_while_it_can_help(scale, helps):
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    scaler.scale(torch.ones(()))  # it makes its scale when it is first used
    assert divergence.scaler_can_help(scaler) is helps
    assert not divergence.scaler_can_help(None)


def test_a_step_that_the_scaler_skips_is_no_divergence(encoder, reviews, tmp_path):
    trainer = tiny.trainer_of(tiny.recipe(encoder, reviews, tmp_path, training={"max_steps": 2}))
    compute = trainer.compute_loss

    def overflowing(*args: Any, **kwargs: Any) -> Any:
        return compute(*args, **kwargs) * (math.inf if trainer.state.global_step == 0 else 1)

    trainer.compute_loss = overflowing
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu")
    batch = next(iter(trainer.get_train_dataloader()))
    assert not math.isfinite(trainer.training_step(trainer.model, batch))
    trainer.accelerator.scaler = None
    with pytest.raises(errors.TrainingError, match="at step 1 is"):
        trainer.training_step(trainer.model, batch)


def test_an_evaluation_that_is_not_finite_stops_the_run(encoder, reviews, tmp_path):
    trainer = tiny.trainer_of(tiny.recipe(encoder, reviews, tmp_path))
    with torch.no_grad():
        trainer.model.bert.embeddings.LayerNorm.weight.fill_(math.inf)
    with pytest.raises(errors.TrainingError, match="loss in the evaluation after step 0 is nan"):
        trainer.examine(trainer.train_dataset)


def test_a_log_holds_finite_numbers_only(encoder, reviews, tmp_path):
    trainer = tiny.trainer_of(tiny.recipe(encoder, reviews, tmp_path))
    trainer.log({"loss": 0.5, "grad_norm": math.inf, "learning_rate": 1e-3})
    assert trainer.state.log_history[-1].keys() >= {"loss", "learning_rate"}
    assert "grad_norm" not in trainer.state.log_history[-1]


def test_every_file_of_a_run_is_strict_json(encoder, reviews, tmp_path):
    recipe = tiny.recipe(encoder, reviews, tmp_path, data={"validation": 8})
    train(recipe, silent)
    files = [*tmp_path.rglob("*.json"), *tmp_path.rglob("complete")]
    assert len(files) > 8
    for file in files:
        strict(file.read_text(encoding="utf-8"))
    for line in (tmp_path / "predictions.jsonl").read_text(encoding="utf-8").splitlines():
        strict(line)


def test_a_metric_without_a_number_is_null_and_read_as_such(encoder, reviews, tmp_path):
    recipe = tiny.recipe(encoder, reviews, tmp_path, training={"max_steps": 2})
    result = train(recipe, silent)
    undefined = replace(result, metrics={"loss": math.inf, "accuracy": math.nan})
    text = to_json(undefined.__dict__)
    assert strict(text)["metrics"] == {"loss": None, "accuracy": None}
    (tmp_path / "result.json").write_text(text)
    found = read_result(tmp_path, print)
    assert found is not None
    assert all(math.isnan(value) for value in found.metrics.values())
    assert "nan" in RENDERERS["txt"](compare([str(tmp_path)]))


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_cell_without_a_number_is_null_in_predictions(value, tmp_path: Path):
    table = Dataset.from_dict({"x": [value], "y": [[1.0, value]]})
    write_predictions(tmp_path / "a.jsonl", table, [value])
    content = strict((tmp_path / "a.jsonl").read_text())
    assert content == {"x": None, "y": [1.0, None], "prediction": None}
