"""How trackers end: as a success or a failure, each by itself, and never instead of the error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerCallback
from transformers.integrations import INTEGRATION_TO_CALLBACK

from lorakit.errors import TrainingError
from lorakit.training.trackers import trackers


class SwanLab:
    """Stands for SwanLab's package: how its runs ended."""

    State = SimpleNamespace(CRASHED="crashed")

    def __init__(self) -> None:
        self.run: Any = None
        self.ended: list[Any] = []

    def get_run(self) -> Any:
        return self.run

    def begin(self) -> None:
        self.run = object()

    def finish(self, state: str = "success", error: str | None = None) -> None:
        self.run = None
        self.ended.append((state, error))


class Experiment:
    """Stands for Comet's, which stays the package's when it has ended."""

    ended = False

    def end(self) -> None:
        self.ended = True


class Comet:
    """Stands for Comet's package: its experiments."""

    def __init__(self) -> None:
        self.begun: list[Experiment] = []

    def get_running_experiment(self) -> Experiment | None:
        return self.begun[-1] if self.begun else None

    def begin(self) -> None:
        self.begun.append(Experiment())


class Broken(TrainerCallback):
    """A tracker that cannot end."""

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the connection is closed")


@pytest.fixture
def stands_for(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what a tracker's name imports; its callback does nothing."""

    def place(name: str, package: Any) -> None:
        monkeypatch.setattr("lorakit.training.trackers.import_module", {name: package}.__getitem__)
        monkeypatch.setitem(INTEGRATION_TO_CALLBACK, name, TrainerCallback)

    return place


@pytest.fixture
def broken_and_next(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """MLflow is one that cannot end, and ClearML one that can: what it did."""
    done: list[str] = []

    class Next(TrainerCallback):
        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            done.append("ended")

    monkeypatch.setitem(INTEGRATION_TO_CALLBACK, "mlflow", Broken)
    monkeypatch.setitem(INTEGRATION_TO_CALLBACK, "clearml", Next)
    return done


def fail(names: list[str], output: Path, begin: Callable[[], None] = lambda: None) -> None:
    """A run that is begun and stops, whose own error is raised."""

    def begin_and_stop() -> None:
        with trackers(names, output) as made:
            begin()
            made.on_train_begin(None, None, None)
            raise TrainingError("stopped")

    with pytest.raises(TrainingError, match="stopped"):
        begin_and_stop()


def fail_and_succeed(name: str, package: SwanLab | Comet, output: Path) -> None:
    """A run that fails, and one that does not."""
    fail([name], output, package.begin)
    with trackers([name], output):
        package.begin()


def test_a_failed_run_of_swanlab_has_crashed(stands_for, tmp_path):
    package = SwanLab()
    stands_for("swanlab", package)
    fail_and_succeed("swanlab", package, tmp_path)
    assert package.ended == [("crashed", "stopped"), ("success", None)]


def test_each_run_of_comet_ends(stands_for, tmp_path):
    package = Comet()
    stands_for("comet_ml", package)
    fail_and_succeed("comet_ml", package, tmp_path)
    assert [experiment.ended for experiment in package.begun] == [True, True]


def test_an_experiment_of_the_users_own_stays_open(stands_for, tmp_path):
    package = Comet()
    stands_for("comet_ml", package)
    package.begin()
    with trackers(["comet_ml"], tmp_path):
        pass
    assert not package.begun[0].ended


def test_a_package_that_cannot_end_its_run_hides_no_error(stands_for, tmp_path, monkeypatch):
    def finish(state: str, error: str) -> None:
        raise RuntimeError("the connection is closed")

    package = SwanLab()
    monkeypatch.setattr(package, "finish", finish)
    stands_for("swanlab", package)
    fail(["swanlab"], tmp_path, package.begin)


def test_a_tracker_that_cannot_end_hides_no_error_and_the_next_one_ends(tmp_path, broken_and_next):
    fail(["mlflow", "clearml"], tmp_path)
    assert broken_and_next == ["ended"]


def test_the_end_of_a_run_says_what_cannot_end_and_the_next_one_ends(tmp_path, broken_and_next):

    def begin_and_end() -> None:
        with trackers(["mlflow", "clearml"], tmp_path) as made:
            made.on_train_begin(None, None, None)
            made.end()

    with pytest.raises(RuntimeError, match="connection is closed"):
        begin_and_end()
    assert broken_and_next == ["ended"]
