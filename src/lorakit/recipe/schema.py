"""A training run as one checked value; `yaml_file` reads it from YAML and writes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lorakit.config import LoraConfig
from lorakit.errors import ConfigError, require
from lorakit.losses import LOSSES, LossConfig
from lorakit.methods.registry import METHODS, find, unknown, with_adapters
from lorakit.recipe.data_config import DataConfig
from lorakit.recipe.decoding import DecodingConfig, decoding_defaults
from lorakit.recipe.dotted_names import dotted
from lorakit.recipe.former_settings import with_present_names
from lorakit.recipe.method_sections import read_sections, relevant_settings, without_effect
from lorakit.recipe.task_settings import TASKS, task_choice_problem, with_first_task
from lorakit.recipe.training_config import TrainingConfig
from lorakit.recipe.validation import build, unknown_names
from lorakit.tasks import registry

ADAPTERS = "adapters"
"""The section of a file with recipes of several adapters; see `recipe.adapter_recipes`."""
_SETTINGS = "settings"
"""The field of `Recipe` for which a file has one section for each method."""


@dataclass(frozen=True)
class Recipe:
    """Base model, data, method and settings of one run."""

    base: str
    """Directory or hub id of the transformers model to adapt."""
    data: DataConfig
    """Files, task and columns; the section `data`."""
    output: str
    """The run directory, which is created."""
    method: str = "lora"
    """What is trained: a name in `lorakit.methods.METHODS`, such as lora, full or head."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The config of each method, by its name; in a file, a section under that name. Sections of
    other methods are kept if they differ from the defaults."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Steps, learning rate, batches, precision; the section `training`."""
    loss: LossConfig = field(default_factory=LossConfig)
    """What is minimised; the section `loss`."""
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
                f"training.compile is on, and loss.kind {loss.name} edits embeddings by a hook, "
                "which compiled code does not call; leave one of them out": (
                    self.training.compile != "on" or not loss.edits_embeddings
                ),
                f"training.loraplus_lr_ratio is for the adapters of method {with_adapters()}, and "
                f"method is {self.method}; leave it out": (
                    self.training.loraplus_lr_ratio is None or method.has_adapters
                ),
                f"init_adapter initializes the adapters of method {with_adapters()}, and method is "
                f"{self.method}; leave one of them out": (
                    self.init_adapter is None or method.has_adapters
                ),
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


def from_mapping(mapping: Mapping[str, Any], settings: Sequence[str] = ()) -> Recipe:
    """The checked recipe that `mapping` says; raises ConfigError that lists every mistake.

    `settings`, such as `a.b=value`, are those in it that were given for this run alone: each has to
    be of its method.

    >>> from_mapping({"base": "b", "data": {"train": "t.csv"}, "output": "o"}).lora.lora_alpha
    16
    """
    problems: list[str] = []
    mapping = with_present_names(mapping)
    if TASKS in mapping:
        problems.append(task_choice_problem(mapping))
        mapping = with_first_task(mapping)
    if ADAPTERS in mapping:
        mapping = {key: value for key, value in mapping.items() if key != ADAPTERS}
        problems.append(
            f"{ADAPTERS} makes it recipes of several runs; lorakit train takes such a file"
        )
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
    else:
        problems += without_effect(fields.get("method", "lora"), mapping, settings)
    fields[_SETTINGS] = read_sections(mapping, problems)
    recipe: Recipe | None = build(Recipe, fields, "", problems)
    if problems or recipe is None:
        raise ConfigError("This recipe cannot be run:", problems)
    return recipe


def differences(one: Recipe, other: Recipe) -> list[str]:
    """The settings that differ, with both values; `output` is not compared."""
    methods = {**one.settings, **other.settings}
    first, second = (flat_settings(recipe, methods) for recipe in (one, other))
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


def flat_settings(recipe: Recipe, methods: Iterable[str]) -> dict[str, Any]:
    """The recipe's settings by their dotted names, with those of each of these methods."""
    return dict(dotted(as_mapping(recipe, methods)))
