"""A run's directory: what it holds, whom it refuses, and what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from lorakit import errors
from lorakit.inference.session import open_session
from lorakit.merging import merge_files
from lorakit.recipe.schema import Recipe
from lorakit.training import arguments, callbacks, train
from tests.training import tiny


def quietly(recipe: Recipe) -> Any:
    return train(recipe, lambda text: None)


def test_a_run_learns(encoder, reviews, tmp_path):
    training = {"epochs": 20, "learning_rate": 0.01}
    quietly(tiny.recipe(encoder, reviews, tmp_path, method="full", training=training))
    log = json.loads((tmp_path / "log.json").read_text(encoding="utf-8"))
    assert log[-1]["loss"] < 0.2 < 0.5 < log[0]["loss"]


def test_a_run_directory_holds_everything(encoder, reviews, tmp_path, capsys):
    said: list[str] = []
    result = train(tiny.recipe(encoder, reviews, tmp_path / "run"), said.append)
    assert result.examples == {"train": 48, "test": 12}
    assert result.steps == 12
    assert set(result.metrics) >= {"loss", "accuracy"}
    assert result.trainable_parameters > 0 < result.adapter_bytes
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {"adapter", "recipe.yaml", "result.json", "curve.png", "log.json"}
    rows = (tmp_path / "run/predictions.jsonl").read_text(encoding="utf-8").splitlines()
    hits = [row["prediction"] == row["label"] for row in map(json.loads, rows)]
    assert sum(hits) / 12 == pytest.approx(result.metrics["accuracy"])
    log = json.loads((tmp_path / "run/log.json").read_text(encoding="utf-8"))
    assert log[-1]["step"] == 12
    assert "guessed" in said[0]
    assert any(line.startswith("step 12 of 12  loss ") for line in said)
    out, err = capsys.readouterr()
    assert (out, err) == ("", ""), "neither dicts nor bars without a terminal"


def test_a_run_with_dora_saves_its_magnitudes(encoder, reviews, tmp_path):
    training = {"max_steps": 4}
    result = quietly(
        tiny.recipe(encoder, reviews, tmp_path, lora={"use_dora": True}, training=training)
    )
    magnitudes = [n for n in tiny.adapter_of(tmp_path) if n.endswith(".lora_magnitude_vector")]
    assert len(magnitudes) > 0
    assert result.steps == 4


def test_a_finished_run_returns_its_result(encoder, reviews, tmp_path):
    recipe = tiny.recipe(encoder, reviews, tmp_path, training={"max_steps": 2})
    first = quietly(recipe)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert quietly(recipe) == first
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


def test_another_recipe_is_refused_with_what_differs(encoder, reviews, tmp_path):
    quietly(tiny.recipe(encoder, reviews, tmp_path, training={"max_steps": 2}))
    other = tiny.recipe(encoder, reviews, tmp_path, training={"max_steps": 2, "seed": 1})
    with pytest.raises(errors.StateError, match="seed is 0 in that run and 1 in this recipe"):
        quietly(other)


def test_a_moved_run_is_the_same_run(encoder, reviews, tmp_path):
    training = {"max_steps": 2}
    first = quietly(tiny.recipe(encoder, reviews, tmp_path / "a", training=training))
    (tmp_path / "a").rename(tmp_path / "b")
    again = quietly(tiny.recipe(encoder, reviews, tmp_path / "b", training=training))
    assert again == replace(first, output=str(tmp_path / "b"))


def test_a_directory_with_other_files_is_refused(encoder, reviews, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(errors.StateError, match="not empty and is not a run directory"):
        quietly(tiny.recipe(encoder, reviews, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_unwritable_output_is_told(encoder, reviews, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.ConfigError, match="cannot be written"):
        quietly(tiny.recipe(encoder, reviews, tmp_path / "file/run"))


def test_a_full_disk_is_told(encoder, reviews, tmp_path, monkeypatch):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(errors.SaveError, match=r"checkpoint-3 could not be written.*No space"):
        quietly(tiny.recipe(encoder, reviews, tmp_path))


def test_ctrl_c_leaves_a_run_that_continues(encoder, reviews, tmp_path, monkeypatch):
    recipe = tiny.recipe(encoder, reviews, tmp_path / "cut")
    step = arguments.LoraTrainer.training_step

    def interrupted(self: Any, *args: Any) -> Any:
        if self.state.global_step == 7:
            raise KeyboardInterrupt
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(arguments.LoraTrainer, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            quietly(recipe)
    said: list[str] = []
    train(recipe, said.append)
    assert any("resuming from" in line and "checkpoint-6" in line for line in said)
    quietly(tiny.recipe(encoder, reviews, tmp_path / "whole"))
    tiny.assert_same(tiny.adapter_of(tmp_path / "cut"), tiny.adapter_of(tmp_path / "whole"))


@pytest.mark.parametrize("method", ["full", "head"])
def test_the_baselines_run(method, encoder, reviews, tmp_path):
    recipe = tiny.recipe(encoder, reviews, tmp_path, method=method, training={"max_steps": 4})
    result = quietly(recipe)
    assert result.method == method
    stored = load_file(tmp_path / "adapter/trained.safetensors")
    assert sum(value.numel() for value in stored.values()) == result.trainable_parameters
    assert ("bert.embeddings.word_embeddings.weight" in stored) == (method == "full")


@pytest.mark.parametrize("method", ["full", "head"])
def test_a_baseline_is_opened_and_becomes_a_plain_model(method, encoder, reviews, tmp_path):
    output = tmp_path / "run"
    quietly(tiny.recipe(encoder, reviews, output, method=method, training={"max_steps": 4}))
    session = open_session(str(output))
    assert session.method == method
    stored = load_file(output / "adapter/trained.safetensors")
    state = session.model.state_dict()
    tiny.assert_same({name: state[name] for name in stored}, stored)
    merged = merge_files(str(output / "adapter"), str(encoder), tmp_path / "merged")
    assert (merged.folded_layers, merged.base_verified) == (0, None if method == "full" else True)
    kind = transformers.AutoModelForSequenceClassification
    tiny.assert_same(kind.from_pretrained(tmp_path / "merged").state_dict(), state)


def test_two_deterministic_runs_are_bit_equal(encoder, reviews, tmp_path):
    for name in ("a", "b"):
        training = {"deterministic": True, "max_steps": 6}
        quietly(tiny.recipe(encoder, reviews, tmp_path / name, training=training))
    tiny.assert_same(tiny.adapter_of(tmp_path / "a"), tiny.adapter_of(tmp_path / "b"))
    assert not torch.are_deterministic_algorithms_enabled()


def test_bf16_trains_the_biases_of_norms(encoder, reviews, tmp_path):
    settings = {"lora": {"bias": "all"}, "training": {"dtype": "bf16", "max_steps": 3}}
    quietly(tiny.recipe(encoder, reviews, tmp_path, **settings))
    assert any("LayerNorm.bias" in name for name in tiny.adapter_of(tmp_path))


def test_bf16_computes_so_and_keeps_float32_weights(encoder, reviews, tmp_path):
    seen: set[torch.dtype] = set()
    recipe = tiny.recipe(encoder, reviews, tmp_path, training={"dtype": "bf16", "max_steps": 3})
    trainer = tiny.trainer_of(recipe)
    layer = trainer.model.get_submodule("bert.encoder.layer.0.attention.self.query")
    layer.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    trainer.train_from(None)
    assert seen == {torch.bfloat16}
    assert {value.dtype for value in tiny.weights(trainer).values()} == {torch.float32}
    frozen = [p for p in trainer.model.parameters() if not p.requires_grad]
    assert {value.dtype for value in frozen} == {torch.bfloat16}
    seen.clear()
    trainer.examine(trainer.train_dataset)
    assert seen == {torch.bfloat16}


@pytest.mark.skipif(torch.accelerator.is_available(), reason="for machines without accelerator")
def test_fp16_needs_an_accelerator(encoder, reviews, tmp_path):
    with pytest.raises(errors.ConfigError, match="fp16 needs an accelerator"):
        quietly(tiny.recipe(encoder, reviews, tmp_path, training={"dtype": "fp16"}))


def test_activation_checkpointing_changes_nothing(encoder, reviews, tmp_path):
    for name, wanted in (("on", True), ("off", False)):
        training = {"gradient_checkpointing": wanted, "max_steps": 3}
        quietly(tiny.recipe(encoder, reviews, tmp_path / name, training=training))
    tiny.assert_same(
        tiny.adapter_of(tmp_path / "on"), tiny.adapter_of(tmp_path / "off"), rtol=0, atol=1e-5
    )


def broken(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run with an adapter that no optimizer gets."""
    create = arguments.LoraTrainer.create_optimizer

    def partly(self: Any, model: Any = None) -> Any:
        optimizer = create(self, model)
        lost = self.model.bert.encoder.layer[1].output.dense.lora_A
        for group in optimizer.param_groups:
            group["params"] = [p for p in group["params"] if p is not lost]
        return optimizer

    monkeypatch.setattr(arguments.LoraTrainer, "create_optimizer", partly)
    quietly(recipe)


def test_a_tensor_that_stands_still_stops_the_run(encoder, reviews, tmp_path, monkeypatch):
    with pytest.raises(errors.TrainingError) as caught:
        broken(tiny.recipe(encoder, reviews, tmp_path), monkeypatch)
    assert "After 3 optimizer steps, 1 of" in caught.value.headline
    (problem,) = caught.value.problems
    assert problem.startswith("bert.encoder.layer.1.output.dense.lora_A: it has a gradient")


def test_check_off_lets_it_run(encoder, reviews, tmp_path, monkeypatch):
    training = {"check": "off", "max_steps": 5}
    broken(tiny.recipe(encoder, reviews, tmp_path, training=training), monkeypatch)


def test_on_a_terminal_a_bar_carries_the_numbers(encoder, reviews, tmp_path, monkeypatch, capsys):
    transformers.logging.enable_progress_bar()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert isinstance(callbacks.progress(print), callbacks.ProgressBar)
    quietly(tiny.recipe(encoder, reviews, tmp_path, training={"max_steps": 3}))
    out, err = capsys.readouterr()
    assert out == ""
    assert "3/3" in err
    assert "loss 0." in err
    assert "{" not in err


@pytest.mark.parametrize(
    ("task", "text", "label", "hidden"),
    [
        ("classification", "prediction", "label", "'prediction'"),
        ("generation", "reference", "label", "'reference'"),
        ("generation", "text", "prediction", "'prediction'"),
    ],
)
def test_a_column_that_predictions_would_hide_is_refused_before_training(
    task, text, label, hidden, encoder, decoder, tmp_path
):
    data = tmp_path / "data.csv"
    lines = [f"{text},{label}", *(f"the film was {w},{w}" for w in ("good", "bad") * 10)]
    data.write_text("\n".join(lines), encoding="utf-8")
    base = encoder if task == "classification" else decoder
    columns = {"task": task, "text": [text], "label": label, "test": 4}
    with pytest.raises(
        errors.ConfigError,
        match=f"has a column {hidden} already, which would be overwritten; rename it",
    ):
        quietly(tiny.recipe(base, data, tmp_path / "run", data=columns))
    assert not (tmp_path / "run").exists()


def test_the_column_that_is_learned_may_be_called_reference(decoder, tmp_path):
    data = tmp_path / "data.csv"
    data.write_text("\n".join(["text,reference", *["the film,was good"] * 16]), encoding="utf-8")
    columns = {"task": "generation", "text": ["text"], "label": "reference", "test": 4}
    quietly(tiny.recipe(decoder, data, tmp_path / "run", data=columns, training={"max_steps": 1}))
    line = (tmp_path / "run/predictions.jsonl").read_text(encoding="utf-8").splitlines()[0]
    assert json.loads(line).keys() == {"text", "reference", "prediction"}
    assert json.loads(line)["reference"] == "was good"
