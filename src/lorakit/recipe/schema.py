"""A training run as one checked value; `yaml_file` reads it from YAML and writes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lorakit.config import LoraConfig
from lorakit.errors import ConfigError, require
from lorakit.losses import LOSSES, LossConfig
from lorakit.methods.registry import METHODS, find, unknown
from lorakit.recipe.decoding import DecodingConfig, decoding_defaults
from lorakit.recipe.method_sections import read_sections, relevant_settings
from lorakit.recipe.task_settings import TASKS, task_choice_problem, with_first_task
from lorakit.recipe.validation import build, unknown_names
from lorakit.tasks import registry

Schedule = Literal["linear", "cosine", "constant", "inverse_sqrt"]


@dataclass(frozen=True)
class DataConfig:
    """Training, validation and test data, the task, and the columns."""

    train: str
    """CSV, TSV, JSON-lines or Parquet file, or a data set that `datasets` loads: `NAME`,
    `NAME:CONFIG` or `NAME:CONFIG:SPLIT`. For a task of GLUE also the folder of its TSV files."""

    test: str | float | None = None
    """The test set: a file or data set, or rows to split from `train`: a share (below 1) or a
    number of rows, of which those whose label training would lack stay there. None: a share of
    0.1; for GLUE its dev set."""

    validation: str | float | None = None
    """The validation set, evaluated during training; as `test`. None: no evaluation; with
    training.early_stopping a share of 0.1, by which the best checkpoint is chosen."""

    task: str | None = None
    """classification, multi_label_classification, regression, multiple_choice, generation,
    chat or language_modeling (whole texts); a task of GLUE or a corpus of data-to-text (e2e,
    webnlg, dart, data_to_text), whose columns are fixed; or a name that was registered with
    `lorakit.tasks.register`. None: guessed from the columns, as one of the first seven."""

    text: Sequence[str] | None = None
    """The input columns, in order. None: guessed."""

    label: str | None = None
    """The column of labels, or of completions. None: guessed."""

    max_length: int | None = None
    """Maximum number of tokens in an example; longer ones are truncated. None: the model's limit,
    which a greater number does not exceed."""

    end_token: str | None = None
    """The token that training puts after a completion or an assistant's turn, so that generation
    stops there. None: EOS, or what the chat template writes."""

    thresholds: Sequence[float] | None = None
    """The probability above which multi_label_classification predicts a label: one for all labels,
    or one for each in their order. None: 0.5."""

    split_seed: int = 0
    """Random seed of the rows that are split from `train`."""

    def __post_init__(self) -> None:
        if self.text is not None:
            object.__setattr__(self, "text", tuple(self.text))
        if self.thresholds is not None:
            object.__setattr__(self, "thresholds", tuple(self.thresholds))
        shares, seed = {"test": self.test, "validation": self.validation}, self.split_seed
        require(
            {
                f"{name} is {value}; it must be a share or a number of rows above 0": value > 0
                for name, value in shares.items()
                if isinstance(value, int | float)
            }
            | {
                f"max_length is {self.max_length}; it must be at least 1": (
                    self.max_length is None or self.max_length >= 1
                ),
                f"split_seed is {seed}; it must be in [0, 2**32)": 0 <= seed < 2**32,
            }
            | {problem: False for problem in [registry.task_problem(self.task)] if problem}
        )


@dataclass(frozen=True)
class TrainingConfig:
    """Optimisation and evaluation; the optimizer is AdamW."""

    learning_rate: float = 2e-3
    """Peak learning rate of AdamW."""
    epochs: float = 1
    """Passes over the training set; transformers' num_train_epochs."""
    total_batch: int = 32
    """Examples in one optimizer step, over all processes: per-device batch size times gradient
    accumulation steps times processes. `token_budget` says how they are computed."""
    max_steps: int | None = None
    """Number of optimizer steps, in place of `epochs`. None: by `epochs`."""
    warmup_ratio: float = 0.06
    """Share of the steps over which the learning rate rises linearly from 0."""
    warmup_steps: int | None = None
    """Number of warmup steps, in place of `warmup_ratio`. None: by `warmup_ratio`."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay; none on biases and normalisation layers."""
    adam_epsilon: float = 1e-8
    """AdamW's epsilon."""
    label_smoothing: float = 0.0
    """Share of the target's probability that is spread evenly over all labels or tokens, in
    training only; transformers' label_smoothing_factor."""
    base_dropout: Literal["on", "off"] = "on"
    """Dropout in the base model. off sets every dropout probability of its config to 0 and leaves
    the adapters' (`lora.lora_dropout`); on a CPU steps are then about a third faster."""
    schedule: Schedule = "linear"
    """Learning-rate schedule after the warmup; transformers' lr_scheduler_type."""
    max_grad_norm: float = 1.0
    """Gradient clipping: the maximum norm. 0: no clipping."""
    token_budget: int = 4096
    """Maximum number of tokens, padding included, in one micro-batch; a step accumulates the
    gradients of as many micro-batches as it takes. Changes time and memory only."""
    seed: int = 0
    """Random seed of initialisation, order of examples and dropout."""
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Mixed precision: the dtype of autocast and of frozen parameters. auto: bf16 where the
    hardware multiplies in it, else fp32. Trainable parameters are always float32, and so are a
    classification head, the loss, and attention in bf16 on a CPU without AMX. evaluate, predict
    and generate compute as the run did; an adapter alone computes in float32."""
    deterministic: bool = False
    """Use deterministic algorithms: the same bits again on the same machine, perhaps slower."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    classifier_dropout: float | None = None
    """Dropout probability before the head of a sequence classification model. None: as in the
    base's config."""
    early_stopping: int | None = None
    """Early stopping patience: stop after that many evaluations without an improvement, and load
    the best checkpoint. None: no early stopping."""
    evaluations: int = 10
    """Number of checkpoints over the run, each with an evaluation if there is a validation set."""
    check: Literal["on", "off"] = "on"
    """Stop with an error after three optimizer steps if a trainable tensor has not changed."""
    tensorboard: bool = False
    """Log to `tensorboard/` in the run's directory."""

    def __post_init__(self) -> None:
        require(
            {
                f"{name} is {value}; it must be {allowed}": value is None or holds(value)
                for name, (allowed, holds) in _TRAINING_RANGES.items()
                for value in [getattr(self, name)]
            }
        )


_Range = tuple[str, Callable[[Any], bool]]
_AT_LEAST_1: _Range = ("at least 1", lambda value: value >= 1)
_ABOVE_0: _Range = ("above 0", lambda value: value > 0)
_NOT_NEGATIVE: _Range = ("0 or above", lambda value: value >= 0)
_SHARE: _Range = ("in [0, 1)", lambda value: 0 <= value < 1)
_TRAINING_RANGES: dict[str, _Range] = {
    "learning_rate": _ABOVE_0,
    "epochs": _ABOVE_0,
    "total_batch": _AT_LEAST_1,
    "max_steps": _AT_LEAST_1,
    "warmup_ratio": _SHARE,
    "warmup_steps": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
    "adam_epsilon": _ABOVE_0,
    "label_smoothing": _SHARE,
    "max_grad_norm": _NOT_NEGATIVE,
    "token_budget": _AT_LEAST_1,
    "seed": ("in [0, 2**32)", lambda value: 0 <= value < 2**32),
    "classifier_dropout": _SHARE,
    "early_stopping": _AT_LEAST_1,
    "evaluations": _AT_LEAST_1,
}


_SETTINGS = "settings"
"""The field of `Recipe` for which a file has one section for each method."""


@dataclass(frozen=True)
class Recipe:
    """Base model, data, method and settings of one run."""

    base: str
    """Directory or hub id of the transformers model to adapt."""
    data: DataConfig
    output: str
    """The run directory, which is created."""
    method: str = "lora"
    """What is trained: a name in `lorakit.methods.METHODS`, such as lora, full or head."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The config of each method, by its name; in a file, a section under that name. Sections of
    other methods are kept if they differ from the defaults."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    init_adapter: str | None = None
    """A run directory, an adapter or a name of `lorakit checkpoints list` whose weights initialise
    this run's; a head for other labels is newly initialized."""
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    """Generation settings for the test set, where the task generates text."""
    revision: str | None = None
    """Branch, tag or commit of the base model on the Hub."""

    def __post_init__(self) -> None:
        method = find(self.method)
        object.__setattr__(self, _SETTINGS, relevant_settings(self.method, self.settings))
        loss, task = LOSSES[self.loss.kind], self.data.task
        learned = None if task is None else registry.TASKS[task].task_class
        unfit = None if learned is None else loss.problem_with(learned, str(task))
        smooth = self.training.label_smoothing > 0
        require(
            {
                str(unfit): unfit is None,
                "training.label_smoothing needs the plain loss, and loss.kind is "
                f"{loss.name}; leave one of them out": not smooth or loss.combine is None,
                f"training.label_smoothing needs classes or tokens, and the task {task} learns "
                f"{learned.learns if learned else ''}; leave it out": (
                    not smooth or learned is None or learned.learns == "a class"
                ),
                f"init_adapter initializes adapters, and method {self.method} has none; leave one "
                "of them out": self.init_adapter is None or method.has_adapters,
            }
        )

    @property
    def method_config(self) -> Any:
        """The settings of the recipe's method."""
        return self.settings[self.method]

    @property
    def lora(self) -> LoraConfig:
        """LoRA's settings, whatever the method."""
        config: LoraConfig = self.config_of("lora")
        return config

    def config_of(self, name: str) -> Any:
        """A method's settings: the recipe's, or the method's defaults."""
        return self.settings[name] if name in self.settings else find(name).default_config()


def from_mapping(mapping: Mapping[str, Any]) -> Recipe:
    """The checked recipe; raises ConfigError that lists every mistake.

    >>> from_mapping({"base": "b", "data": {"train": "t.csv"}, "output": "o"}).lora.lora_alpha
    16
    """
    problems: list[str] = []
    if TASKS in mapping:
        problems.append(task_choice_problem(mapping))
        mapping = with_first_task(mapping)
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
    """The settings that differ, with both values; `output` is not compared."""
    methods = {**one.settings, **other.settings}
    first, second = (_flat(as_mapping(recipe, methods)) for recipe in (one, other))
    names = [name for name in dict.fromkeys([*first, *second]) if name != "output"]
    return [
        f"{name} is {first.get(name)!r} in that run and {second.get(name)!r} in this recipe"
        for name in names
        if first.get(name) != second.get(name)
    ]


def as_mapping(recipe: Recipe, methods: Iterable[str]) -> dict[str, Any]:
    """The recipe as nested mappings, with a section for each of these methods."""
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
