"""A quantised base is refused by every method, also one that was quantised in memory.

Its weights are rounded, in types that have no gradient and cannot be saved beside others. Three
things show it: torch's quantised modules, parameters of another type or of less than 16 bits, and a
config that says so (GPTQ and others keep their integers in buffers).
"""

from __future__ import annotations

from torch import nn
from torch.nn.parameter import UninitializedParameter

from lorakit.errors import TargetError
from lorakit.layer_groups import group_layers
from lorakit.layers.refusals import weight_refusal

_MODULES = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")
"""The packages of torch's quantised modules."""


def require_unquantised(model: nn.Module) -> None:
    """Raise TargetError that names what is quantised in a model."""
    problems = [
        (name, reason)
        for name, module in model.named_modules()
        if (reason := _reason(module)) is not None
    ]
    said = getattr(getattr(model, "config", None), "quantization_config", None)
    if not problems and said:
        problems = [("config", f"has a quantization_config ({_method(said)})")]
    if problems:
        raise TargetError(
            f"This {type(model).__name__} is quantised, and methods train float32, bfloat16 and "
            "float16 models; use the base that it was made from:",
            group_layers(problems),
        )


def _reason(module: nn.Module) -> str | None:
    kind = type(module)
    if kind.__module__.startswith(_MODULES):
        return f"has type {kind.__module__.rpartition('.modules')[0]}.{kind.__name__}"
    weights = (w for w in module._parameters.values() if not isinstance(w, UninitializedParameter))
    return next((reason for w in weights if (reason := weight_refusal(w)) is not None), None)


def _method(said: object) -> object:
    named = said.get("quant_method") if isinstance(said, dict) else None
    return named or getattr(said, "quant_method", type(said).__name__)
