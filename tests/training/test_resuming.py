"""A run that was interrupted anywhere ends as one that was not: weights, optimizer, log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from lorakit.recipe.schema import Recipe
from lorakit.runs import checkpoints
from lorakit.training import train
from tests.runs.damage import DAMAGES, stray
from tests.training import tiny


class Killed(Exception):
    """Stands for a kill between two steps."""


class KillAfter(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise Killed


def trained(recipe: Recipe, kill_after: int | None = None) -> Any:
    trainer = tiny.trainer_of(recipe)
    if kill_after is not None:
        trainer.add_callback(KillAfter(kill_after))
    found = checkpoints.newest_whole(Path(recipe.output) / "checkpoints", print)
    try:
        trainer.train_from(found)
    except Killed:
        return found
    return trainer


def log_of(trainer: Any) -> list[dict[str, Any]]:
    return [entry for entry in trainer.state.log_history if "train_runtime" not in entry]


def assert_equal_runs(one: Any, other: Any) -> None:
    tiny.assert_same(tiny.weights(one), tiny.weights(other))
    assert log_of(one) == log_of(other)
    states = [list(t.optimizer.state_dict()["state"].values()) for t in (one, other)]
    for first, second in zip(*states, strict=True):
        tiny.assert_same(first, second)


@pytest.mark.parametrize(
    ("method", "training", "kill"),
    [
        ("lora", {}, 5),  # from step 3, inside the first epoch
        ("lora", {}, 8),  # from step 6, where the first epoch ends
        pytest.param("lora", {}, 11, marks=pytest.mark.slow),  # from step 9, in the second epoch
        pytest.param("lora", {"max_steps": 9}, 7, marks=pytest.mark.slow),
        ("lora", {"loraplus_lr_ratio": 4, "weight_decay_pattern": {"layer.0": 0.5}}, 5),
        ("full", {}, 11),
        ("head", {}, 11),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    method, training, kill, encoder, reviews, tmp_path
):
    settings = {"method": method, "training": training}
    whole = trained(tiny.recipe(encoder, reviews, tmp_path / "whole", **settings))
    recipe = tiny.recipe(encoder, reviews, tmp_path / "cut", **settings)
    trained(recipe, kill)
    resumed = trained(recipe)
    assert resumed._initial_global_step == kill // 3 * 3 if not training else True
    assert_equal_runs(whole, resumed)


@pytest.mark.slow
def test_two_interruptions_in_a_row(encoder, reviews, tmp_path):
    whole = trained(tiny.recipe(encoder, reviews, tmp_path / "whole"))
    recipe = tiny.recipe(encoder, reviews, tmp_path / "cut")
    for kill in (2, 4, 7, 8):
        trained(recipe, kill)
    assert_equal_runs(whole, trained(recipe))


def test_a_log_of_several_steps_is_whole_after_a_resume(encoder, reviews, tmp_path):
    """Checkpoints fall on steps that log, since a resumed mean starts anew."""
    training = {"epochs": 17, "evaluations": 3}
    whole = trained(tiny.recipe(encoder, reviews, tmp_path / "whole", training=training))
    recipe = tiny.recipe(encoder, reviews, tmp_path / "cut", training=training)
    assert whole.args.logging_steps == 2
    trained(recipe, 70)
    assert_equal_runs(whole, trained(recipe))


EARLY = {"early_stopping": 2, "epochs": 6, "evaluations": 12, "learning_rate": 0.5}


@pytest.mark.parametrize("kill", [4, 7, 10])
def test_early_stopping_counts_on_after_a_resume(kill, encoder, reviews, tmp_path):
    settings = {"training": EARLY, "data": {"validation": 10}}
    whole = trained(tiny.recipe(encoder, reviews, tmp_path / "whole", **settings))
    assert whole.state.global_step < whole.state.max_steps, "the test needs a run that stops early"
    recipe = tiny.recipe(encoder, reviews, tmp_path / "cut", **settings)
    trained(recipe, kill)
    resumed = trained(recipe)
    assert resumed.state.global_step == whole.state.global_step
    assert log_of(resumed) == log_of(whole)
    tiny.assert_same(tiny.weights(whole), tiny.weights(resumed))


def test_early_stopping_ends_with_the_best_checkpoint(encoder, reviews, tmp_path):
    settings = {"training": EARLY, "data": {"validation": 10}}
    recipe = tiny.recipe(encoder, reviews, tmp_path / "run", **settings)
    trainer = trained(recipe)
    scores = {e["step"]: e["eval_accuracy"] for e in trainer.state.log_history if "eval_loss" in e}
    best = max(scores, key=scores.__getitem__)
    assert trainer.state.best_global_step == best
    assert trainer.state.global_step == sorted(scores)[sorted(scores).index(best) + 2]
    kept = load_file(tmp_path / f"run/checkpoints/checkpoint-{best}" / "adapter_model.safetensors")
    assert trainer.examine(trainer.eval_dataset)[0]["accuracy"] == scores[best]
    assert any("lora_B" in name and value.any() for name, value in kept.items())


@pytest.mark.parametrize("training", [{}, {"max_steps": 4}, EARLY])
def test_a_run_that_had_ended_trains_no_further_step(training, encoder, reviews, tmp_path):
    """Killed between its last checkpoint and its result."""
    settings = {"training": training, "data": {"validation": 10}}
    recipe = tiny.recipe(encoder, reviews, tmp_path / "run", **settings)
    whole = trained(recipe)
    again = trained(recipe)
    assert again.state.global_step == whole.state.global_step
    assert log_of(again) == log_of(whole)
    tiny.assert_same(tiny.weights(again), tiny.weights(whole))


@pytest.mark.slow  # every kind of damage is told from a whole one in tests/runs
@pytest.mark.parametrize(
    "kind",
    ["delete complete", "delete scheduler.pt", "from_earlier optimizer.pt", "empty rng_state.pth",
     "from_earlier adapter_model.safetensors", "cut trainer_state.json", "renamed"],
)  # fmt: skip
def test_a_damaged_checkpoint_is_said_and_changes_nothing(kind, encoder, reviews, tmp_path, capsys):
    whole = trained(tiny.recipe(encoder, reviews, tmp_path / "whole"))
    recipe = tiny.recipe(encoder, reviews, tmp_path / "cut")
    trained(recipe, 11)
    place = tmp_path / "cut/checkpoints"
    DAMAGES[kind](place / "checkpoint-9", place / "checkpoint-6")
    stray(place)
    resumed = trained(recipe)
    assert f"{place / 'checkpoint-9'} is not used: " in capsys.readouterr().out
    assert resumed._initial_global_step == 6
    assert_equal_runs(whole, resumed)
    newest = checkpoints.newest_whole(place, print)
    assert newest is not None
    assert newest.path.name == "checkpoint-12"


def test_a_checkpoint_holds_no_weight_of_the_base(encoder, reviews, tmp_path):
    trainer = trained(tiny.recipe(encoder, reviews, tmp_path))
    newest = checkpoints.complete_checkpoints(tmp_path / "checkpoints")[-1]
    adapter = sum(
        value.numel() for value in load_file(newest / "adapter_model.safetensors").values()
    )
    assert adapter == sum(value.numel() for value in tiny.weights(trainer).values())
    state = torch.load(newest / "optimizer.pt", weights_only=True)["state"]
    moments = sum(t.numel() for s in state.values() for n, t in s.items() if n != "step")
    assert moments == 2 * adapter
    assert sorted(path.name for path in newest.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "complete",
        "optimizer.pt",
        "rng_state.pth",
        "scheduler.pt",
        "trainer_state.json",
    ]


def test_the_seconds_of_all_starts_are_counted(encoder, reviews, tmp_path):
    recipe = tiny.recipe(encoder, reviews, tmp_path)
    tiny.interrupt(recipe, 10)
    mark = tmp_path / "checkpoints/checkpoint-9" / checkpoints.COMPLETE
    mark.write_text(json.dumps(json.loads(mark.read_text()) | {"seconds": 1000.0}))
    result = train(recipe, lambda text: None)
    assert 1000 < result.seconds < 1100
