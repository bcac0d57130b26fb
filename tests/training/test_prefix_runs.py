"""Runs with virtual tokens: resumed, finished, opened and used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lorakit.checkpoint import read
from lorakit.cli import main
from lorakit.errors import ConfigError
from lorakit.inference.generation import DecodingConfig, generate_texts
from lorakit.inference.prediction import evaluate
from lorakit.inference.session import evaluation_tables, open_session
from lorakit.recipe.data import prepare, split
from lorakit.training import train
from tests.training import tiny
from tests.training.test_resuming import assert_equal_runs, trained

COMPLETING = {"task": "generation", "text": "prompt", "label": "completion", "test": 4}
SETTINGS = {
    "prefix_embedding": {"prefix": 3, "infix": 2},
    "prefix_layer": {"prefix": 3, "reparametrisation": 8},
    "lora_prefix": {"lora": {"r": 2}, "prefix": 2, "where": "layer"},
}


@pytest.fixture(scope="module")
def completions(tmp_path_factory) -> Path:
    return tiny.save_completions(tmp_path_factory.mktemp("data") / "completions.csv", 16)


@pytest.mark.parametrize(
    "method",
    [
        "lora_prefix",
        *(pytest.param(m, marks=pytest.mark.slow) for m in SETTINGS if m != "lora_prefix"),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(method, encoder, reviews, tmp_path):
    settings = {"method": method, method: SETTINGS[method]}
    whole = trained(tiny.recipe(encoder, reviews, tmp_path / "whole", **settings))
    recipe = tiny.recipe(encoder, reviews, tmp_path / "cut", **settings)
    trained(recipe, 8)
    resumed = trained(recipe)
    assert resumed._initial_global_step == 6
    assert_equal_runs(whole, resumed)


@pytest.mark.parametrize("method", SETTINGS)
def test_a_finished_classifier_is_opened_as_it_was_measured(method, encoder, reviews, tmp_path):
    settings = {"method": method, method: SETTINGS[method]}
    result = train(tiny.recipe(encoder, reviews, tmp_path / "run", **settings), lambda text: None)
    session = open_session(str(tmp_path / "run"))
    found = evaluate(session, evaluation_tables(session, None)["test"], "test").metrics
    assert found == pytest.approx(result.metrics, rel=1e-4)
    stored = read(tmp_path / "run" / "adapter")
    assert stored.method == method
    assert stored.method_config["reparametrisation"] is None
    assert not any("table" in name or "inner" in name for name in stored.trained)


@pytest.mark.parametrize("method", SETTINGS)
def test_a_finished_decoder_completes_prompts(
    method, llama, completions, tmp_path, capsys, monkeypatch
):
    output = tmp_path / "run"
    recipe = tiny.recipe(
        llama, completions, output, method=method, data=COMPLETING,
        training={"max_steps": 2, "evaluations": 1}, **{method: SETTINGS[method]},
    )  # fmt: skip
    train(recipe, lambda text: None)
    session = open_session(str(output))
    prompts = ["the film was", "very"]
    for beams in (1, 2):
        decoding = DecodingConfig(5, num_beams=beams)
        together = generate_texts(session, prompts, decoding).texts
        alone = [generate_texts(session, [prompt], decoding).texts[0] for prompt in prompts]
        assert together == alone
    for command in (
        ["evaluate"],
        ["inspect"],
        ["generate", "--prompt", "very", "--max-new-tokens", "5"],
    ):
        assert exit_code(monkeypatch, command[0], output, *command[1:]) == 0
        assert capsys.readouterr().out
    merged = tmp_path / "merged"
    assert exit_code(monkeypatch, "merge", output, "--output", merged) == 1
    assert f"The method {method} has no plain form" in capsys.readouterr().err
    assert not merged.exists()


def exit_code(monkeypatch, *arguments):
    """Of a command."""
    monkeypatch.setattr(sys, "argv", ["lorakit", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code or 0


def test_virtual_tokens_take_positions_from_the_texts(encoder, reviews, tmp_path):
    recipe = tiny.recipe(
        encoder, reviews, tmp_path, method="prefix_embedding",
        data={"task": "classification", "text": "text", "label": "label"},
        prefix_embedding={"prefix": 7, "infix": 2},
    )  # fmt: skip
    _, task = prepare(recipe, split(recipe.data)["train"])
    assert task.max_length == 40 - 9


@pytest.mark.parametrize("method", SETTINGS)
def test_an_infix_and_label_smoothing_are_refused_before_training(
    method, llama, completions, tmp_path
):
    recipe = tiny.recipe(
        llama, completions, tmp_path, method=method, data=COMPLETING,
        training={"label_smoothing": 0.1}, **{method: {**SETTINGS[method], "infix": 2}},
    )  # fmt: skip
    with pytest.raises(
        ConfigError, match=f"smoothing is 0.1 and {method}.infix is 2: .* leave one"
    ):
        tiny.trainer_of(recipe)


def test_label_smoothing_without_an_infix_is_trained(llama, completions, tmp_path):
    recipe = tiny.recipe(
        llama, completions, tmp_path, method="prefix_layer", data=COMPLETING,
        training={"label_smoothing": 0.1, "max_steps": 1, "evaluations": 1},
        prefix_layer={"prefix": 2},
    )  # fmt: skip
    tiny.trainer_of(recipe).train()


@pytest.mark.parametrize("method", SETTINGS)
@pytest.mark.parametrize("prefix", [38, 600])
def test_a_prefix_that_leaves_no_positions_is_named(method, prefix, encoder, reviews, tmp_path):
    recipe = tiny.recipe(
        encoder, reviews, tmp_path, method=method,
        data={"task": "classification", "text": "text", "label": "label"},
        **{method: {**SETTINGS[method], "prefix": prefix, "infix": 0}},
    )  # fmt: skip
    problem = (
        rf"{method}.prefix is {prefix} and {method}.infix is 0: they take {prefix} of the 40 "
        r"positions .* at least 3; set them to 37 or less together"
    )
    with pytest.raises(ConfigError, match=problem):
        prepare(recipe, split(recipe.data)["train"])


def test_virtual_tokens_beside_lora_can_have_a_learning_rate_of_their_own(
    encoder, reviews, tmp_path
):
    recipe = tiny.recipe(
        encoder, reviews, tmp_path / "run", method="lora_prefix",
        lora_prefix={"lora": {"r": 2}, "prefix": 2},
        training={"learning_rate_pattern": {"prefix": 0.3}, "schedule": "constant"},
    )  # fmt: skip
    trainer = tiny.trainer_of(recipe)
    trainer.create_optimizer()
    groups = trainer.optimizer.param_groups
    rates = {group["lr"]: sum(p.numel() for p in group["params"]) for group in groups}
    assert rates[0.3] == 2 * 16
    assert set(rates) == {0.3, 0.02}
