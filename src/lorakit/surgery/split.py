"""Split a fused linear layer into several, and likewise its checkpoint.

A layer `qkv` with a weight of height 3n becomes a module `qkv` with children such as `q`, `k`, `v`
that concatenates their outputs, so the model around it stays as it is and each part can be adapted,
frozen or quantised on its own:

    qkv.weight (3n, n)  ->  qkv.q.weight, qkv.k.weight, qkv.v.weight, each (n, n)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lorakit.errors import ConfigError, TargetError, suggest
from lorakit.surgery.alteration import alteration
from lorakit.surgery.parameters import parameter_like


class SplitLinear(nn.Module):
    """Several nn.Linear on the same input, their outputs side by side."""

    def forward(self, input: Tensor) -> Tensor:
        return torch.cat([child(input) for child in self.children()], dim=-1)


def split_linear(
    model: nn.Module, name: str, into: Sequence[str], sizes: Sequence[int] | None = None
) -> list[str]:
    """Replace each linear layer of `model` called `name` (or `*.name`) by one layer a part.

    The parts are called `into` and have `sizes` outputs from the top, equal ones by default. The
    weights are copied; outputs are the same to rounding. Returns the names of the layers replaced.
    Works on nn.Linear and on GPT-2's Conv1D.

    Raises TargetError if no layer has that name or one is not linear, or is adapted, ConfigError if
    the names cannot be those of modules or the sizes do not add up; nothing is replaced then.
    Source: microsoft/LoRA's README, on breaking up a fused qkv projection.

    >>> block = nn.Sequential()
    >>> block.qkv = nn.Linear(8, 24)
    >>> split_linear(block, "qkv", ["q", "k", "v"])
    ['qkv']
    >>> block.qkv.v.weight.shape
    torch.Size([8, 8])
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    found = [key for key in modules if key and (key == name or key.endswith(f".{name}"))]
    if not found:
        near = suggest(name, filter(None, modules))
        raise TargetError(f"The model has no module named {name!r}{near}.")
    reasons = {key: _refusal(modules[key]) for key in found}
    problems = [f"{key} {reason}" for key, reason in reasons.items() if reason is not None]
    if problems:
        raise TargetError("Only nn.Linear and GPT-2's Conv1D can be split:", problems)
    fused = {modules[key] for key in found}
    replacements = {module: _split(module, into, sizes) for module in fused}
    for key in found:
        parent, _, child = key.rpartition(".")
        setattr(modules[parent], child, replacements[modules[key]])
    return found


def split_linear_state_dict(
    state_dict: Mapping[str, Tensor],
    name: str,
    into: Sequence[str],
    sizes: Sequence[int] | None = None,
    *,
    fan_in_fan_out: bool = False,
) -> dict[str, Tensor]:
    """`split_linear` for a `state_dict`: `qkv.weight` becomes `qkv.q.weight`, and so on.

    `name`, `into` and `sizes` are as for `split_linear`; other keys stay. `fan_in_fan_out` says
    that the weights are stored (in, out), as GPT-2's are. Raises TargetError if no key belongs to a
    module of that name, ConfigError as `split_linear`.
    """
    result: dict[str, Tensor] = {}
    found = False
    for key, tensor in state_dict.items():
        module, _, leaf = key.rpartition(".")
        if leaf not in ("weight", "bias") or not (module == name or module.endswith(f".{name}")):
            result[key] = tensor
            continue
        found = True
        rows = tensor.t() if fan_in_fan_out and leaf == "weight" else tensor
        parts = rows.split(_sizes(rows.shape[0], into, sizes))
        for child, part in zip(into, parts, strict=True):
            result[f"{module}.{child}.{leaf}"] = part.clone(memory_format=torch.contiguous_format)
    if not found:
        raise TargetError(f"The state dict has no weight or bias of a module named {name!r}.")
    return result


def _split(module: nn.Module, into: Sequence[str], sizes: Sequence[int] | None) -> SplitLinear:
    fused, bias = module._parameters["weight"], module._parameters["bias"]
    weight_OI = _weight_OI(module)
    assert fused is not None
    assert weight_OI is not None
    heights = _sizes(weight_OI.shape[0], into, sizes)
    result = SplitLinear()
    biases = [None] * len(heights) if bias is None else [*bias.detach().split(heights)]
    for name, weight, part_bias in zip(into, weight_OI.split(heights), biases, strict=True):
        height, width = weight.shape
        linear = nn.Linear(width, height, bias=bias is not None, device="meta")
        copy = weight.clone(memory_format=torch.contiguous_format)
        linear.weight = parameter_like(fused, copy)
        if bias is not None and part_bias is not None:
            linear.bias = parameter_like(bias, part_bias.clone())
        result.add_module(name, linear)
    return result.train(module.training)


def _refusal(module: nn.Module) -> str | None:
    """Why this module cannot be split; None if it can."""
    record = alteration(module)
    if record is not None and record.shared is not None:
        return "is in an AdapterSet; call its close() first"
    if record is not None or "lora_A" in module._parameters:
        return "is adapted or trained in full; call lorakit.eject or lorakit.fold first"
    return f"has type {type(module).__name__}" if _weight_OI(module) is None else None


def _weight_OI(module: nn.Module) -> Tensor | None:
    """The weight as (out, in) of a linear layer; None for anything else."""
    if type(module) is nn.Linear:
        return module.weight.detach()
    weight = module._parameters.get("weight")
    return weight.detach().t() if weight is not None and is_conv1d(module) else None


def is_conv1d(module: nn.Module) -> bool:
    """Whether this is GPT-2's Conv1D of transformers: a linear layer with its weight (in, out)."""
    nx, nf = getattr(module, "nx", None), getattr(module, "nf", None)
    weight = module._parameters.get("weight")
    is_named_so = type(module).__name__ == "Conv1D" and nx is not None
    return is_named_so and weight is not None and weight.shape == (nx, nf)


def _sizes(height: int, into: Sequence[str], sizes: Sequence[int] | None) -> list[int]:
    """The height of each part; ConfigError if the names or the sizes cannot be used."""
    problems = [
        f"{name!r} is not a valid name for a child module"
        for name in into
        if not name or "." in name or hasattr(SplitLinear(), name)
    ]
    if not into or len(set(into)) < len(into):
        problems.append("into must list at least one name, each of them once")
    heights = [height // max(len(into), 1)] * len(into) if sizes is None else list(sizes)
    if len(heights) != len(into) or sum(heights) != height or min(heights, default=1) < 1:
        given = "None (equal parts)" if sizes is None else heights
        problems.append(
            f"sizes is {given}; expected one size >= 1 for each part, with a sum of {height}"
        )
    if problems:
        message = f"A layer with {height} outputs cannot be split into {list(into)}:"
        raise ConfigError(message, problems)
    return heights
