"""A training run as one checked value; `recipe_file` reads it from YAML and writes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lorakit.config import LoraConfig
from lorakit.errors import ConfigError
from lorakit.training.checked import build

Method = Literal["lora", "full", "head"]
Schedule = Literal["linear", "cosine", "constant", "inverse_sqrt"]

LORA_DEFAULTS: dict[str, Any] = {"lora_alpha": 16, "target_modules": "all-linear"}
"""Where a recipe's `lora` differs from LoraConfig's own defaults."""


@dataclass(frozen=True)
class DataConfig:
    """Where the examples are and what they mean."""

    train: str
    """A CSV, TSV, JSON-lines or Parquet file, or a name that `datasets` knows."""

    test: str | float | None = None
    """A file, or the share or number of rows of `train` that are set apart; None: 10%."""

    validation: str | float | None = None
    """The same, for evaluations during training; None: none, or 10% with early stopping, which
    chooses between checkpoints by them."""

    task: str | None = None
    """classification, regression, multiple_choice, generation or chat; None: guessed."""

    text: Sequence[str] | None = None
    """The columns that are read, in order; None: guessed."""

    label: str | None = None
    """The column that is learned; None: guessed."""

    max_length: int | None = None
    """Tokens of one example at most; None: the model's limit."""

    split_seed: int = 0
    """Draws the rows that are set apart."""

    def __post_init__(self) -> None:
        if self.text is not None:
            object.__setattr__(self, "text", tuple(self.text))
        shares = {"test": self.test, "validation": self.validation}
        _require(
            {
                f"{name} is {value}; set apart at least one row": value > 0
                for name, value in shares.items()
                if isinstance(value, int | float)
            }
            | {"max_length must be at least 1": self.max_length is None or self.max_length >= 1}
        )


@dataclass(frozen=True)
class TrainingConfig:
    """How it is learned; defaults are those of the demo."""

    learning_rate: float = 2e-3
    epochs: float = 1
    total_batch: int = 32
    """Examples of one optimizer step, over all processes."""
    max_steps: int | None = None
    """Stop after that many steps; None: after the epochs."""
    warmup_ratio: float = 0.06
    weight_decay: float = 0.01
    schedule: Schedule = "linear"
    """Of the learning rate after the warmup."""
    max_grad_norm: float = 1.0
    """Longer gradients are scaled down to it; 0: never."""
    token_budget: int = 4096
    """Tokens of one micro-batch at most, padding included; changes time and memory only."""
    seed: int = 0
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of computation and of what is frozen; auto: bf16 where the processor multiplies in it, else
    fp32. What trains is float32 in any case."""
    deterministic: bool = False
    """Use deterministic algorithms, at some cost."""
    gradient_checkpointing: bool = False
    early_stopping: int | None = None
    """Stop after that many evaluations without a better one, and keep the best checkpoint."""
    evaluations: int = 10
    """Evaluations and checkpoints spread over the run."""
    check: Literal["on", "off"] = "on"
    """Stop after three steps if something that should train stands still."""
    tensorboard: bool = False

    def __post_init__(self) -> None:
        counts = ("total_batch", "token_budget", "evaluations", "max_steps", "early_stopping")
        values = {name: getattr(self, name) for name in counts}
        _require(
            {
                "learning_rate must be above 0": self.learning_rate > 0,
                "epochs must be above 0": self.epochs > 0,
                "warmup_ratio must be in [0, 1)": 0 <= self.warmup_ratio < 1,
                "weight_decay must not be negative": self.weight_decay >= 0,
                "max_grad_norm must not be negative": self.max_grad_norm >= 0,
                "seed must be in [0, 2**32)": 0 <= self.seed < 2**32,
            }
            | {f"{n} must be at least 1": v is None or v >= 1 for n, v in values.items()}
        )


@dataclass(frozen=True)
class Recipe:
    """Base, data, method and settings of one run."""

    base: str
    """Directory or hub id of a transformers model."""
    data: DataConfig
    output: str
    """The run's directory."""
    method: Method = "lora"
    lora: LoraConfig = field(default_factory=lambda: LoraConfig(**LORA_DEFAULTS))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    revision: str | None = None
    """Branch, tag or commit of the base on the Hub."""


def from_mapping(mapping: Mapping[str, Any]) -> Recipe:
    """The checked recipe; raises ConfigError that lists every mistake.

    >>> from_mapping({"base": "b", "data": {"train": "t.csv"}, "output": "o"}).lora.lora_alpha
    16
    """
    problems: list[str] = []
    lora = mapping.get("lora")
    if isinstance(lora, Mapping):
        mapping = {**mapping, "lora": {**LORA_DEFAULTS, **lora}}
    recipe: Recipe | None = build(Recipe, mapping, "", problems)
    if problems or recipe is None:
        raise ConfigError("This recipe cannot be run:", problems)
    return recipe


def differences(one: Recipe, other: Recipe) -> list[str]:
    """The settings that differ, with both values; the run's directory is none of them."""
    first, second = (_flat(dataclasses.asdict(recipe)) for recipe in (one, other))
    names = [name for name in dict.fromkeys([*first, *second]) if name != "output"]
    return [
        f"{name} is {first.get(name)!r} there and {second.get(name)!r} here"
        for name in names
        if first.get(name) != second.get(name)
    ]


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in mapping.items():
        section = isinstance(value, Mapping) and not prefix
        flat |= _flat(value, f"{name}.") if section else {f"{prefix}{name}": value}
    return flat


def _require(checks: Mapping[str, bool]) -> None:
    problems = [problem for problem, holds in checks.items() if not holds]
    if problems:
        raise ConfigError("These settings cannot be used:", problems)
