"""torch.compile on the device: one graph, eager's numbers at dropout 0, few compilations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

import lorakit as lora
from tests.gpu.kinds import KINDS
from tests.tolerances import TOLERANCES

pytestmark = pytest.mark.usefixtures("fresh_compiler")
CLOSE = TOLERANCES[torch.float32]


class Layers(nn.Module):
    """Layers of several kinds, so that one compilation serves for all."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 16)
        self.fused = nn.Linear(16, 24)
        self.conv = nn.Conv1d(24, 16, 3, padding=1)

    def forward(self, ids: Tensor) -> Tensor:
        x = torch.tanh(self.fused(self.table(ids)))
        return torch.tanh(self.conv(x.mT).mT)


def adapted(device: torch.device) -> nn.Module:
    torch.manual_seed(1)
    layers, last = Layers(), nn.Sequential(nn.Linear(16, 8))
    several = ["table", "fused", "conv"]
    slices = {"fused": [True, False, True]}
    fields = {"r": 2, "init_lora_weights": False}
    lora.inject(layers, lora.LoraConfig(target_modules=several, slices=slices, **fields))
    lora.inject(last, lora.LoraConfig(target_modules=["0"], use_dora=True, **fields))
    return nn.Sequential(layers, last).to(device)


def backend_of(device: torch.device) -> str:
    """Inductor's code for a CPU is compiled by gcc, which takes longer than all tests here."""
    return "aot_eager" if device.type == "cpu" else "inductor"


def gradients(model: nn.Module, run, ids: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    torch.compiler.cudagraph_mark_step_begin()
    run(ids).square().mean().backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("mode", [None, "reduce-overhead"])
def test_compiled_training_is_eagers_in_one_graph_and_few_compilations(mode, device):
    """Lengths that differ compile twice at most: the first one, then any."""
    if mode and device.type != "cuda":
        pytest.skip(f"reduce-overhead is CUDA graphs; a {device.type} device has none")
    model = adapted(device).train()
    counts = CompileCounterWithBackend(backend_of(device))
    if mode is None:
        compiled = torch.compile(model, fullgraph=True, backend=counts)
    else:
        compiled = torch.compile(model, fullgraph=True, mode=mode, dynamic=False)
    lengths = (7, 9, 12, 30) if mode is None else (8, 8, 8)
    for length in lengths:
        ids = torch.randint(50, (3, length), device=device)
        found, expected = gradients(model, compiled, ids), gradients(model, model, ids)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)
        if mode is None:  # a graph's output lives until the next call
            torch.testing.assert_close(compiled(ids), model(ids), **CLOSE)
    assert mode or counts.frame_count <= 2


def test_compiled_inference_uses_the_cache_that_is_there(device):
    model = adapted(device).eval()
    compiled = torch.compile(model, fullgraph=True, backend=backend_of(device))
    ids = torch.randint(50, (3, 8), device=device)
    with torch.no_grad():
        expected = model(ids)
        torch.testing.assert_close(compiled(ids), expected, **CLOSE)
        with lora.merged(model):
            torch.testing.assert_close(compiled(ids), expected, **CLOSE)
            model[0].fused.lora_B.mul_(2)
            lora.refresh(model)
            torch.testing.assert_close(compiled(ids), model(ids), **CLOSE)
            assert not torch.allclose(model(ids), expected)


def test_compiled_dropout_draws_anew_in_every_call(device):
    layer = KINDS["linear"].adapted(lora_dropout=0.5).to(device).train()
    compiled = torch.compile(layer, fullgraph=True, backend=backend_of(device))
    x = KINDS["linear"].input().to(device)
    first, second = compiled(x), compiled(x)
    assert not torch.equal(first, second)
    with torch.no_grad(), lora.disabled(layer):
        base = layer(x)
    mean = torch.stack([compiled(x).detach() - base for _ in range(32)]).mean(0)
    with torch.no_grad():
        layer.eval()
        expected = layer(x) - base
    unit = expected.std()
    assert float((mean - expected).mean().abs() / unit) < 0.05
    assert float((mean - expected).std() / unit) < 0.6
