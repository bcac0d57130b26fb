"""transformers' private names, each with a fallback for releases without it.

Nothing of transformers is imported here: functions take its objects, and two mixins give the
Trainer's private hooks public names. A mixin comes before the Trainer among the bases. If a release
renames a hook, lorakit's override would silently never run, so defining such a class then raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from lorakit.private.names import PrivateName, by_name

NAMES = by_name(
    PrivateName(
        "transformers:Trainer._prepare_inputs",
        since="3.0",
        why="moves a micro-batch to where the model is, as the Trainer moves a batch",
        without="an error when the class of such a Trainer is made",
    ),
    PrivateName(
        "transformers:Trainer._get_num_items_in_batch",
        since="5.0",
        why="a step that counts its labels itself has no count made of them",
        without="an error when the class of such a Trainer is made",
    ),
    PrivateName(
        "transformers:Trainer._save",
        since="3.0",
        why="a checkpoint holds what trains and not the frozen base",
        without="an error when the class of such a Trainer is made",
    ),
    PrivateName(
        "transformers:Trainer._save_checkpoint",
        since="3.0",
        why="a checkpoint is marked when all of it is written",
        without="an error when the class of such a Trainer is made",
    ),
    PrivateName(
        "transformers:Trainer._load_from_checkpoint",
        since="4.21",
        why="a run goes on from a checkpoint that holds what trains",
        without="an error when the class of such a Trainer is made",
    ),
    PrivateName(
        "transformers:Trainer._load_best_model",
        since="4.21",
        why="the best checkpoint holds what trains, too",
        without="an error when the class of such a Trainer is made",
    ),
    PrivateName(
        "transformers:PreTrainedConfig._attn_implementation",
        since="4.36",
        why="which attention a model was built with",
        without="the attention stays as it is",
    ),
    PrivateName(
        "transformers:PreTrainedModel._keys_to_ignore_on_load_missing",
        since="3.0",
        why="which weights a checkpoint may lack, as the model computes them itself",
        without="a base that lacks such a weight is not merged from file to file",
    ),
    PrivateName(
        "transformers:PreTrainedModel._is_stateful",
        since="4.45",
        why="a model like Mamba keeps another state than a cache of keys and values",
        without="such a model is taken for one that keeps a cache; generate then refuses it",
    ),
)

CONVERSIONS = by_name(
    PrivateName(
        "transformers.conversion_mapping:get_model_conversion_mapping",
        since="5.0",
        why="the names that modules had in earlier releases, which adapters of that time have",
        without="such an adapter is refused, unless it is loaded with rename=",
    ),
    PrivateName(
        "transformers.core_model_loading:WeightRenaming",
        since="5.0",
        why="which of these conversions are of names alone",
        without="as without the conversions",
    ),
    PrivateName(
        "transformers.core_model_loading:rename_source_key",
        since="5.0",
        why="the name of a weight by these conversions",
        without="as without the conversions",
    ),
    *(
        PrivateName(
            f"transformers.core_model_loading:{name}",
            since="5.0",
            why="which parameters are the weights of earlier releases' experts, stacked",
            without="an adapter of these experts is refused",
        )
        for name in ("WeightConverter", "MergeModulelist", "Concatenate")
    ),
)
"""Public by their names, and of modules that no page of transformers' documents; the core, which
does not import transformers, finds them here."""

MARKS = {
    "_is_hf_initialized": "since 5.0 on each parameter that from_pretrained has loaded; without it "
    "a newly initialized weight is not reported",
    "all_tied_weights_keys": "since 5.0 the names of tied weights, which saving drops and loading "
    "ties; without it a model that `fold` untied says so in its config alone",
}
"""What transformers sets on a model when it is made or loaded, and no class has."""


def is_loaded(parameter: nn.Parameter) -> bool:
    """Whether `from_pretrained` found this parameter in the checkpoint."""
    return bool(getattr(parameter, "_is_hf_initialized", False))


def count_as_loaded(parameter: nn.Parameter) -> None:
    """Let transformers and `is_loaded` take this parameter for one of the checkpoint's."""
    parameter._is_hf_initialized = True  # type: ignore[attr-defined]


def present_names(model: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Name of a module in an earlier transformers -> its name in this model, where it was renamed.

    A name that no conversion is for stays out. Empty for a model that is not of transformers.
    """
    prefix = getattr(model, "base_model_prefix", None)
    conversions = CONVERSIONS["get_model_conversion_mapping"].find() if prefix is not None else None
    renaming, rename = CONVERSIONS["WeightRenaming"].find(), CONVERSIONS["rename_source_key"].find()
    if conversions is None or renaming is None or rename is None:
        return {}
    rules = [rule for rule in conversions(model) if isinstance(rule, renaming)]
    if not rules:
        return {}
    here = model.state_dict()
    found = {}
    for name in names:
        key, _ = rename(f"{name}.weight", rules, [], prefix, here)
        found[name] = key.removesuffix(".weight")
    return {name: new for name, new in found.items() if new != name}


class Stacked(NamedTuple):
    """The parameter that holds the weight of an earlier release's module, one of a stack."""

    parameter: str
    part: int
    """Which of the weights that stand above one another in each matrix of the stack it is."""
    parts: int
    """Their number."""


def stacked_weights(model: nn.Module, names: Iterable[str]) -> dict[str, Stacked | None]:
    """Name of a module in an earlier transformers -> where its weight is in this model.

    None where transformers does more with the weight than to stack it. Names whose weights are by
    themselves stay out.
    """
    conversions = CONVERSIONS["get_model_conversion_mapping"].find()
    classes = [CONVERSIONS[name].find() for name in ("WeightRenaming", "WeightConverter")]
    rename = CONVERSIONS["rename_source_key"].find()
    if None in (conversions, rename, *classes) or not hasattr(model, "base_model_prefix"):
        return {}
    rules = conversions(model)
    renamings, converters = ([r for r in rules if isinstance(r, kind)] for kind in classes)
    here, found = model.state_dict(), {}
    for name in names:
        key, pattern = rename(
            f"{name}.weight", renamings, converters, model.base_model_prefix, here
        )
        rule = next((r for r in converters if pattern in r.source_patterns), None)
        if rule is not None:
            sources = rule.source_patterns
            place = Stacked(key, sources.index(pattern), len(sources))
            found[name] = place if _only_stacks(rule) and key in here else None
    return found


def _only_stacks(rule: Any) -> bool:
    """Whether it stacks weights, of which each may be several above one another."""
    stack, above = (CONVERSIONS[name].find() for name in ("MergeModulelist", "Concatenate"))
    steps = [(type(step), getattr(step, "dim", None)) for step in rule.operations]
    several = len(rule.source_patterns) > 1
    return len(rule.target_patterns) == 1 and steps == [(stack, 0), (above, 1)][: 1 + several]


def tied_weights(module: nn.Module) -> Mapping[str, str]:
    """The names of tied weights, each with the name that it is saved under."""
    tied: Mapping[str, str] = getattr(module, "all_tied_weights_keys", None) or {}
    return tied


def declare_ties(module: nn.Module, tied: Mapping[str, str]) -> None:
    """Let these be its tied weights; every other one is saved and loaded by itself."""
    module.all_tied_weights_keys = dict(tied)  # type: ignore[assignment]


def may_be_missing(model: nn.Module, name: str) -> bool:
    """Whether `from_pretrained` does without this tensor of the model in a checkpoint."""
    if name not in dict(model.named_parameters(remove_duplicate=False)):
        return True
    patterns = getattr(model, "_keys_to_ignore_on_load_missing", None) or ()
    return any(re.search(pattern, name) for pattern in patterns)


def attention_of(model: nn.Module) -> str | None:
    """The attention that the model computes with, as `set_attn_implementation` names it."""
    return getattr(getattr(model, "config", None), "_attn_implementation", None)


def is_stateful(model: nn.Module) -> bool:
    """Whether the model keeps a state that is no cache of keys and values."""
    return bool(getattr(model, "_is_stateful", False))


def _require_hooks(trainer: type, mixin: type, *names: str) -> None:
    """Raise if a hook is in none of the classes that follow `mixin` among the bases."""
    if trainer.__mro__[-2] is mixin:
        return  # a mixin too
    for name in names:
        if not hasattr(super(mixin, trainer), name):
            raise NAMES[name].missing()


class StepHooks:
    """For a Trainer whose steps cut and count their batches themselves."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _require_hooks(cls, StepHooks, "_prepare_inputs", "_get_num_items_in_batch")

    def prepare_inputs(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch where the model is."""
        trainer: Any = self
        prepared: dict[str, Any] = trainer._prepare_inputs(batch)
        return prepared

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> None:
        return None


class CheckpointHooks:
    """For a Trainer whose checkpoints hold what it says, in place of the whole model."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        loading = "_load_from_checkpoint", "_load_best_model"
        _require_hooks(cls, CheckpointHooks, "_save", "_save_checkpoint", *loading)

    def save_weights(self, directory: Path) -> None:
        """Write what a checkpoint keeps of the model; one process does."""
        raise NotImplementedError

    def load_weights(self, checkpoint: Path) -> None:
        """Read it back into the model."""
        raise NotImplementedError

    def load_best_weights(self) -> None:
        """Read back the best checkpoint's, at the end of training."""
        raise NotImplementedError

    def save_checkpoint(self, save: Callable[[], None]) -> None:
        """Around `save`, which writes all of a checkpoint: weights, optimizer, random states."""
        save()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        trainer: Any = self
        if trainer.args.should_save:
            self.save_weights(Path(output_dir or trainer.args.output_dir))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        trainer: Any = super()
        self.save_checkpoint(partial(trainer._save_checkpoint, model, trial))

    def _load_from_checkpoint(self, checkpoint: str, model: nn.Module | None = None) -> None:
        self.load_weights(Path(checkpoint))

    def _load_best_model(self) -> None:
        self.load_best_weights()
