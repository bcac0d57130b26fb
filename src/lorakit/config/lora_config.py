"""`LoraConfig`: which modules are adapted, and how; frozen and validated on construction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

from lorakit.config.attention import roles_problem
from lorakit.config.patterns import Pattern, key_problems, pattern_problem
from lorakit.config.plain_keys import is_plain
from lorakit.config.slices import Slice, normalised_slices
from lorakit.config.token_rows import normalised_rows
from lorakit.config.values import is_index, is_name, is_number
from lorakit.errors import ConfigError

Bias = Literal["none", "all", "lora_only"]
BIASES: tuple[Bias, ...] = ("none", "all", "lora_only")

INITIALISERS = (True, False, "gaussian")

ALL_LINEAR = "all-linear"

LARGEST_RANK = 2**16
"""More than any weight's smaller side, beyond which a rank adds nothing."""


class _AsVariant:
    """The default of `use_dora`, which a config never keeps: `variant` decides."""

    def __repr__(self) -> str:
        return "False"


_AS_VARIANT: Any = _AsVariant()

_NAME_LISTS = (
    "target_modules", "target_parameters", "exclude_modules", "modules_to_save", "layers_pattern",
)  # fmt: skip
"""Fields of which each may list names."""


@dataclass(frozen=True)
class LoraConfig:
    """Which modules get an update `scaling * B @ A` of their weight, and how.

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
    "all-linear" (every linear layer of the backbone), or "attention:" with the letters of some of
    attention's projections, q, k, v and o, by their roles in the architectures that lorakit knows.
    None: the paper's query and value there, "attention:qv". An empty list: none, where
    `target_parameters` has what is adapted."""

    exclude_modules: str | Sequence[str] | None = None
    """Left out of what `target_modules` matched; suffixes or a regular expression."""

    layers_to_transform: int | Sequence[int] | None = None
    """Only these layers, by the first number in a module's name; modules whose full names are in
    the list `target_modules` stay."""

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

    use_dora: bool = _AS_VARIANT
    """Train the magnitude of each row of the weight as a vector of its own; A and B then only
    change the direction (DoRA, arXiv 2402.09353). For nn.Linear and GPT-2's Conv1D, not in slices.
    The same as `variant="dora"`."""

    init_lora_weights: bool | Literal["gaussian"] = True
    """True: A is Kaiming-uniform, B zero. "gaussian": A is normal with deviation 1/r, B zero.
    False: both random, so the update is not zero (for tests)."""

    merge_weights: bool = False
    """In eval mode, cache the merged weight `W + scaling * B @ A` for forwards without gradients,
    which takes the memory of the adapted weights once more. See also `lorakit.merged`."""

    slices: Mapping[str, Sequence[bool | Slice]] = field(default_factory=dict)
    """For modules with several projections in one weight: suffix of the name -> which slices of
    the output are adapted, each with its own A and B. `[True, False, True]` is three equal slices;
    `[(2048, True), (512, False), (512, True)]` gives their heights. Stored as such pairs, with
    height None for an equal slice."""

    variant: str = "lora"
    """The adapter variant: "lora", "dora", "lora_bias" (a bias beside A and B, PEFT's `lora_bias`),
    or one registered with `lorakit.variants.register`."""

    layers_pattern: str | Sequence[str] | None = None
    """The names of the lists of layers ("layers", "h"): `layers_to_transform` then means the first
    number right after one of them."""

    trainable_token_indices: Sequence[int] | Mapping[str, Sequence[int]] | None = None
    """Tokens, such as added ones, whose rows of the vocabulary are trained and saved: of the input
    embeddings, and of the head where it is tied to them. A dict names modules, by their name or
    dotted suffix, and the tokens of each."""

    target_parameters: Sequence[str] | None = None
    """Names or dotted suffixes of parameters that are adapted by themselves, in two or three
    dimensions: the experts of a mixture, `["experts.gate_up_proj", "experts.down_proj"]`, each
    expert with its own A and B. `exclude_modules` and `layers_to_transform` do not apply to them,
    as in PEFT, and `lora_dropout` has to be 0."""

    def __post_init__(self) -> None:
        problems = self._normalise() + self._variant_problems()
        problems += [*self._range_problems(), *self._pattern_problems()]
        for name, normalised in (
            ("slices", normalised_slices),
            ("trainable_token_indices", normalised_rows),
        ):
            value, wrong = normalised(getattr(self, name))
            object.__setattr__(self, name, value)
            problems += wrong
        if problems:
            raise ConfigError("Invalid LoraConfig:", problems)

    def rank_of(self, name: str) -> int:
        """The rank for the module of this name."""
        return self.ranks_of([name])[name]

    def alpha_of(self, name: str) -> float:
        """The `lora_alpha` for the module of this name."""
        return self.alphas_of([name])[name]

    def ranks_of(self, names: Sequence[str]) -> dict[str, int]:
        """The rank for each of these modules; faster than one after the other."""
        return self._ranks.of(names, self.r)

    def alphas_of(self, names: Sequence[str]) -> dict[str, float]:
        """The `lora_alpha` for each of these modules."""
        return self._alphas.of(names, self.lora_alpha)

    def unmatched_keys(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """(field, key) of every pattern key that matches none of these modules."""
        ranks = [("rank_pattern", key) for key in self._ranks.without_match(names)]
        return ranks + [("alpha_pattern", key) for key in self._alphas.without_match(names)]

    @cached_property
    def _ranks(self) -> Pattern[int]:
        return Pattern(self.rank_pattern)

    @cached_property
    def _alphas(self) -> Pattern[float]:
        return Pattern(self.alpha_pattern)

    def replace(self, **changes: Any) -> LoraConfig:
        """A copy with some fields changed; `use_dora` and `variant` follow each other."""
        if "use_dora" in changes or "variant" in changes:
            changes = {"use_dora": _AS_VARIANT, "variant": "lora"} | changes
        return LoraConfig(**{f.name: getattr(self, f.name) for f in fields(self)} | changes)

    def _normalise(self) -> list[str]:
        """Copy fields as tuples and dicts; one of the wrong type is reported and emptied."""
        problems = []
        if isinstance(self.layers_pattern, str):
            object.__setattr__(self, "layers_pattern", (self.layers_pattern,))
        for name in (*_NAME_LISTS, "layers_to_transform"):
            value: Any = getattr(self, name)
            if value is None or isinstance(value, str):
                continue
            if isinstance(value, int) and name == "layers_to_transform":
                continue
            if not isinstance(value, Iterable):
                problems.append(f"{name} is {value!r}; it must be a list")
                value = None
            object.__setattr__(self, name, None if value is None else tuple(value))
        for name in ("rank_pattern", "alpha_pattern", "slices"):
            value = getattr(self, name)
            if not isinstance(value, Mapping) or not all(map(is_name, value)):
                problems.append(f"{name} is {value!r}; it must be a dict keyed by module name")
                value = {}
            object.__setattr__(self, name, dict(value))
        return problems

    def _variant_problems(self) -> list[str]:
        """Make `use_dora` and `variant` agree; returns what is wrong with them."""
        if self.use_dora is _AS_VARIANT:
            object.__setattr__(self, "use_dora", self.variant == "dora")
        if not is_name(self.variant):
            return [f"variant is {self.variant!r}; it must be a name such as 'lora' or 'dora'"]
        contrary = {True: self.variant not in ("lora", "dora"), False: self.variant == "dora"}
        if isinstance(self.use_dora, bool) and contrary[self.use_dora]:
            return [
                f"use_dora={self.use_dora} contradicts variant={self.variant!r}; set only one of "
                "them"
            ]
        if self.use_dora is True:
            object.__setattr__(self, "variant", "dora")
        return []

    def _range_problems(self) -> list[str]:
        ranks = {"r": self.r, **{f"rank_pattern[{k!r}]": v for k, v in self.rank_pattern.items()}}
        alphas = {
            "lora_alpha": self.lora_alpha,
            **{f"alpha_pattern[{k!r}]": v for k, v in self.alpha_pattern.items()},
        }
        problems = [
            f"{name} is {value!r}; it must be an integer >= 1 and <= {LARGEST_RANK}"
            for name, value in ranks.items()
            if type(value) is not int or not 1 <= value <= LARGEST_RANK
        ]
        problems += [
            f"{name} is {value!r}; it must be a number > 0"
            for name, value in alphas.items()
            if not is_number(value) or value <= 0
        ]
        if not is_number(self.lora_dropout) or not 0 <= self.lora_dropout < 1:
            problems.append(f"lora_dropout is {self.lora_dropout!r}; it must be in [0, 1)")
        layers: Any = self.layers_to_transform
        numbers = [layers] if isinstance(layers, int) else layers
        if numbers is not None and not (numbers and all(map(is_index, numbers))):
            problems.append(
                f"layers_to_transform is {layers!r}; it must be one or more integers >= 0"
            )
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
            problems.append("use_dora adapts whole weights and cannot be combined with slices")
        return problems

    def _pattern_problems(self) -> list[str]:
        problems = []
        for name in _NAME_LISTS:
            value = getattr(self, name)
            if value == () and name == "target_modules" and self.target_parameters:
                continue
            if isinstance(value, tuple) and (not value or not all(map(is_name, value))):
                problems.append(f"{name} is {value!r}; it must be None or list at least one name")
        problems += [
            f"{name} is a string; it must be a list: [{value!r}]"
            for name in ("modules_to_save", "target_parameters")
            if isinstance(value := getattr(self, name), str)
        ]
        lists = self.layers_pattern or ()
        if not all(is_plain(name) for name in lists if is_name(name)):
            problems.append(f"layers_pattern is {lists!r}; it must list names such as 'layers'")
        elif all(map(is_name, lists)) and lists and self.layers_to_transform is None:
            problems.append("layers_pattern has no effect without layers_to_transform")
        if (problem := roles_problem(self.target_modules)) is not None:
            problems.append(problem)
        patterns = [
            (name, pattern_problem(value))
            for name in ("target_modules", "exclude_modules")
            if isinstance(value := getattr(self, name), str)
        ]
        patterns += [("rank_pattern", problem) for problem in key_problems(self.rank_pattern)]
        patterns += [("alpha_pattern", problem) for problem in key_problems(self.alpha_pattern)]
        return problems + [f"{name}: {problem}" for name, problem in patterns if problem]
