"""What trackers get of a run: TensorBoard's files, and the events of one that keeps them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainerCallback
from transformers.integrations import INTEGRATION_TO_CALLBACK

from lorakit.errors import ConfigError, MissingDependencyError, TrainingError
from lorakit.recipe.schema import from_mapping
from lorakit.runs.directory import RunResult
from lorakit.training import train
from tests.training import tiny


class Client:
    """Stands for W&B's package, which has one run in a process."""

    def __init__(self) -> None:
        self.run: object | None = None
        self.begun = 0
        self.exit_codes: list[int] = []

    def init(self) -> None:
        self.run, self.begun = object(), self.begun + 1

    def finish(self, exit_code: int) -> None:
        self.run = None
        self.exit_codes.append(exit_code)


class Keeper(TrainerCallback):
    """Stands for W&B's callback, which goes on with an open run: what it was told, in order."""

    wandb: ClassVar[Client]

    told: ClassVar[list[tuple[str, Any]]] = []

    def __init__(self) -> None:
        self.told.append(("made", os.environ.get("WANDB_DIR")))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.wandb.run is None:
            self.wandb.init()
        self.told.append(("config", {**args.to_dict(), "run_name": args.run_name}))

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.told.append(("log", (state.global_step, kwargs["logs"])))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.told.append(("end", None))


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Client:
    """What the name of W&B's package imports."""
    client = Client()
    monkeypatch.setattr(Keeper, "wandb", client, raising=False)
    monkeypatch.setattr("lorakit.training.trackers.import_module", {"wandb": client}.__getitem__)
    return client


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch, wandb: Client) -> type[Keeper]:
    """transformers' own table, in which W&B is the keeper."""
    monkeypatch.setattr(Keeper, "told", [])
    monkeypatch.setitem(INTEGRATION_TO_CALLBACK, "wandb", Keeper)
    monkeypatch.delenv("WANDB_DIR", raising=False)
    return Keeper


def run(base: Path, data: Path, output: Path, report_to: Any, **training: Any) -> RunResult:
    settings = {"max_steps": 4, "evaluations": 2, "report_to": report_to, **training}
    made = tiny.recipe(base, data, output, training=settings, data={"validation": 8})
    return train(made, lambda text: None)


def run_that_stops(base: Path, data: Path, output: Path, report_to: Any) -> None:
    """The same, which fails after its first step."""

    def stop() -> None:
        raise TrainingError("stopped")

    with pytest.MonkeyPatch.context() as patch:
        tiny.do_at_step(patch, 1, stop)
        with pytest.raises(TrainingError, match="stopped"):
            run(base, data, output, report_to)


def test_tensorboard_has_config_metrics_by_step_and_those_of_the_test(encoder, reviews, tmp_path):
    result = run(encoder, reviews, tmp_path / "run", ["tensorboard"])
    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    scalars = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    assert [event.step for event in scalars["train/loss"]] == [1, 2, 3, 4]
    assert [event.step for event in scalars["eval/accuracy"]] == [2, 4]
    (last,) = scalars["test/accuracy"]
    assert (last.step, last.value) == (4, pytest.approx(result.metrics["accuracy"]))
    (args,) = events.Tensors("args/text_summary")
    config = json.loads(args.tensor_proto.string_val[0])
    assert config["run_name"] == "run"
    assert config["lora.r"] == 2
    assert config["data.train"] == str(reviews)


def test_a_tracker_gets_name_recipe_metrics_and_the_end_once(encoder, reviews, tmp_path, keeper):
    result = run(encoder, reviews, tmp_path / "night", "wandb")
    assert keeper.told[0] == ("made", str(tmp_path / "night"))
    (config,) = [value for event, value in keeper.told if event == "config"]
    assert config["run_name"] == "night"
    assert config["method"] == "lora"
    assert config["training.report_to"] == ("wandb",)
    assert "recipe" not in config
    logs = [value for event, value in keeper.told if event == "log"]
    assert [step for step, log in logs if "loss" in log] == [1, 2, 3, 4]
    assert logs[-1] == (4, {f"test_{name}": value for name, value in result.metrics.items()})
    assert keeper.told[-1] == ("end", None)
    assert sum(event == "end" for event, _ in keeper.told) == 1
    assert "WANDB_DIR" not in os.environ


def test_two_runs_of_one_program_have_files_of_their_own(encoder, reviews, tmp_path):
    for name in ("one", "two"):
        run(encoder, reviews, tmp_path / name, ["tensorboard"])
        assert len(list((tmp_path / name / "tensorboard").glob("events.*"))) == 1


@pytest.mark.usefixtures("keeper")
def test_two_runs_of_one_program_are_two_of_a_tracker(encoder, reviews, tmp_path, wandb):
    for name in ("one", "two"):
        run(encoder, reviews, tmp_path / name, ["wandb"])
        assert wandb.run is None
    assert (wandb.begun, wandb.exit_codes) == (2, [0, 0])


@pytest.mark.usefixtures("keeper")
def test_a_trackers_run_of_the_users_own_stays_open(encoder, reviews, tmp_path, wandb):
    wandb.init()
    own = wandb.run
    run(encoder, reviews, tmp_path / "run", ["wandb"])
    assert (wandb.run, wandb.begun) == (own, 1)


def test_trackers_of_a_run_that_fails_end(encoder, reviews, tmp_path, keeper, wandb):
    run_that_stops(encoder, reviews, tmp_path / "run", ["wandb"])
    assert [event for event, _ in keeper.told][-1] == "end"
    assert wandb.run is None
    assert wandb.exit_codes == [1]


def test_a_place_that_the_environment_names_counts(encoder, reviews, tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "all"))
    run(encoder, reviews, tmp_path / "run", ["tensorboard"])
    assert list((tmp_path / "all").glob("events.*"))
    assert not (tmp_path / "run/tensorboard").exists()


def test_an_unknown_tracker_is_told_with_the_known_ones(encoder, reviews, tmp_path):
    with pytest.raises(ConfigError, match=r"mlflow, (.|\n)*'wandbb' \(did you mean 'wandb'"):
        run(encoder, reviews, tmp_path / "run", ["wandbb"])
    assert not (tmp_path / "run").exists()


def test_every_tracker_that_is_not_installed_is_told_first(encoder, reviews, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "transformers.integrations.integration_utils.is_tensorboard_available", lambda: False
    )
    with pytest.raises(MissingDependencyError) as caught:
        run(encoder, reviews, tmp_path / "run", ["tensorboard", "clearml"])
    one, two = caught.value.problems
    assert one == "tensorboard: pip install 'lorakit[tensorboard]'"
    assert two.startswith("clearml: ")
    assert "pip install clearml" in two
    assert not (tmp_path / "run").exists()


def test_what_a_tracker_wrote_of_a_failed_run_refuses_no_corrected_recipe(
    encoder, reviews, tmp_path
):
    run_that_stops(encoder, reviews, tmp_path / "run", ["tensorboard"])
    assert list((tmp_path / "run/tensorboard").glob("events.*"))
    run(encoder, reviews, tmp_path / "run", ["tensorboard"], seed=1)


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ({"tensorboard": True}, ("tensorboard",)),
        ({"tensorboard": False}, ()),
        ({"tensorboard": True, "report_to": "wandb"}, ("wandb", "tensorboard")),
        ({"tensorboard": True, "report_to": None}, ("tensorboard",)),
        ({"report_to": "wandb"}, ("wandb",)),
        ({"report_to": ["wandb", "mlflow"]}, ("wandb", "mlflow")),
    ],
)
def test_a_recipe_with_the_former_setting_reads_as_one_with_names(training, expected):
    mapping = {"base": "b", "data": {"train": "t.csv"}, "output": "o", "training": training}
    assert from_mapping(mapping).training.report_to == expected


def test_former_setting_beside_what_is_no_name_is_refused_by_its_type():
    training = {"tensorboard": True, "report_to": 3}
    mapping = {"base": "b", "data": {"train": "t.csv"}, "output": "o", "training": training}
    with pytest.raises(ConfigError, match=r"report_to is 3; it must be a list of strings"):
        from_mapping(mapping)
