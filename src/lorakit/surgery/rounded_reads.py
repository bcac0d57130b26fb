"""A parameter in float32 on a module that computes in a narrower dtype.

What trains is stored in float32: small steps are not lost, and a GradScaler can unscale the
gradients. The module keeps the dtype that it computes in: it changes its class, and `module.weight`
reads as the parameter of that name rounded to this dtype, with its gradient. Optimizers and
state_dict see the parameter itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lorakit.surgery.alteration import alteration, altered
from lorakit.surgery.composition import mix_in, mix_out
from lorakit.surgery.parameters import parameter_like

if TYPE_CHECKING:
    from typing import Self


class RoundedReads(nn.Module):
    """A mixin in front of a module's class; `Alteration.rounded` has the names and dtypes."""

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        dtype = _rounded(self).get(name)
        return value if dtype is None or value is None else value.to(dtype)

    def __setattr__(self, name: str, value: Any) -> None:
        dtype = _rounded(self).get(name)
        if dtype is not None and not isinstance(value, nn.Parameter):
            value = value.to(dtype)  # of a replica of DataParallel, which has no Parameters
        super().__setattr__(name, value)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move and cast what waits for an exchange, and the dtype of the reads, as the module."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        record = altered(self)
        for name, dtype in record.rounded.items():
            record.rounded[name] = fn(torch.empty(0, dtype=dtype)).dtype
            for waiting in (record.originals, record.ties):
                if name in waiting and not waiting[name].is_meta:
                    waiting[name].data = fn(waiting[name].data)
        return self


def read_rounded(module: nn.Module, name: str) -> None:
    """Let `module.<name>` read as its parameter rounded to the dtype that it has now."""
    parameter = module._parameters[name]
    assert parameter is not None
    altered(module).rounded[name] = parameter.dtype
    mix_in(module, RoundedReads)


def rounded_parameters(model: nn.Module) -> list[tuple[nn.Module, str, nn.Parameter]]:
    """Every such parameter as it reads, in a new Parameter, with its module and name."""
    made: list[tuple[nn.Module, str, nn.Parameter]] = []
    rounded: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, dtype in _rounded(module).items():
            parameter = module._parameters[name]
            assert parameter is not None
            if parameter.dtype != dtype:
                if id(parameter) not in rounded:
                    value = parameter.detach().to(dtype)
                    rounded[id(parameter)] = parameter_like(parameter, value)
                made.append((module, name, rounded[id(parameter)]))
    return made


def store(parameters: Iterable[tuple[nn.Module, str, nn.Parameter]]) -> None:
    """Register each under its name."""
    for module, name, parameter in parameters:
        module._parameters[name] = parameter


def read_as_stored(module: nn.Module) -> None:
    """Restore the class: the module reads its parameters as they are."""
    mix_out(module, RoundedReads)
    record = alteration(module)
    if record is not None:
        record.rounded.clear()


def _rounded(module: nn.Module) -> Mapping[str, torch.dtype]:
    record = alteration(module)
    return {} if record is None else record.rounded
