"""A training run as one checked value; `yaml_file` reads it from YAML and writes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lorakit.config import LoraConfig
from lorakit.errors import ConfigError, require
from lorakit.losses import LOSSES, LossConfig
from lorakit.methods.registry import METHODS, find, unknown
from lorakit.recipe.decoding import Sampling, decoding_defaults
from lorakit.recipe.method_sections import kept, read_sections
from lorakit.recipe.task_settings import TASKS, as_one_of_them, unchosen
from lorakit.recipe.validation import build, unknown_names
from lorakit.tasks import registry

Schedule = Literal["linear", "cosine", "constant", "inverse_sqrt"]


@dataclass(frozen=True)
class DataConfig:
    """Where the examples are and what they mean."""

    train: str
    """A CSV, TSV, JSON-lines or Parquet file, or a name that `datasets` knows; for a task of GLUE
    also the folder of its TSV files."""

    test: str | float | None = None
    """A file, or the share or number of rows of `train` that are set apart; None: 10%, or GLUE's
    dev set."""

    validation: str | float | None = None
    """The same, for evaluations during training; None: none, or 10% with early stopping, which
    chooses between checkpoints by them."""

    task: str | None = None
    """classification, regression, multiple_choice, generation or chat; a task of GLUE or a corpus
    of data-to-text (e2e, webnlg, dart, data_to_text), whose columns are known; or one that was
    added with `lorakit.tasks.register`. None: guessed, but neither GLUE nor a corpus."""

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
        require(
            {
                f"{name} is {value}; set apart at least one row": value > 0
                for name, value in shares.items()
                if isinstance(value, int | float)
            }
            | {"max_length must be at least 1": self.max_length is None or self.max_length >= 1}
            | {problem: False for problem in [registry.task_problem(self.task)] if problem}
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
    """Share of the steps in which the learning rate rises."""
    warmup_steps: int | None = None
    """Their number, instead of the share."""
    weight_decay: float = 0.01
    adam_epsilon: float = 1e-8
    label_smoothing: float = 0.0
    """Share of the target that is spread evenly over all tokens or labels, in training only."""
    base_dropout: Literal["on", "off"] = "on"
    """The base's own dropout; off: only the adapters' (`lora.lora_dropout`), and attention without
    it, which on a CPU makes steps about a third faster."""
    schedule: Schedule = "linear"
    """Of the learning rate after the warmup."""
    max_grad_norm: float = 1.0
    """Longer gradients are scaled down to it; 0: never."""
    token_budget: int = 4096
    """Tokens of one micro-batch at most, padding included; changes time and memory only."""
    seed: int = 0
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of computation and of what is frozen; auto: bf16 where the processor multiplies in it, else
    fp32. What trains is float32 in any case, and so is attention in bf16 on a CPU without AMX."""
    deterministic: bool = False
    """Use deterministic algorithms, at some cost."""
    gradient_checkpointing: bool = False
    classifier_dropout: float | None = None
    """Dropout before the head of a sequence classification model; None: as the base's config."""
    early_stopping: int | None = None
    """Stop after that many evaluations without a better one, and keep the best checkpoint."""
    evaluations: int = 10
    """Evaluations and checkpoints spread over the run."""
    check: Literal["on", "off"] = "on"
    """Stop after three steps if something that should train stands still."""
    tensorboard: bool = False

    def __post_init__(self) -> None:
        dropout = self.classifier_dropout
        counts = ("total_batch", "token_budget", "evaluations", "max_steps", "early_stopping")
        values = {name: getattr(self, name) for name in counts}
        require(
            {
                "learning_rate must be above 0": self.learning_rate > 0,
                "epochs must be above 0": self.epochs > 0,
                "warmup_ratio must be in [0, 1)": 0 <= self.warmup_ratio < 1,
                "warmup_steps must not be negative": (self.warmup_steps or 0) >= 0,
                "weight_decay must not be negative": self.weight_decay >= 0,
                "adam_epsilon must be above 0": self.adam_epsilon > 0,
                "label_smoothing must be in [0, 1)": 0 <= self.label_smoothing < 1,
                "max_grad_norm must not be negative": self.max_grad_norm >= 0,
                "classifier_dropout must be in [0, 1)": dropout is None or 0 <= dropout < 1,
                "seed must be in [0, 2**32)": 0 <= self.seed < 2**32,
            }
            | {f"{n} must be at least 1": v is None or v >= 1 for n, v in values.items()}
        )


_SETTINGS = "settings"
"""The field of a recipe that is no name in a file: there, each method has a section."""


@dataclass(frozen=True)
class Recipe:
    """Base, data, method and settings of one run."""

    base: str
    """Directory or hub id of a transformers model."""
    data: DataConfig
    output: str
    """The run's directory."""
    method: str = "lora"
    """A name in `lorakit.methods.METHODS`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The config of a method by its name, which is a section in a file. A section of a method that
    is not chosen is kept where it says something; without one, the method has its defaults."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    init_adapter: str | None = None
    """A run, an adapter or a name of `lorakit checkpoints list` whose weights this run starts
    from; a head of another size stays new."""
    decoding: Sampling = field(default_factory=Sampling)
    """How the test set's texts are generated, where the task generates text."""
    revision: str | None = None
    """Branch, tag or commit of the base on the Hub."""

    def __post_init__(self) -> None:
        method = find(self.method)
        object.__setattr__(self, _SETTINGS, kept(self.method, self.settings))
        loss, task = LOSSES[self.loss.kind], self.data.task
        learned = None if task is None else registry.TASKS[task].task_class
        unfit = None if learned is None else loss.problem_with(learned, str(task))
        smooth = self.training.label_smoothing > 0
        require(
            {
                str(unfit): unfit is None,
                "training.label_smoothing is part of the plain loss, and loss.kind is "
                f"{loss.name}; leave one of them out": not smooth or loss.combine is None,
                f"training.label_smoothing spreads a target over labels, and the task {task} "
                "learns a number; leave it out": (
                    not smooth or learned is None or not learned.learns_number
                ),
                f"init_adapter starts adapters, and method {self.method} has none; leave one of "
                "them out": self.init_adapter is None or method.has_adapters,
            }
        )

    @property
    def method_config(self) -> Any:
        """The settings of the method that is chosen."""
        return self.settings[self.method]

    @property
    def lora(self) -> LoraConfig:
        """LoRA's settings, chosen or not."""
        config: LoraConfig = self.config_of("lora")
        return config

    def config_of(self, name: str) -> Any:
        """A method's settings, which are its defaults if the recipe does not say them."""
        return self.settings[name] if name in self.settings else find(name).default_config()


def from_mapping(mapping: Mapping[str, Any]) -> Recipe:
    """The checked recipe; raises ConfigError that lists every mistake.

    >>> from_mapping({"base": "b", "data": {"train": "t.csv"}, "output": "o"}).lora.lora_alpha
    16
    """
    problems: list[str] = []
    if TASKS in mapping:
        problems.append(unchosen(mapping))
        mapping = as_one_of_them(mapping)
    data, decoding = mapping.get("data"), mapping.get("decoding", {})
    if isinstance(data, Mapping) and isinstance(decoding, Mapping):
        defaults = decoding_defaults(data.get("task"))
        mapping = {**mapping, "decoding": {**defaults, **decoding}}
    names = [f.name for f in dataclasses.fields(Recipe) if f.name != _SETTINGS]
    problems += unknown_names(mapping, [*names, *METHODS], "")
    fields = {name: mapping[name] for name in names if name in mapping}
    if problem := unknown(fields.get("method", "lora")):
        problems.append(problem)
        del fields["method"]
    fields[_SETTINGS] = read_sections(mapping, problems)
    recipe: Recipe | None = build(Recipe, fields, "", problems)
    if problems or recipe is None:
        raise ConfigError("This recipe cannot be run:", problems)
    return recipe


def differences(one: Recipe, other: Recipe) -> list[str]:
    """The settings that differ, with both values; the run's directory is none of them."""
    methods = {**one.settings, **other.settings}
    first, second = (_flat(as_mapping(recipe, methods)) for recipe in (one, other))
    names = [name for name in dict.fromkeys([*first, *second]) if name != "output"]
    return [
        f"{name} is {first.get(name)!r} there and {second.get(name)!r} here"
        for name in names
        if first.get(name) != second.get(name)
    ]


def as_mapping(recipe: Recipe, methods: Iterable[str]) -> dict[str, Any]:
    """The recipe as a file has it, with a section for each of these methods."""
    sections = {name: dataclasses.asdict(recipe.config_of(name)) for name in methods}
    plain: dict[str, Any] = {}
    for name, value in dataclasses.asdict(recipe).items():
        plain |= sections if name == _SETTINGS else {name: value}
    return plain


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in mapping.items():
        section = isinstance(value, Mapping) and not prefix
        flat |= _flat(value, f"{name}.") if section else {f"{prefix}{name}": value}
    return flat
