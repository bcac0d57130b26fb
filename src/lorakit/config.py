"""What is adapted, and how: one frozen value, checked when it is made, standard library only."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

from lorakit.errors import ConfigError

T = TypeVar("T")

Bias = Literal["none", "all", "lora_only"]
BIASES: tuple[Bias, ...] = ("none", "all", "lora_only")

INITIALISERS = (True, False, "gaussian")

Slice = tuple[int | None, bool]
"""Height of one slice of a fused weight (None: an equal share), and whether it is adapted."""

ALL_LINEAR = "all-linear"


@dataclass(frozen=True)
class LoraConfig:
    """Which modules get an update `scaling * B @ A` beside their weight, and of what kind.

    The field names are PEFT's, so a config reads the same in both libraries.

    >>> config = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"],
    ...                     rank_pattern={"layer.0.*query": 4})
    >>> config.rank_of("encoder.layer.0.attention.query"), config.rank_of("encoder.layer.1.query")
    (4, 8)
    """

    r: int = 8
    """Rank of the update: A is (r, in), B is (out, r)."""

    lora_alpha: float = 8
    """Numerator of the scale; `scaling = lora_alpha / r` (LoRA, arXiv 2106.09685, section 4.1)."""

    lora_dropout: float = 0.0
    """Probability with which an input of A is zeroed in training."""

    target_modules: str | Sequence[str] | None = None
    """Names or dotted suffixes; one string is a regular expression for the whole name, or
    "all-linear" (every linear layer of the backbone). None: the paper's query and value, for
    the architectures that lorakit knows."""

    exclude_modules: str | Sequence[str] | None = None
    """Left out of what `target_modules` matched; suffixes or a regular expression."""

    layers_to_transform: int | Sequence[int] | None = None
    """Only these layers: the first number in a module's name."""

    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    """Rank for the modules whose name matches the key (a regular expression or a suffix)."""

    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    """`lora_alpha` for the modules whose name matches the key."""

    modules_to_save: Sequence[str] | None = None
    """Modules that are trained in full and saved with the adapter, such as a new head."""

    bias: Bias = "none"
    """Which biases train: "none", "all" of the model's, or "lora_only" those of adapted modules."""

    use_rslora: bool = False
    """`scaling = lora_alpha / sqrt(r)` (rsLoRA, arXiv 2312.03732)."""

    use_dora: bool = False
    """Learn the length of each row of the weight apart from its direction, which A and B turn
    (DoRA, arXiv 2402.09353). For linear layers and GPT-2's Conv1D, whole and not in slices. The
    same as `variant="dora"`."""

    variant: str = "lora"
    """The kind of adapter: "lora", "dora", or a name given to `lorakit.variants.register`."""

    init_lora_weights: bool | Literal["gaussian"] = True
    """True: A is Kaiming-uniform, B zero. "gaussian": A is normal with deviation 1/r, B zero.
    False: both random, so the update is not zero (for tests)."""

    merge_weights: bool = False
    """Let `eval()` keep `W + scaling * B @ A` as a cache for forwards without gradient, at the
    price of the adapted weights once more in memory. See also `lorakit.merged`."""

    slices: Mapping[str, Sequence[bool | Slice]] = field(default_factory=dict)
    """For modules that hold several projections in one weight: the name's suffix -> which parts
    of the output get a low-rank pair of their own. `[True, False, True]` is three equal parts;
    `[(2048, True), (512, False), (512, True)]` gives their heights. Kept as such pairs, with
    height None for an equal part."""

    def __post_init__(self) -> None:
        problems = self._normalise() + self._variant_problems()
        problems += [*self._range_problems(), *self._pattern_problems()]
        slices, slice_problems = _normalised_slices(self.slices)
        object.__setattr__(self, "slices", slices)
        if problems + slice_problems:
            raise ConfigError("This LoraConfig cannot work:", problems + slice_problems)

    def rank_of(self, name: str) -> int:
        """The rank for the module of this name."""
        return self._ranks.of(name, self.r)

    def alpha_of(self, name: str) -> float:
        """The `lora_alpha` for the module of this name."""
        return self._alphas.of(name, self.lora_alpha)

    def unmatched_keys(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """(field, key) of every pattern's key that means none of these modules."""
        ranks = [("rank_pattern", key) for key in self._ranks.without_match(names)]
        return ranks + [("alpha_pattern", key) for key in self._alphas.without_match(names)]

    @cached_property
    def _ranks(self) -> _Pattern[int]:
        return _Pattern(self.rank_pattern)

    @cached_property
    def _alphas(self) -> _Pattern[float]:
        return _Pattern(self.alpha_pattern)

    def replace(self, **changes: Any) -> LoraConfig:
        """A copy with some fields changed; `use_dora` and `variant` follow each other."""
        if "use_dora" in changes or "variant" in changes:
            changes = {"use_dora": False, "variant": "lora"} | changes
        return LoraConfig(**{f.name: getattr(self, f.name) for f in fields(self)} | changes)

    def _normalise(self) -> list[str]:
        """Own copies, as tuples and dicts; a field that cannot be read as one counts as empty."""
        problems = []
        for name in ("target_modules", "exclude_modules", "modules_to_save", "layers_to_transform"):
            value: Any = getattr(self, name)
            if value is None or isinstance(value, str):
                continue
            if isinstance(value, int) and name == "layers_to_transform":
                continue
            if not isinstance(value, Iterable):
                problems.append(f"{name} is {value!r}; write a list")
                value = None
            object.__setattr__(self, name, None if value is None else tuple(value))
        for name in ("rank_pattern", "alpha_pattern", "slices"):
            value = getattr(self, name)
            if not isinstance(value, Mapping) or not all(map(_is_name, value)):
                problems.append(f"{name} is {value!r}; write a mapping from names")
                value = {}
            object.__setattr__(self, name, dict(value))
        return problems

    def _variant_problems(self) -> list[str]:
        """Make `use_dora` and `variant` say the same; what is wrong with them."""
        if not _is_name(self.variant):
            return [f"variant is {self.variant!r}; it must be the name of a kind of adapter"]
        if self.use_dora is True and self.variant not in ("lora", "dora"):
            return [f"use_dora is True, and variant is {self.variant!r}; leave one of them out"]
        if self.use_dora is True:
            object.__setattr__(self, "variant", "dora")
        elif self.use_dora is False:
            object.__setattr__(self, "use_dora", self.variant == "dora")
        return []

    def _range_problems(self) -> list[str]:
        ranks = {"r": self.r, **{f"rank_pattern[{k!r}]": v for k, v in self.rank_pattern.items()}}
        alphas = {
            "lora_alpha": self.lora_alpha,
            **{f"alpha_pattern[{k!r}]": v for k, v in self.alpha_pattern.items()},
        }
        problems = [
            f"{name} is {value!r}; a rank is a whole number from 1 upwards"
            for name, value in ranks.items()
            if not isinstance(value, int) or isinstance(value, bool) or value < 1
        ]
        problems += [
            f"{name} is {value!r}; it must be a number above 0"
            for name, value in alphas.items()
            if not is_number(value) or value <= 0
        ]
        if not is_number(self.lora_dropout) or not 0 <= self.lora_dropout < 1:
            problems.append(f"lora_dropout is {self.lora_dropout!r}; it must be in [0, 1)")
        layers: Any = self.layers_to_transform
        numbers = [layers] if isinstance(layers, int) else layers
        if numbers is not None and not (numbers and all(map(_is_index, numbers))):
            problems.append(f"layers_to_transform is {layers!r}; write whole numbers from 0")
        if self.bias not in BIASES:
            problems.append(f"bias is {self.bias!r}; it must be one of {', '.join(BIASES)}")
        if self.init_lora_weights not in INITIALISERS:
            choices = ", ".join(map(repr, INITIALISERS))
            problems.append(
                f"init_lora_weights is {self.init_lora_weights!r}; it must be one of {choices}"
            )
        problems += [
            f"{name} is {value!r}; it must be True or False"
            for name in ("use_rslora", "use_dora", "merge_weights")
            if not isinstance(value := getattr(self, name), bool)
        ]
        if self.use_dora and self.slices:
            problems.append("use_dora is for whole weights, and slices gives parts of some a pair")
        return problems

    def _pattern_problems(self) -> list[str]:
        problems = []
        for name in ("target_modules", "exclude_modules", "modules_to_save"):
            value = getattr(self, name)
            if isinstance(value, tuple) and (not value or not all(map(_is_name, value))):
                problems.append(f"{name} is {value!r}; list at least one module name, or leave it")
        if isinstance(self.modules_to_save, str):
            problems.append(f"modules_to_save is a string; write [{self.modules_to_save!r}]")
        regexes = [
            (name, value)
            for name in ("target_modules", "exclude_modules")
            if isinstance(value := getattr(self, name), str)
        ]
        regexes += [("rank_pattern", key) for key in self.rank_pattern]
        regexes += [("alpha_pattern", key) for key in self.alpha_pattern]
        for name, pattern in regexes:
            try:
                re.compile(pattern)
                re.compile(_key_regex(pattern) if name.endswith("pattern") else "")
            except re.error as error:
                problems.append(f"{name}: {pattern!r} is not a regular expression ({error})")
        return problems


def scaling(r: int, lora_alpha: float, use_rslora: bool) -> float:
    """`lora_alpha / r`, or `lora_alpha / sqrt(r)` for rsLoRA (arXiv 2312.03732, section 3.2)."""
    return lora_alpha / (r**0.5 if use_rslora else r)


def alpha_for(scale: float, r: int, use_rslora: bool) -> float:
    """The `lora_alpha` that gives `scale` at rank `r`; a whole number stays one."""
    alpha = scale * (r**0.5 if use_rslora else r)
    return int(alpha) if alpha == int(alpha) else alpha


def is_bias(leaf: str) -> bool:
    """Whether a parameter of this name is a bias vector.

    Such are `bias`, attention's `in_proj_bias` and `bias_k`, an LSTM's `bias_ih_l0`. The tables of
    relative positions (Swin's `relative_position_bias_table`) are not.
    """
    return leaf == "bias" or leaf.startswith("bias_") or leaf.endswith("_bias")


def is_number(value: object) -> bool:
    """Whether this is a finite number, and not a boolean."""
    return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)


def _key_regex(key: str) -> str:
    return rf"(.*\.)?({key})"


class _Pattern(Generic[T]):
    """A value by module name: that of the first key that means the module.

    A key is a regular expression or a dotted suffix. One that spells a whole name, `^` and the
    escaped name, is looked up; a file may have one for each module.
    """

    def __init__(self, given: Mapping[str, T]) -> None:
        self._values = list(given.values())
        self._positions: dict[str, int] = {}
        """Whole name -> the position of its key."""
        self._regexes: list[tuple[int, str, re.Pattern[str]]] = []
        self._spelt: dict[str, str] = {}
        for position, key in enumerate(given):
            name = _spelt_name(key)
            if name is None:
                self._regexes.append((position, key, re.compile(_key_regex(key))))
            else:
                self._positions[name] = position
                self._spelt[name] = key

    def of(self, name: str, default: T) -> T:
        """The value for this module."""
        found = self._positions.get(name, len(self._values))
        for position, _, regex in self._regexes:
            if position > found:
                break
            if regex.fullmatch(name):
                return self._values[position]
        return self._values[found] if found < len(self._values) else default

    def without_match(self, names: Sequence[str]) -> list[str]:
        """The keys that mean none of these modules."""
        missing = [self._spelt[name] for name in self._spelt.keys() - set(names)]
        regexes = self._regexes
        return missing + [key for _, key, regex in regexes if not any(map(regex.fullmatch, names))]


def _spelt_name(key: str) -> str | None:
    """The one name that a key means as `^` and that name, escaped; None for any other key."""
    name = re.sub(r"\\(.)", r"\1", key[1:])
    return name if key == "^" + re.escape(name) else None


def _is_index(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _normalised_slices(
    given: Mapping[str, Sequence[Any]],
) -> tuple[dict[str, tuple[Slice, ...]], list[str]]:
    """Each value as a tuple of (height or None, adapted); what cannot be read as that."""
    slices: dict[str, tuple[Slice, ...]] = {}
    problems = []
    for name, parts in given.items():
        listed = isinstance(parts, list | tuple)
        pairs = [(None, p) if isinstance(p, bool) else p for p in (parts if listed else ())]
        readable = listed and all(
            isinstance(pair, list | tuple)
            and len(pair) == 2
            and isinstance(pair[1], bool)
            and (pair[0] is None or (type(pair[0]) is int and pair[0] > 0))
            for pair in pairs
        )
        if not readable or len({pair[0] is None for pair in pairs}) > 1:
            problems.append(
                f"slices[{name!r}] is {parts!r}; write booleans for equal parts, "
                "or (height, boolean) pairs"
            )
        elif not any(pair[1] for pair in pairs):
            problems.append(f"slices[{name!r}] adapts none of its {len(pairs)} parts")
        else:
            slices[name] = tuple((pair[0], pair[1]) for pair in pairs)
    return slices, problems
