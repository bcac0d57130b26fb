"""A method from outside of lorakit works everywhere after one call of `register`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

import lorakit as lora
from lorakit.cli import main
from lorakit.errors import ConfigError, FormatError, MismatchError
from lorakit.methods import METHODS, method_of, register
from lorakit.recipe.schema import Recipe, from_mapping
from lorakit.recipe.yaml_file import load_recipe
from lorakit.training import train
from tests.methods.toys import Norms, NormsConfig, Scales, ScalesConfig
from tests.training import tiny
from tests.training.test_resuming import assert_equal_runs, trained

CONFIGS = {"norms": NormsConfig(biases=True), "scales": ScalesConfig(target="output.dense")}
BOTH = pytest.mark.parametrize("name", CONFIGS)


@pytest.fixture(scope="module", autouse=True)
def toys() -> Iterator[None]:
    register(Norms())
    register(Scales())
    yield
    for name in CONFIGS:
        del METHODS[name]


def recipe(name: str, base: Path, data: Path, output: Path, **training: Any) -> Recipe:
    plain = tiny.recipe(base, data, output, training={"learning_rate": 0.05, **training})
    return replace(plain, method=name, settings={name: CONFIGS[name]})


@pytest.fixture(scope="module")
def runs(encoder, reviews, tmp_path_factory) -> Path:
    """A finished run of each, by name."""
    folder = tmp_path_factory.mktemp("runs")
    for name in CONFIGS:
        train(recipe(name, encoder, reviews, folder / name), lambda text: None)
    return folder


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["lorakit", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def classifier(base: Path, labels: int = 2) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(base, num_labels=labels).eval()


@BOTH
def test_a_run_trains_what_the_method_says(name, runs):
    stored = load_file(runs / name / "adapter/trained.safetensors")
    result = json.loads((runs / name / "result.json").read_text(encoding="utf-8"))
    assert result["method"] == name
    assert result["trainable_parameters"] == sum(tensor.numel() for tensor in stored.values())
    own = {"norms": ".LayerNorm.", "scales": ".output.dense.toy.factor"}[name]
    assert any(own in key for key in stored)
    assert "classifier.weight" in stored
    written = load_recipe(runs / name / "recipe.yaml")
    assert from_mapping(written).method_config == CONFIGS[name]


@BOTH
def test_a_killed_run_continues_to_the_same_weights(name, encoder, reviews, tmp_path):
    whole = trained(recipe(name, encoder, reviews, tmp_path / "whole"))
    cut = recipe(name, encoder, reviews, tmp_path / "cut")
    trained(cut, 8)
    assert_equal_runs(whole, trained(cut))


@BOTH
def test_what_it_saved_loads_onto_a_fresh_base(name, runs, encoder):
    model = classifier(encoder)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    report = lora.load_adapter(model, runs / name / "adapter")
    assert report.base_verified
    assert method_of(model) is METHODS[name]
    for key, value in load_file(runs / name / "adapter/trained.safetensors").items():
        assert torch.equal(model.state_dict()[key], value), key
    METHODS[name].undo(model)
    tiny.assert_same(dict(model.named_parameters()), before)


@BOTH
def test_another_head_is_refused_with_everything_that_is_wrong(name, runs, encoder, tmp_path):
    model = classifier(encoder, labels=3)
    model.dropout, model.extra = model._modules.pop("dropout"), torch.nn.LayerNorm(4)
    model.extra.output = torch.nn.ModuleDict({"dense": torch.nn.Linear(1, 1)})
    names = [name for name, _ in model.named_parameters()]
    with pytest.raises(MismatchError) as caught:
        lora.load_adapter(model, runs / name / "adapter")
    text = str(caught.value)
    assert "classifier.weight has a size mismatch: expected (3, 16), got (2, 16)" in text
    assert "classifier.bias has a size mismatch: expected (3,), got (2,)" in text
    assert "extra." in text
    assert [name for name, _ in model.named_parameters()] == names
    assert method_of(model) is None


@BOTH
def test_the_commands_know_it(name, runs, reviews, monkeypatch, capsys, tmp_path):
    adapter = runs / name / "adapter"
    assert command(monkeypatch, "inspect", adapter) == 0
    shown = capsys.readouterr().out
    assert name in shown
    assert "modules_to_save" in shown
    assert command(monkeypatch, "compare", runs / name) == 0
    assert METHODS[name].title in capsys.readouterr().out
    output = tmp_path / "out.jsonl"
    arguments = ("predict", runs / name, "--data", reviews, "--output", output)
    assert command(monkeypatch, *arguments) == 0
    lines = output.read_text(encoding="utf-8").splitlines()
    predicted = {row["text"]: row["prediction"] for row in map(json.loads, lines)}
    lines = (runs / name / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    for row in map(json.loads, lines):
        assert predicted[row["text"]] == row["prediction"]


def test_merge_writes_the_plain_model_or_says_that_there_is_none(
    runs, encoder, monkeypatch, capsys, tmp_path
):
    merge = ("merge", runs / "norms/adapter", "--base", encoder, "--output", tmp_path / "merged")
    assert command(monkeypatch, *merge) == 0
    model = classifier(encoder)
    lora.load_adapter(model, runs / "norms/adapter")
    tiny.assert_same(model.state_dict(), classifier(tmp_path / "merged").state_dict())
    capsys.readouterr()
    merge = ("merge", runs / "scales/adapter", "--base", encoder, "--output", tmp_path / "none")
    assert command(monkeypatch, *merge) == 1
    assert "scales has no plain form" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_warm_start_needs_a_method_with_adapters(runs, encoder, reviews, tmp_path):
    plain = recipe("norms", encoder, reviews, tmp_path)
    with pytest.raises(ConfigError, match=r"init_adapter initializes .*, and method is norms"):
        replace(plain, init_adapter="runs/other")
    warm = tiny.recipe(encoder, reviews, tmp_path, init_adapter=str(runs / "norms"))
    with pytest.raises(
        FormatError,
        match="with the method norms, and init_adapter takes the adapters of a run of lora",
    ):
        train(warm, lambda text: None)


def test_a_method_that_finds_nothing_is_refused_and_gives_the_directory_back(
    encoder, reviews, tmp_path
):
    lost = replace(
        recipe("scales", encoder, reviews, tmp_path / "run"),
        settings={"scales": ScalesConfig(target="nowhere")},
    )
    with pytest.raises(lora.errors.TargetError, match="'nowhere' matches no layer"):
        train(lost, lambda text: None)
    assert not (tmp_path / "run").exists()


def test_a_head_that_would_stay_random_is_refused(encoder):
    model = classifier(encoder)
    with pytest.raises(lora.errors.TargetError) as caught:
        METHODS["norms"].apply(model, NormsConfig())
    assert "classifier.weight is newly initialized, since the checkpoint lacks it" in str(
        caught.value
    )
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", [*CONFIGS, "head"])
def test_a_base_in_bf16_is_known_again_in_float32(name, encoder, reviews, tmp_path):
    known = {**CONFIGS, "head": METHODS["head"].default_config()}
    training = {"dtype": "bf16", "max_steps": 2}
    plain = tiny.recipe(encoder, reviews, tmp_path, training=training)
    train(replace(plain, method=name, settings={name: known[name]}), lambda text: None)
    stored = load_file(tmp_path / "adapter/trained.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    assert lora.load_adapter(classifier(encoder), tmp_path / "adapter").base_verified


def test_activation_checkpointing_changes_nothing(encoder, reviews, tmp_path):
    """The embeddings are frozen, so no input of a checkpointed block needs a gradient by itself."""
    for name, wanted in (("on", True), ("off", False)):
        training = {"gradient_checkpointing": wanted, "max_steps": 3}
        train(recipe("scales", encoder, reviews, tmp_path / name, **training), lambda text: None)
    one, other = (load_file(tmp_path / n / "adapter/trained.safetensors") for n in ("on", "off"))
    tiny.assert_same(one, other, rtol=0, atol=1e-5)
