"""Four adapters trained in one mixed batch, over the same four one after another, beside PEFT."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

import lorakit as lora
from benchmarks import peers
from benchmarks.many_adapters import LAYERS, WIDTH, base
from benchmarks.registry import Row, Settings
from benchmarks.rounds import over
from lorakit.timing import interleave

NAMES = ("a0", "a1", "a2", "a3")
SHAPES = ((2, 1), (2, 8), (8, 8), (8, 32))
"""Rows of each adapter, and tokens of a row."""
SECONDS = 8.0
CONDITIONS = {
    "batch": f"{LAYERS} linear layers of {WIDTH}, {len(NAMES)} adapters of rank {peers.RANK}",
    "step": "forward, the sum of each adapter's own mean loss, backward, AdamW of each (fused)",
    "one after another": "four models, each with its adapter alone, in turn",
    "PEFT, mixed": "adapter_names, which it takes in evaluation mode alone, and gradients on by "
    "hand for adapters that are not active",
}


def settings_of_adapter() -> dict[str, object]:
    return peers.Adapter(tuple(map(str, range(LAYERS)))).settings


def optimizer(parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-3, fused=True)


def step(loss: Tensor, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    loss.backward()
    for one in optimizers:
        one.step()
        one.zero_grad()


def own_losses(y: Tensor) -> Tensor:
    return torch.stack([part.square().mean() for part in y.chunk(len(NAMES))]).sum()


def with_lorakit(settings: Settings, x: Tensor) -> Callable[[], None]:
    model = base(settings)
    adapters = lora.AdapterSet(model)
    for name in NAMES:
        adapters.add(name, lora.LoraConfig(**settings_of_adapter()))
    optimizers = [optimizer(list(adapters.parameters(name))) for name in NAMES]
    rows = [name for name in NAMES for _ in range(len(x) // len(NAMES))]

    def mixed() -> None:
        with adapters.rows(rows):
            y = model(x)
        step(own_losses(y), optimizers)

    return mixed


def with_peft(settings: Settings, x: Tensor) -> Callable[[], None]:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(**settings_of_adapter())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = get_peft_model(base(settings), config, NAMES[0])
        for name in NAMES[1:]:
            model.add_adapter(name, config)
    model.eval()
    named = {n: p for n, p in model.named_parameters() if "lora_" in n}
    for parameter in named.values():
        parameter.requires_grad_(True)
    optimizers = [optimizer([p for n, p in named.items() if f".{name}." in n]) for name in NAMES]
    rows = [name for name in NAMES for _ in range(len(x) // len(NAMES))]
    return lambda: step(own_losses(model(x, adapter_names=rows)), optimizers)


def one_after_another(settings: Settings, x: Tensor) -> Callable[[], None]:
    single = []
    for part in x.chunk(len(NAMES)):
        model = base(settings)
        lora.inject(model, lora.LoraConfig(**settings_of_adapter()))
        trained = [p for p in model.parameters() if p.requires_grad]
        single.append((model, part.contiguous(), optimizer(trained)))

    def each() -> None:
        for model, part, one in single:
            step(model(part).square().mean(), [one])

    return each


def candidates(settings: Settings, x: Tensor) -> Mapping[str, Callable[[], None]]:
    made = {
        "lorakit": partial(with_lorakit, settings),
        "alone": partial(one_after_another, settings),
    }
    if "peft" in peers.INSTALLED:
        made["peft"] = partial(with_peft, settings)
    return {name: make(x) for name, make in made.items()}


def check(settings: Settings) -> None:
    """A step in a mixed batch moves each adapter as its own batch does."""
    model, alone = base(settings), base(settings)
    adapters = lora.AdapterSet(model)
    config = lora.LoraConfig(**settings_of_adapter())
    x = torch.randn(len(NAMES), 2, WIDTH)
    for name in NAMES:
        adapters.add(name, config)
    lora.inject(alone, config)
    own = {n: p for n, p in alone.named_parameters() if p.requires_grad}
    with adapters.rows(NAMES):
        own_losses(model(x)).backward()
    for name, part in zip(NAMES, x.split(1), strict=True):
        with torch.no_grad():
            for key, parameter in adapters.named_parameters(name):
                own[key].copy_(parameter)
        alone.zero_grad()
        alone(part).square().mean().backward()
        for key, parameter in adapters.named_parameters(name):
            torch.testing.assert_close(parameter.grad, own[key].grad, rtol=1e-4, atol=1e-6)


def rows(settings: Settings) -> Iterator[Row]:
    for count, tokens in SHAPES[:2] if settings.quick else SHAPES:
        x = torch.randn(len(NAMES) * count, tokens, WIDTH, device=settings.device)
        made = candidates(settings, x)
        times = interleave(made, settings.device, 0.2 if settings.quick else SECONDS)
        yield {
            "what": "four adapters trained in one mixed batch",
            "rows of each": count,
            "tokens": tokens,
            "over one after another": over(times, "lorakit", "alone"),
            **({"peft / lorakit": over(times, "peft", "lorakit")} if "peft" in made else {}),
            "lorakit, ms": median(times["lorakit"]) * 1e3,
        }
