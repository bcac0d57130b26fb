"""Which forwards a study of latency times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorakit.errors import ConfigError, require
from lorakit.methods.registry import METHODS, unknown
from lorakit.models.dtypes import Dtype
from lorakit.recipe.method_sections import read_sections
from lorakit.recipe.validation import unknown_names
from lorakit.recipe.yaml_file import with_settings


@dataclass(frozen=True)
class LatencyStudy:
    """Which forwards are timed."""

    model: str
    """Directory or hub id of a transformers model, or a config.json; only its config is read."""
    methods: Mapping[str, Any]
    """The config of each method by its name."""
    batches: Sequence[int] = (1, 4, 16)
    """Numbers of texts in a batch."""
    lengths: Sequence[int] = (64, 128, 256)
    """Numbers of tokens in a text."""
    device: str | None = None
    """Any that torch knows. None: the accelerator, or without one the processor."""
    dtype: Dtype = "fp32"
    """What the frozen weights are stored, and products computed in."""
    seconds: float = 10.0
    """About how long a batch and length are measured."""
    rounds: int = 5
    """How often each candidate is measured at least."""
    revision: str | None = None
    """Branch, tag or commit of the model on the Hub."""

    def __post_init__(self) -> None:
        sizes = {"batch": self.batches, "length": self.lengths, "rounds": (self.rounds,)}
        require(
            {
                f"{name} is {size}; it must be at least 1": size >= 1
                for name, values in sizes.items()
                for size in values
            }
            | {f"seconds is {self.seconds}; it must be above 0": self.seconds > 0}
        )


def method_configs(names: Sequence[str], settings: Sequence[str] = ()) -> dict[str, Any]:
    """The config of each method by its name; `settings` are such as `houlsby.bottleneck=64`.

    Raises ConfigError that lists unknown methods, settings of others, and mistakes in settings.
    """
    sections = with_settings({}, settings)
    problems = [problem for name in names if (problem := unknown(name))]
    problems += unknown_names(sections, names, "")
    configs = read_sections(sections, problems)
    if problems:
        raise ConfigError("These methods cannot be timed:", problems)
    return {name: configs.get(name) or METHODS[name].default_config() for name in names}
