"""transformers' integrations with trackers (TensorBoard, W&B, MLflow, Trackio, ...) in a run.

They get the recipe as config and every metric by step. A Trainer ends its own with training; these
stay open until the test set is measured, and get its metrics too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from lorakit.errors import ConfigError, MissingDependencyError, suggest

_EXTRAS = {"tensorboard": "pip install 'lorakit[tensorboard]'"}
_LOCATIONS = {
    "tensorboard": ("TENSORBOARD_LOGGING_DIR", "{run}/tensorboard"),
    "wandb": ("WANDB_DIR", "{run}"),  # it adds its own name
    "mlflow": ("MLFLOW_TRACKING_URI", "sqlite:///{run}/mlflow.db"),
    "trackio": ("TRACKIO_DIR", "{run}/trackio"),
}
"""The variable that says where a tracker's files go, and a value, for `runs.directory.TRACKED`."""


class Trackers:
    """Callbacks of trackers as one, with the events of a TrainerCallback; `close` is the end."""

    def __init__(self, callbacks: Sequence[Any] = ()) -> None:
        self.callbacks = callbacks
        self._endings: list[Callable[[], None]] = []
        """How each that has begun, and not ended, ends."""

    def __getattr__(self, event: str) -> Callable[..., None]:
        if not event.startswith("on_"):
            raise AttributeError(event)
        return partial(self._each, event)

    def on_train_begin(self, *place: Any, **told: Any) -> None:
        """They begin."""
        self._endings = self._events("on_train_end", *place, **told)
        self._each("on_train_begin", *place, **told)

    def on_predict(self, *args: Any, **kwargs: Any) -> None:
        """What was measured is logged."""

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """They stay open."""

    def close(self, trainer: Any, metrics: Mapping[str, float]) -> None:
        """Log the metrics at the last step, and end."""
        told = {"model": trainer.model, "processing_class": trainer.processing_class}
        place = trainer.args, trainer.state, trainer.control
        self._endings = self._events("on_train_end", *place, **told)
        self._each("on_log", *place, logs=dict(metrics), **told)
        self.end()

    def end(self, *unsaid: type[Exception]) -> None:
        """End those that are open, with what they have; errors of the types `unsaid` stop none."""
        while self._endings:
            with suppress(*unsaid):
                self._endings.pop(0)()

    def _each(self, event: str, *args: Any, **kwargs: Any) -> None:
        for tell in self._events(event, *args, **kwargs):
            tell()

    def _events(self, event: str, *args: Any, **kwargs: Any) -> list[Callable[[], None]]:
        return [partial(getattr(each, event), *args, **kwargs) for each in self.callbacks]


@contextmanager
def trackers(names: Sequence[str], output: Path) -> Iterator[Trackers]:
    """The trackers of these names; inside, files of theirs go to the run's directory.

    What begins inside ends there: in a run that fails as a failed one, and what cannot end then
    does not replace the error. A tracker's run that was there before stays open. A variable of the
    environment that says where files go otherwise counts.

    Raises ConfigError for a name that transformers does not know, MissingDependencyError for one
    whose package is not installed or set up.
    """
    _require_known(names)
    wanted = [_LOCATIONS[name] for name in names if name in _LOCATIONS]
    run = output.absolute()
    where = {variable: value.format(run=run) for variable, value in wanted}
    with _environment(where), ExitStack() as stack:
        made = Trackers(_callbacks(names))
        for name in _RUNS.keys() & names:
            stack.enter_context(_own_run(name))
        try:
            yield made
        except BaseException:
            made.end(Exception)
            raise


@dataclass(frozen=True)
class _Runs:
    """The runs of a tracker's package, of which one is open at a time."""

    current: Callable[[Any], Any]
    """The open run; None where there is none."""
    end: Callable[[Any, BaseException | None], None]
    """End it, as one that failed with the error if there is one."""


def _end_wandb(wandb: Any, error: BaseException | None) -> None:
    wandb.finish(exit_code=int(error is not None))


def _end_swanlab(swanlab: Any, error: BaseException | None) -> None:
    if error is None:
        swanlab.finish()
    else:
        swanlab.finish(state=swanlab.State.CRASHED, error=str(error))


def _current_comet(comet_ml: Any) -> Any:
    found = comet_ml.get_running_experiment()  # the last one, which may have ended
    return None if found is None or found.ended else found


def _end_comet(comet_ml: Any, error: BaseException | None) -> None:
    comet_ml.get_running_experiment().end()  # which knows of no failure


_RUNS: Mapping[str, _Runs] = {
    "wandb": _Runs(lambda wandb: wandb.run, _end_wandb),
    "swanlab": _Runs(lambda swanlab: swanlab.get_run(), _end_swanlab),
    "comet_ml": _Runs(_current_comet, _end_comet),
}
"""Those of each tracker whose callback goes on with a run that is open, and ends none."""


@contextmanager
def _own_run(name: str) -> Iterator[None]:
    """A tracker's run that is begun inside ends there."""
    package, runs = import_module(name), _RUNS[name]
    there = runs.current(package)

    def end(error: BaseException | None) -> None:
        if there is None and runs.current(package) is not None:
            runs.end(package, error)

    try:
        yield
    except BaseException as error:
        with suppress(Exception):
            end(error)
        raise
    end(None)


def _require_known(names: Sequence[str]) -> None:
    known = sorted(INTEGRATION_TO_CALLBACK)
    unknown = [f"{name!r}{suggest(name, known)}" for name in names if name not in known]
    if unknown:
        raise ConfigError(
            f"training.report_to names what transformers cannot report to (it can to "
            f"{', '.join(known)}):",
            unknown,
        )


def _callbacks(names: Sequence[str]) -> list[Any]:
    made, missing = [], []
    for name in dict.fromkeys(names):
        try:
            made.append(INTEGRATION_TO_CALLBACK[name]())
        except (ImportError, RuntimeError) as error:
            missing.append(f"{name}: {_EXTRAS.get(name, error)}")
    if missing:
        raise MissingDependencyError("training.report_to names what is not installed:", missing)
    return made


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables of the environment inside, where they are not set."""
    missing = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)
