"""Resolve a LoraConfig on a model; every mistake is found before anything changes.

Matching follows PEFT: a name in a list matches the whole name or a dotted suffix, one string is a
regular expression for the whole name, and a pattern key matches `(.*\\.)?key`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

from torch import nn

from lorakit.config import ALL_LINEAR, LoraConfig
from lorakit.config.attention import attention_roles
from lorakit.config.expressions import parse
from lorakit.config.places import Text
from lorakit.errors import SUGGESTIONS, TargetError, suggest
from lorakit.injection.selection.architectures import (
    Parts,
    attention_targets,
    backbone,
    default_targets,
)
from lorakit.injection.selection.naming import (
    ending_in_any,
    layer_index,
    names_by_suffix,
    within,
    within_any,
)
from lorakit.injection.selection.parameters import parameter_targets, twice
from lorakit.injection.selection.selected import Selection, Target
from lorakit.injection.selection.sites import site_of
from lorakit.injection.selection.token_rows import token_targets
from lorakit.injection.selection.trained_in_full import newly_initialized, tensors_in_full
from lorakit.injection.selection.vocabulary import new_rows, output_embeddings
from lorakit.layer_groups import group_layers, without_indices
from lorakit.layers import conversion, refusals
from lorakit.layers.parameter import ModuleParameter
from lorakit.layers.readers import reader_problem
from lorakit.variants import VARIANTS, adapter_specs
from lorakit.variants.registry import variant_problem


def select(model: nn.Module, config: LoraConfig) -> Selection:
    """Resolve `config` on `model`.

    Raises TargetError that lists every pattern without a match and every module that cannot be
    adapted as asked.
    """
    finder = _Finder(model, config)
    if not finder.modules:
        raise TargetError(
            f"This {type(model).__name__} has no submodules, and the root module has no name that "
            "target_modules could match; wrap it: nn.Sequential(module)."
        )
    names = finder.target_names()
    targets = finder.specify(names)
    rows, wrong = token_targets(model, config, names, finder.saved)
    targets += rows
    trained = tensors_in_full(model, config, finder.saved_modules, [t.module for t in targets])
    finder.module_problems += [*wrong, *newly_initialized(model, trained)]
    problems = finder.problems + group_layers(finder.module_problems)
    if not names and not problems:
        problems.append("no target module is left after exclude_modules and layers_to_transform")
    if problems:
        raise TargetError(f"This LoraConfig does not fit {type(model).__name__}:", problems)
    return Selection(tuple(targets), tuple(trained))


def target_names(model: nn.Module, config: LoraConfig) -> tuple[list[str], list[str]]:
    """Names of the target modules in this model, adapted or not, and all problems."""
    finder = _Finder(model, config)
    return finder.target_names(), finder.problems


def untrained_rows(model: nn.Module, config: LoraConfig) -> dict[str, range]:
    """The rows that resizing has made, by module, where the config adapts and trains no weight."""
    finder = _Finder(model, config)
    adapted = set(finder.target_names())
    saved = set(finder.saved)
    return {
        name: rows
        for name, rows in new_rows(model).items()
        if name not in adapted and not within_any(name, saved)
    }


@dataclass
class _Finder:
    model: nn.Module
    config: LoraConfig
    problems: list[str] = field(default_factory=list)
    module_problems: list[tuple[str, str]] = field(default_factory=list)
    """(name, what is wrong with it) pairs."""
    saved: list[str] = field(default_factory=list)
    """The names that `modules_to_save` matches, once `target_names` has run."""

    def __post_init__(self) -> None:
        everything = self.model.named_modules(remove_duplicate=False)
        self.modules = {n: m for n, m in everything if n and not isinstance(m, ModuleParameter)}
        given = self.config.target_modules
        roles = attention_roles(given)
        self.by_role = given is None or roles is not None
        """Whether names come from the table of architectures."""
        self.attention = (
            default_targets(self.model) if roles is None else attention_targets(self.model, roles)
        )

    @property
    def saved_modules(self) -> list[nn.Module]:
        """The modules that `modules_to_save` matches."""
        return [self.modules[name] for name in self.saved]

    # --- names

    def target_names(self) -> list[str]:
        self.saved = self._saved_names()
        names = self._with_out_proj(self._not_saved(self._included()))
        if self.config.exclude_modules is not None:
            everything = [name for name in self.modules if self._has_weight(name)]
            given = self.config.exclude_modules
            excluded = set(self._matching("exclude_modules", given, everything))
            names = [name for name in names if name not in excluded]
        if self.config.layers_to_transform is not None:
            names = self._in_layers(names, self.config.layers_to_transform)
        return self._distinct(names) + self._parameters()

    def _parameters(self) -> list[str]:
        """The names that `target_parameters` matches; from here on they are modules, too."""
        endings = self.config.target_parameters or ()
        found, problems = parameter_targets(self.model, endings)
        self.problems += problems
        names = self._not_saved(found)
        self.modules |= {name: found[name] for name in names}
        return names

    def _not_saved(self, names: Iterable[str]) -> list[str]:
        """Those that are not in `modules_to_save`, where they train in full."""
        saved = set(self.saved)
        return [name for name in names if not within_any(name, saved)]

    def _included(self) -> list[str]:
        patterns = self.config.target_modules
        if patterns == ALL_LINEAR:
            return self._all_linear()
        if patterns is not None and not self.by_role:
            return self._matching("target_modules", patterns, list(self.modules))
        if self.attention is None and self.config.target_parameters:
            return []
        if self.attention is None:
            kind = getattr(getattr(self.model, "config", None), "model_type", None)
            what = f"model_type {kind!r}" if kind else "a model without a transformers config"
            lacking = "default" if patterns is None else "table of attention's projections"
            self.problems.append(
                f"target_modules is {patterns}, and there is no {lacking} for {what}; set it "
                "(`lorakit.targets(model)` lists the candidates)"
            )
            return []
        return self._matching("target_modules", self.attention.modules, self._in_backbone())

    def _in_backbone(self) -> list[str]:
        """The names of all modules, without the head of a transformers model."""
        body = backbone(self.model)
        return [name for name in self.modules if body is None or within(name, body)]

    def _all_linear(self) -> list[str]:
        names = [n for n in self._in_backbone() if conversion.is_linear(self.modules[n])]
        head = output_embeddings(self.model)
        names = [name for name in names if self.modules[name] is not head]
        if not names:
            self.problems.append("target_modules is 'all-linear', but there is no linear layer")
        return names

    def _matching(self, field: str, patterns: Iterable[str] | str, names: list[str]) -> list[str]:
        """The `names` that the patterns match; a pattern that matches none is a problem."""
        if isinstance(patterns, str):
            found = [n for n in Text(names).fitting(parse(patterns)) if self._has_weight(n)]
            if not found:
                self.problems.append(
                    f"{field}: the regular expression {patterns!r} matches no layer; a string has "
                    f"to match the full module name; to match a suffix, use the list [{patterns!r}]"
                )
            return found
        hits = names_by_suffix(names, patterns)
        for n, pattern in enumerate(pattern for pattern in hits if not hits[pattern]):
            near = suggest(pattern, self._candidates) if n < SUGGESTIONS else ""
            self.problems.append(f"{field}: {pattern!r} matches no module{near}")
        return ending_in_any(names, hits)

    @cached_property
    def _candidates(self) -> list[str]:
        """Candidates for suggestions: last parts of names, full names without layer numbers."""
        endings = {name.rpartition(".")[2] for name in self.modules}
        return sorted(endings | set(map(without_indices, self.modules)))

    def _has_weight(self, name: str) -> bool:
        """Whether it has parameters of its own: a regular expression matches containers too."""
        return any(p is not None for p in self.modules[name]._parameters.values())

    def _with_out_proj(self, names: list[str]) -> list[str]:
        """Targeting an attention module adapts both of its projections, as in PEFT."""
        result = dict.fromkeys(names)
        for name in names:
            if isinstance(self.modules[name], nn.MultiheadAttention):
                result[f"{name}.out_proj"] = None
        return list(result)

    def _in_layers(self, names: list[str], wanted: int | Iterable[int]) -> list[str]:
        layers = {wanted} if isinstance(wanted, int) else set(wanted)
        index = {name: layer_index(name, self.config.layers_pattern) for name in names}
        present = set(index.values())
        if absent := sorted(layers - present):
            there = sorted(index for index in present if index is not None)
            self.problems.append(
                f"layers_to_transform: no target module in layer {', '.join(map(str, absent))}; "
                f"found layers {', '.join(map(str, there)) or 'none'}"
            )
        given = self.config.target_modules
        in_full = set() if given is None or isinstance(given, str) else set(given)
        return [name for name in names if index[name] in layers or name in in_full]

    def _distinct(self, names: list[str]) -> list[str]:
        """One name per module object."""
        return list({id(self.modules[name]): name for name in reversed(names)}.values())[::-1]

    # --- settings

    def specify(self, names: list[str]) -> list[Target]:
        by_role = self.attention.slices if self.by_role and self.attention else {}
        given = cast("Mapping[str, Parts]", self.config.slices)
        parts = {**given, **by_role, **given}  # the first key that fits counts
        self.problems += [
            f"{field}: {key!r} matches none of the target modules"
            for field, key in self.config.unmatched_keys(names)
        ]
        self.problems += [
            f"slices: {suffix!r} matches none of the target modules"
            for suffix, hits in names_by_suffix(names, parts).items()
            if not hits
        ]
        variant = VARIANTS.get(self.config.variant)
        if variant is None:
            self.problems.append(str(variant_problem(self.config.variant)))
            return []
        targets, specs = [], adapter_specs(self.config, names)
        adapted = {id(self.modules[name]) for name in names}
        for name in names:
            site, module = None, self.modules[name]
            reason = refusals.refusal(module) or twice(module, adapted)
            reason = reason or self._reading_problem(name)
            if reason is None:
                site, reason = site_of(name, module, parts)
            if site is not None:
                reason = variant.refusal(site) or site.rank_problem(specs[name].r)
            if reason is not None:
                self.module_problems.append((name, reason))
            elif site is not None:
                targets.append(Target(name, module, specs[name], site))
        return targets

    def _reading_problem(self, name: str) -> str | None:
        """Why it cannot be adapted with this dropout, or because its weight is read directly."""
        dropout = self.config.lora_dropout
        if dropout and isinstance(self.modules[name], nn.MultiheadAttention):
            text = "is an nn.MultiheadAttention, which does not support dropout"
            return f"{text}; lora_dropout must be 0"
        if dropout and isinstance(self.modules[name], ModuleParameter):
            return "has no input that could be dropped; lora_dropout must be 0"
        if dropout and not VARIANTS[self.config.variant].takes_dropout:
            text = f"has variant {self.config.variant}, which does not support dropout"
            return f"{text}; lora_dropout must be 0"
        parent, _, child = name.rpartition(".")
        changes_bias = VARIANTS[self.config.variant].changes_bias
        return reader_problem(self.model.get_submodule(parent), child, dropout, changes_bias)

    # --- modules_to_save

    def _saved_names(self) -> list[str]:
        if self.config.modules_to_save is None:
            return []
        names = self._matching("modules_to_save", self.config.modules_to_save, list(self.modules))
        for name in names:
            if not any(True for _ in self.modules[name].parameters()):
                self.module_problems.append((name, "is in modules_to_save, but has no parameters"))
        return names
