"""One backbone for several runs: their micro-batches as one mixed batch, forward and backward.

Each run has a model of its own, whose head, loss and settings are what they would be alone. In
training its backbone's forward gives what the shared one has computed for its rows; these outputs
are leaves, and once the losses of all runs have gone back to them, one backward goes on through the
shared backbone. It is an `AdapterSet`, whose adapters are the runs' own Parameters.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.adapters import AdapterSet
from lorakit.errors import ConfigError, StateError
from lorakit.injection import trained_copies
from lorakit.injection.adaptation import eject
from lorakit.injection.selection.architectures import backbone
from lorakit.recipe.schema import Recipe
from lorakit.training.substitute import Compute, Substitute
from lorakit.training.together.mixing import IDS, Arguments, Mixed, mixed
from lorakit.training.together.turns import Ask

Outputs = dict[str, Tensor]


@dataclass
class Batch:
    """A batch that was computed, with what it gave."""

    mixed: Mixed
    outputs: Outputs


@dataclass
class Forward:
    """What a run asks of the backbone."""

    arguments: Arguments


@dataclass
class Backward:
    """The run's own part of a backward pass is done."""


@dataclass
class SharedBackbone:
    """The backbone of several runs, made when the first of them joins."""

    token_budget: int
    autocast: Any = nullcontext
    """Makes the context in which it computes."""
    adapters: AdapterSet | None = None
    kind: Any = None
    """Of its outputs."""
    batches: list[Batch] = field(default_factory=list)
    leaves: dict[str, Outputs] = field(default_factory=dict)
    """What each run got in this round."""

    def join(self, name: str, model: nn.Module, recipe: Recipe) -> nn.Module:
        """Let the adapter of this model be one of the set's; gives the model's own backbone.

        Raises ConfigError if its backbone is another one.
        """
        own = own_backbone(model)
        if self.adapters is None:
            self.adapters = AdapterSet(own_backbone(_plain(model)))
            if recipe.training.gradient_checkpointing:
                self._checkpoint()
        share_parameters(name, self.adapters.model, own, model)
        self.adapters.share(name, own, recipe.lora)
        return own

    def _checkpoint(self) -> None:
        assert self.adapters is not None
        model: Any = self.adapters.model
        enable = getattr(model, "activation_checkpointing_enable", None)  # its name since 5.23
        enable = enable or model.gradient_checkpointing_enable
        enable({"use_reentrant": False, "context_fn": self.adapters.context_fn})

    def answer(self, asked: Mapping[str, Forward | Backward]) -> Mapping[str, Any]:
        """What the runs ask for: all the same, as a forward is followed by its backward."""
        forwards = {n: r.arguments for n, r in asked.items() if isinstance(r, Forward)}
        if forwards:
            return self.forward(forwards)
        self.backward()
        return dict.fromkeys(asked)

    def forward(self, forwards: Mapping[str, Arguments]) -> dict[str, Any]:
        """The outputs for each run's arguments."""
        assert self.adapters is not None
        model: Any = self.adapters.model
        model.train()
        padding = model.config.get_text_config().pad_token_id or 0
        self.batches, self.leaves = [], {}
        for batch in mixed(forwards, self.token_budget, padding):
            with self.adapters.rows(batch.names), self.autocast():
                found = model(**batch.arguments)
            self.kind = type(found)
            outputs = {key: value for key, value in found.items() if isinstance(value, Tensor)}
            self.batches.append(Batch(batch, outputs))
        for name, arguments in forwards.items():
            self.leaves[name] = self._leaves(name, *arguments[IDS].shape)
        return {name: self.kind(**outputs) for name, outputs in self.leaves.items()}

    def _leaves(self, name: str, rows: int, tokens: int) -> Outputs:
        """What one run gets: the outputs of its rows, cut off from their graph."""
        made: Outputs = {}
        for batch in self.batches:
            for part, here, there in batch.mixed.parts():
                for key, value in batch.outputs.items() if part == name else ():
                    by_token = value.ndim > 2
                    shape = (rows, tokens, *value.shape[2:]) if by_token else (rows, value.shape[1])
                    leaf = made.setdefault(key, value.new_zeros(shape))
                    _fit(leaf, value)[there] = _fit(value.detach(), leaf)[here]
        return {key: leaf.requires_grad_() for key, leaf in made.items()}

    def backward(self) -> None:
        """One backward through the backbone, from the gradients that all runs have left."""
        tensors, gradients = [], []
        for batch in self.batches:
            for key, value in batch.outputs.items():
                gradient = self._gradient(batch.mixed, key, value)
                if gradient is not None and value.requires_grad:
                    tensors.append(value)
                    gradients.append(gradient)
        self.batches, self.leaves = [], {}
        torch.autograd.backward(tensors, gradients)

    def _gradient(self, batch: Mixed, key: str, value: Tensor) -> Tensor | None:
        found = None
        for name, here, there in batch.parts():
            gradient = self.leaves[name][key].grad
            if gradient is not None:
                found = torch.zeros_like(value) if found is None else found
                _fit(found, gradient)[here] = _fit(gradient, found)[there]
        return found


def _fit(value: Tensor, other: Tensor) -> Tensor:
    """The tokens that both have, where there are tokens."""
    return value[:, : other.shape[1]] if value.ndim > 2 else value


def _plain(model: nn.Module) -> nn.Module:
    """The model as it was before `inject`, of other modules with the same frozen Parameters."""
    frozen = {id(p): p for p in model.parameters() if not p.requires_grad}
    plain = copy.deepcopy(model, dict(frozen))
    eject(plain)
    for parameter in frozen.values():
        parameter.requires_grad_(False)  # which eject has given back
    return plain


def own_backbone(model: nn.Module) -> nn.Module:
    """The part of a transformers model without its head; raises ConfigError if it has none."""
    name = backbone(model)
    config: Any = model.config
    if name is None or config.is_encoder_decoder:
        kind = (
            "is an encoder-decoder"
            if config.is_encoder_decoder
            else "has no backbone apart from its head"
        )
        raise ConfigError(
            f"{type(model).__name__} {kind}, so several adapters cannot be trained on it in one "
            "run; train each in a run of its own."
        )
    return model.get_submodule(name)


def share_parameters(name: str, shared: nn.Module, own: nn.Module, model: nn.Module) -> None:
    """Let a model hold the Parameters of a shared backbone in place of its equal own ones.

    Raises ConfigError if they are not equal.
    """
    trained = trained_copies.slots(own)
    other: list[str] = []
    same: dict[int, nn.Parameter] = {}
    for key, parameter in shared.named_parameters(remove_duplicate=False):
        owner, _, leaf = key.rpartition(".")
        module = own.get_submodule(owner)
        here = module._parameters.get(leaf)
        if (id(module), leaf) in trained:
            continue
        if here is None or here.shape != parameter.shape or not torch.equal(here, parameter):
            other.append(key)
        else:
            same[id(here)] = parameter
    if other:
        raise ConfigError(
            f"{name} cannot share a run, since its base differs from that of the others in "
            f"{len(other)} weights ({other[0]}, ...); train it in a run of its own."
        )
    for module in model.modules():
        for leaf, here in module._parameters.items():
            if here is not None and id(here) in same:
                module._parameters[leaf] = same[id(here)]


class OnShared(Substitute):
    """A run's own model, with the outputs of a shared backbone in the place of its own's."""

    def __init__(self, model: nn.Module, compute: Compute, own: nn.Module, ask: Ask) -> None:
        super().__init__(model, compute)
        self._own, self._ask = own, ask
        self._signature = inspect.signature(type(own).forward)

    @contextmanager
    def for_batch(self, batch: Any) -> Iterator[nn.Module]:
        self._own.__dict__["forward"] = self._forward
        try:
            yield self.model
        finally:
            del self._own.__dict__["forward"]
        self._ask(Backward())

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        """In the place of the own backbone's."""
        arguments = dict(self._signature.bind(self._own, *args, **kwargs).arguments)
        del arguments["self"]
        for parameter in self._signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                arguments |= arguments.pop(parameter.name, {})
        if arguments.get(IDS) is None:
            raise StateError(
                f"The head of this {type(self.model).__name__} gives its backbone no {IDS}, so its "
                "rows cannot be mixed with others; train it in a run of its own."
            )
        return self._ask(Forward(arguments))
