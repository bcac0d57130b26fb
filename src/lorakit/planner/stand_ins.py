"""Operations of which torch tells the result's shape on fewer types than it computes them on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from lorakit.private.torch_names import is_fake


def run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The operation's result; on fake tensors its stand-in's, where it has one."""
    stand_in = STAND_INS.get(func.name())
    if stand_in is None or not is_fake(args[0]):
        return func(*args, **kwargs)
    return stand_in(func, *args, **kwargs)


def _grouped_mm(func: Any, a: Tensor, b: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
    """CPUs compute it in every type, and torch's shapes are for bf16, which GPUs have it in."""
    out: Tensor = func(a.bfloat16(), b.bfloat16(), *rest, **kwargs)
    return out.to(a.dtype)


STAND_INS: dict[str, Callable[..., Tensor]] = {"aten::_grouped_mm": _grouped_mm}
