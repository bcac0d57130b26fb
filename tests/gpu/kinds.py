"""Every kind of adapted layer, and what each computes: W + dW in float64 on the CPU, written out.

`definition` knows nothing of lorakit: torch's own layer, with W + dW in place of W.

How far from it may a result be? n roundings, each of a term as large as the result, move it as
independent errors do, by the root of n of what one moves it. The tables in `tests.tolerances` stand
for two of them (2.05 eps is five standard deviations of 2 roundings, each evenly within eps / 2:
the largest of some hundred thousand numbers). A `Kind` says how many it has: G is the gradient of
the output, and every number that is stored counts, in forward and on the way back to the input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

import lorakit as lora

SCALE = 1.5
RANK = 4
WIDTH, HEIGHT = 64, 48
MANY = (4, 257, WIDTH)
"""More numbers than `functional.fused.FEW`: the operation with gradients of its own runs."""


class One(nn.Module):
    """A layer under a name."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.layer, nn.MultiheadAttention):
            return self.layer(x, x, x, need_weights=False)[0]
        return self.layer(x)


def product(w: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """s B A, in the shape of the weight."""
    return SCALE * (b.flatten(1) @ a.flatten(1)).view_as(w)


def transposed(w: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return SCALE * (b @ a).t()


def query_and_value(w: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Of a fused weight of three slices the first and the last are adapted."""
    (a_q, a_v), (b_q, b_v) = a.chunk(2), b.chunk(2)
    return SCALE * torch.cat([b_q @ a_q, torch.zeros_like(b_q @ a_q), b_v @ a_v])


@dataclass(frozen=True)
class Kind:
    """A layer, its input and its dW."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...] = MANY
    dw: Callable[[Tensor, Tensor, Tensor], Tensor] = product
    weight: str = "weight"
    config: Mapping[str, Any] = field(default_factory=dict)
    roundings: int = 3
    """That enter the output, or the gradient where there are most. Of LoRA in one operation: x W^T,
    x A^T and their sum; G W, G B and their sum."""
    spread: float = 1.0
    """Standard deviation of the input."""
    ids: int = 0
    """The size of the vocabulary, if the input is token ids."""

    def input(self) -> Tensor:
        """On the CPU, with numbers that bfloat16 has too."""
        if self.ids:
            return torch.randint(self.ids, self.shape)
        return (self.spread * torch.randn(self.shape)).bfloat16().float()

    def adapted(self, **options: Any) -> One:
        """On the CPU in float32; what it computes with are numbers that bfloat16 has too."""
        model = One(self.build())
        fields = {"r": RANK, "lora_alpha": SCALE * RANK, "target_modules": ["layer"]}
        lora.inject(model, lora.LoraConfig(**fields | dict(self.config) | options))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(("lora_A", "lora_B")):
                    parameter.normal_(std=0.2)
                if name.endswith("magnitude_vector"):
                    parameter.mul_(1.25)
                parameter.copy_(parameter.bfloat16())
        return model

    def tolerance(self, table: Mapping[str, float]) -> dict[str, float]:
        """A table's tolerance, which is for two roundings, for as many as this kind has."""
        return {name: value * math.sqrt(self.roundings / 2) for name, value in table.items()}

    def definition(self, values: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """The output for parameters of these names, in their type."""
        w = values[f"layer.{self.weight}"]
        whole = w + self.dw(w, values["layer.lora_A"], values["layer.lora_B"])
        m = values.get("layer.lora_magnitude_vector")
        if m is not None:
            whole = (m / whole.norm(dim=1).detach()).unsqueeze(1) * whole
        plain = One(self.build()).to(w.dtype)
        own = {name: value for name, value in values.items() if name in plain.state_dict()}
        return functional_call(plain, {**own, f"layer.{self.weight}": whole}, (x,))


def conv1d() -> nn.Module:
    """GPT-2's linear layer, whose weight is stored (in, out)."""
    return Conv1D(HEIGHT, WIDTH)


KINDS: dict[str, Kind] = {
    "linear": Kind(lambda: nn.Linear(WIDTH, HEIGHT), config={"bias": "lora_only"}),
    "linear, few numbers": Kind(
        lambda: nn.Linear(WIDTH, HEIGHT),
        (3, 5, WIDTH),
        config={"bias": "lora_only"},
        roundings=5,  # in single operations: s G, s G B, that times A, G W, their sum
    ),
    "slices": Kind(
        lambda: nn.Linear(WIDTH, HEIGHT),
        dw=query_and_value,
        config={"slices": {"layer": [True, False, True]}, "bias": "lora_only"},
    ),
    "Conv1D": Kind(conv1d, dw=transposed, config={"bias": "lora_only"}),
    "embedding": Kind(lambda: nn.Embedding(50, HEIGHT), (4, 257), transposed, ids=50),
    "conv1d": Kind(lambda: nn.Conv1d(8, 6, 3, padding=1), (4, 8, 40), roundings=5),
    "conv2d": Kind(
        lambda: nn.Conv2d(8, 6, 3, stride=2),
        (4, 8, 15, 15),
        config={"bias": "lora_only"},
        roundings=5,  # as above, each a convolution
    ),
    "DoRA": Kind(
        lambda: nn.Linear(WIDTH, HEIGHT),
        config={"use_dora": True, "bias": "lora_only"},
        roundings=6,  # d, d G, G + d G, and LoRA's of that; LoRA's output u, u - b, d, the sum
    ),
}
ATTENTION = Kind(
    lambda: nn.MultiheadAttention(32, 4, batch_first=True),
    (4, 20, 32),
    weight="in_proj_weight",
    config={"exclude_modules": ["out_proj"]},
    # W + dW; q, k, v; the softmax; the heads' outputs. Back: of the last layer, the scores, q, k, v
    # and x. A rounding of a score s is s times as large behind the softmax.
    roundings=8,
    spread=0.5,  # with scores that are seldom above 1
)


def exact(model: One, kind: Kind, x: Tensor, upstream: Tensor) -> dict[str, Tensor]:
    """The output and each gradient of an adapted model by its definition, in float64."""
    values = {n: p.detach().cpu().double() for n, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        values[name].requires_grad_(parameter.requires_grad)
    x = x.cpu()
    x = x if kind.ids else x.double().requires_grad_()
    y = kind.definition(values, x)
    y.backward(upstream.cpu().double())
    return results(y, x, values)


def results(y: Tensor, x: Tensor, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The output and each gradient, by name, on the CPU in float64."""
    gradients = {name: value.grad for name, value in {**values, "x": x}.items()}
    found = {name: grad for name, grad in gradients.items() if grad is not None}
    return {name: t.detach().cpu().double() for name, t in {"output": y, **found}.items()}


def assert_near(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: Mapping[str, float]
) -> None:
    """Each within the tolerance, in units of its root mean square: of terms of size one."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        unit = value.square().mean().sqrt()
        torch.testing.assert_close(
            found[name] / unit,
            value / unit,
            **tolerance,
            msg=lambda message, name=name: f"{name}: {message}",
        )
