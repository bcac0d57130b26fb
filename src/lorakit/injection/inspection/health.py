"""`lorakit.check_training`: does every trainable tensor change in training?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lorakit.private.torch_names import is_fake
from lorakit.surgery.additions import added_names, owners
from lorakit.surgery.alteration import alteration, altered
from lorakit.surgery.wrappers import unwrapped


@dataclass(frozen=True)
class TrainingCheck:
    """The number of trainable tensors of a model, and those that have not changed."""

    trainable: int
    stuck: dict[str, str]
    """Name -> reason, for every trainable tensor that has not changed since the mark."""

    def __str__(self) -> str:
        if not self.stuck:
            return f"all {self.trainable} trainable tensors have changed"
        lines = [f"{len(self.stuck)} of {self.trainable} trainable tensors have not changed:"]
        return "\n".join([*lines, *(f"  - {name}: {why}" for name, why in self.stuck.items())])


def mark_training_start(model: nn.Module) -> None:
    """Store a digest of every trainable tensor, for `check_training` to compare with."""
    model = unwrapped(model)
    altered(model).training_start = _digests(
        {
            name: parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and not (parameter.is_meta or is_fake(parameter))
        }
    )


def check_training(model: nn.Module, called: frozenset[str] | None = None) -> TrainingCheck:
    """Which trainable tensors of `model` have not changed since injection or loading, and why.

    Call it after some optimizer steps. lora_A does not change in the very first step, since its
    gradient is a multiple of lora_B, which is zero at first. `called` names the modules whose
    forward ran, where that is known; other modules are not checked, unless they were added to one
    that its parent never called although the parent ran. Names are those within torch.compile's,
    DataParallel's and DistributedDataParallel's wrappers.

    >>> from lorakit.config import LoraConfig
    >>> from lorakit.injection.adaptation import inject
    >>> model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    >>> _ = inject(model, LoraConfig(r=2, target_modules="all-linear"))
    >>> sorted(check_training(model).stuck)[0]
    '0.lora_A'
    """
    model = unwrapped(model)
    record = alteration(model)
    before = (record.training_start if record is not None else None) or {}
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    bypassed = _bypassed(model, called) if called is not None else {}
    now = _digests(
        {
            name: parameter
            for name, parameter in parameters.items()
            if name in before
            and (called is None or name.rpartition(".")[0] in called or name in bypassed)
        }
    )
    stuck = {
        name: bypassed.get(name) or _reason(parameters[name])
        for name in now
        if before[name] == now[name]
    }
    return TrainingCheck(len(parameters), stuck)


@contextmanager
def recording_calls(model: nn.Module) -> Iterator[set[str]]:
    """The names of the modules whose forward runs inside.

    Of those that have a trainable parameter, that something was added to, or that contain one such.
    """
    called: set[str] = set()
    model = unwrapped(model)
    watched = {name for owner, _ in owners(model) for name in (owner, _parent(owner))}

    def hook_for(name: str) -> Callable[..., None]:
        return lambda *_: called.add(name)

    handles = [
        module.register_forward_pre_hook(hook_for(name))
        for name, module in model.named_modules()
        if name in watched
        or any(p.requires_grad for p in module._parameters.values() if p is not None)
    ]
    try:
        yield called
    finally:
        for handle in handles:
            handle.remove()


def _bypassed(model: nn.Module, called: frozenset[str]) -> dict[str, str]:
    """Tensors of what was added to a module that was never called, and who did not call it."""
    found: dict[str, str] = {}
    for owner, module in owners(model):
        if owner not in called and _parent(owner) in called:
            kind = type(model.get_submodule(_parent(owner))).__name__
            reason = f"{owner} was never called, though its {kind} ran, which may read its weight"
            found |= {f"{owner}.{name}": reason for name in added_names(module)}
    return found


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _digests(parameters: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """A digest of each, with one wait for their device."""
    digests = [_digest(parameter) for parameter in parameters.values()]
    if not digests:
        return {}
    together = torch.stack([digest.to(digests[0].device) for digest in digests])
    return dict(zip(parameters, together.tolist(), strict=True))


def _digest(parameter: Tensor) -> Tensor:
    """Two sums that change with any element, up to rounding."""
    values = parameter.detach().double().flatten()
    weights = torch.linspace(1, 2, values.numel(), dtype=torch.float64, device=values.device)
    return torch.stack([values.abs().sum(), values @ weights])


def _reason(parameter: nn.Parameter) -> str:
    if parameter.grad is None:
        return "its grad is None: the loss does not depend on it, or the gradients were cleared"
    if not parameter.grad.any():
        return "its gradient is zero"
    return "it has a gradient, so it is in no optimizer, or the learning rate is 0"
