"""The report of `inject`, as a value and as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from lorakit.functional.slices import Slices
from lorakit.injection import trained_copies
from lorakit.injection.selection.vocabulary import new_rows
from lorakit.layer_groups import ranges, without_indices
from lorakit.layers.base import AdapterLayer
from lorakit.layers.conversion import class_name, lora_layers
from lorakit.surgery.additions import added_names
from lorakit.surgery.ties import tied_names
from lorakit.text import table
from lorakit.variants import VARIANTS

_NAMED = 6
"""How many items of a note are named; full fine-tuning has dozens of tensors."""


@dataclass(frozen=True)
class AdaptedLayer:
    """One adapted layer."""

    name: str
    type: str
    """Its class before."""
    weight_shape: tuple[int, ...]
    r: int
    scaling: float
    parameters: int
    max_rank: int
    slices: Slices | None
    variant: str
    """The variant of its adapter: "lora", "dora", ..."""


@dataclass(frozen=True)
class Report:
    """What is adapted, what trains, and what is frozen without an adapter; `print` shows tables."""

    model: str
    layers: tuple[AdaptedLayer, ...]
    adapter_parameters: int
    """Parameters of the adapters, and of what else the method trains (`own`), heads apart."""
    trained: dict[str, int]
    """Tensors that are trained in full (heads, biases), and their number of parameters."""
    total_parameters: int
    """All of the model's parameters, without A and B."""
    uncovered: dict[str, int]
    """Frozen weights of two or more dimensions without an adapter, such as MoE experts."""
    tied: tuple[tuple[str, ...], ...] = field(default=())
    """Groups of tied parameters with one of an adapted layer; only that layer's output changes."""
    untied: tuple[tuple[str, ...], ...] = field(default=())
    """Groups of parameters that were tied until the first ones, or all, became trainable copies."""
    random_rows: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Frozen rows of the vocabulary that the checkpoint lacks, by module: made by
    `resize_token_embeddings`, and other ones each time. `trainable_token_indices` trains them."""
    own: dict[str, int] = field(default_factory=dict)
    """What a method other than LoRA trains, heads apart (added modules, a base's biases or layers),
    and its number of parameters."""
    frozen_adapter_parameters: int = 0
    """Frozen parameters of the adapters; a variant may keep some at their initial values."""

    @property
    def trainable_parameters(self) -> int:
        """Trainable parameters of the adapters, and those trained in full."""
        adapters = self.adapter_parameters - self.frozen_adapter_parameters
        return adapters + sum(self.trained.values())

    @property
    def _trained_apart(self) -> list[tuple[str, ...]]:
        """The groups of `untied` whose every parameter is trained."""
        return [names for names in self.untied if self.trained.keys() >= set(names)]

    @property
    def above_max_rank(self) -> tuple[str, ...]:
        """Layers whose rank is above min(in, out), which costs time and adds nothing."""
        return tuple(layer.name for layer in self.layers if layer.r > layer.max_rank)

    def __str__(self) -> str:
        share = self.trainable_parameters / max(1, self.total_parameters)
        lines = [
            f"{self.model}: {self.trainable_parameters:,} trainable parameters, "
            f"{self.total_parameters:,} base parameters ({share:.2%})",
            *(["", *_layer_table(self.layers)] if self.layers else []),
        ]
        notes = {
            "trained by the method": _sizes(self.own),
            "trained in full": _sizes(self.trained),
            "frozen, without adapter": _sizes(self.uncovered),
            "rank above min(in, out)": _layers(self.above_max_rank),
            "random and frozen, rows that the checkpoint lacks (trainable_token_indices trains "
            "them)": [f"{name} {ranges(rows)}" for name, rows in self.random_rows.items()],
            "tied weights, only one of them adapted": [" = ".join(names) for names in self.tied],
            "no longer tied, the first is trained": [
                " = ".join(names) for names in self.untied if names not in self._trained_apart
            ],
            "no longer tied, each is trained": [" = ".join(names) for names in self._trained_apart],
        }
        lines += [
            f"{title}: {', '.join(_shortened(found))}" for title, found in notes.items() if found
        ]
        return "\n".join(lines)


def describe(model: nn.Module) -> Report:
    """The report on the current state of a model."""
    layers = dict(lora_layers(model))
    trained = set(trained_copies.names(model))
    parameters = dict(model.named_parameters())
    factors = factor_names(model)
    added = set(added_names(model))
    own = {name: p.numel() for name, p in parameters.items() if name in added}
    covered = factors | trained | added | {id(layer.base_weight) for layer in layers.values()}
    base_ids = {id(layer.base_weight) for layer in layers.values()}
    ties = tied_names(model)
    adapters = {id(t): t for layer in layers.values() for t in layer.adapter_tensors()}
    return Report(
        model=type(model).__name__,
        layers=tuple(_adapted(name, layer) for name, layer in layers.items()),
        adapter_parameters=sum(t.numel() for t in adapters.values()) + sum(own.values()),
        trained={name: p.numel() for name, p in parameters.items() if name in trained},
        total_parameters=sum(
            p.numel() for name, p in parameters.items() if name not in factors | added
        ),
        uncovered={
            name: p.numel()
            for name, p in parameters.items()
            if p.ndim > 1 and name not in covered and id(p) not in base_ids
        },
        tied=tuple(
            names
            for names in ties
            if any(id(parameters.get(n)) in base_ids for n in names)
            and not all(n.rpartition(".")[0] in layers for n in names)
        ),
        untied=tuple(trained_copies.untied(model)),
        random_rows=_random_rows(model),
        own=own,
        frozen_adapter_parameters=sum(_frozen_size(layer) for layer in layers.values()),
    )


def factor_names(model: nn.Module) -> set[str]:
    """The full names of the adapters' tensors."""
    return {f"{name}.{leaf}" for name, layer in lora_layers(model) for leaf in layer.tensor_names}


def _random_rows(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The rows that resizing has made and that nothing trains, by module."""
    found = {}
    for name, made in new_rows(model).items():
        module = model.get_submodule(name)
        site = module.site if isinstance(module, AdapterLayer) else None
        own = set(site.rows or ()) if site is not None else set()
        weight = module._parameters["weight"]
        rows = tuple(row for row in made if row not in own)
        if rows and weight is not None and not weight.requires_grad:
            found[name] = rows
    return found


def layer_size(layer: AdapterLayer) -> int:
    """Number of the adapter's parameters: A, B and what else its variant has."""
    return layer.adapter.parameters


def _frozen_size(layer: AdapterLayer) -> int:
    tensors = layer.adapter.tensors
    return sum(tensors[name].numel() for name in layer.variant.frozen if name in tensors)


def _adapted(name: str, layer: AdapterLayer) -> AdaptedLayer:
    return AdaptedLayer(
        name=name,
        type=class_name(layer),
        weight_shape=tuple(layer.base_weight.shape),
        r=layer.r,
        scaling=layer.scaling,
        parameters=layer_size(layer),
        max_rank=layer.max_rank,
        slices=layer.site.slices,
        variant=layer.spec.variant,
    )


def _layer_table(layers: Iterable[AdaptedLayer]) -> list[str]:
    groups: dict[tuple[object, ...], list[AdaptedLayer]] = {}
    for layer in layers:
        shape = " x ".join(map(str, layer.weight_shape))
        kind = (
            layer.type
            if layer.variant == "lora"
            else f"{layer.type}, {VARIANTS[layer.variant].title}"
        )
        key = (without_indices(layer.name), kind, shape, layer.r, f"{layer.scaling:g}")
        groups.setdefault(key, []).append(layer)
    rows: list[tuple[object, ...]] = [
        ("layers", "count", "type", "weight", "r", "scaling", "parameters")
    ]
    for (name, *details), members in groups.items():
        size = f"{sum(member.parameters for member in members):,}"
        rows.append((name, len(members), *details, size))
    return table(rows)


def _sizes(sizes: Mapping[str, int]) -> list[str]:
    """Names with their number of parameters, the largest first; layers that differ in their index
    as one.
    """
    groups: Counter[str] = Counter()
    for name, size in sizes.items():
        groups[without_indices(name)] += size
    return [f"{name} ({size:,})" for name, size in groups.most_common()]


def _layers(names: Iterable[str]) -> list[str]:
    """Names of layers with their number, those that differ in their index as one."""
    groups = Counter(map(without_indices, names))
    return [name if count == 1 else f"{name} ({count:,} layers)" for name, count in groups.items()]


def _shortened(items: Sequence[str]) -> list[str]:
    """The first of the items, and how many follow."""
    more = len(items) - _NAMED
    return [*items[:_NAMED], f"and {more:,} more"] if more > 0 else [*items]
