"""The merged weight on the device: exact, dropped by what can be seen, ordered between streams."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import lorakit as lora
from tests.gpu.kinds import KINDS
from tests.tolerances import EXACT, TOLERANCES

CLOSE = TOLERANCES[torch.float32]


@pytest.fixture
def layer(device) -> lora.Linear:
    """With `merge_weights`, as layers have it that are built directly."""
    layer = lora.Linear(32, 24, r=4, lora_alpha=8, bias=False)
    nn.init.normal_(layer.lora_B)
    return layer.to(device).eval()


def merged_weight(layer: lora.Linear) -> Tensor:
    """What a forward without gradients computes with: its output for the unit vectors."""
    with torch.no_grad():
        return layer(torch.eye(layer.in_features, device=layer.weight.device)).t()


def written_out(layer: lora.Linear) -> Tensor:
    return (layer.weight + layer.scaling * layer.lora_B @ layer.lora_A).detach()


@pytest.mark.parametrize("name", ["linear", "slices", "conv2d", "DoRA"])
def test_a_thousand_cycles_change_no_bit(name, device):
    """Neither of the base, nor of what the adapted model computes; in small, a hundred cycles."""
    kind, dtype = KINDS[name], torch.bfloat16
    model = kind.adapted().to(device).eval()
    model.layer.weight.data = model.layer.weight.to(dtype)
    if model.layer.bias is not None:
        model.layer.bias.data = model.layer.bias.to(dtype)
    x = kind.input()[:1].to(device, dtype)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    with torch.no_grad():
        with lora.merged(model):
            first = model(x)
        for _ in range(1000 if device.type != "cpu" else 100):
            model.layer.merging = True
            model.layer.build_cache()
            model.layer.merging = False
        with lora.merged(model):
            assert model.layer.merged
            torch.testing.assert_close(model(x), first, **EXACT)
    assert not model.layer.merged
    for key, value in before.items():
        torch.testing.assert_close(dict(model.named_parameters())[key], value, **EXACT, msg=key)


def counted(layer: lora.Linear, value: Tensor) -> None:
    with torch.no_grad():
        layer.lora_A.copy_(value, non_blocking=True)


def assigned(layer: lora.Linear, value: Tensor) -> None:
    layer.lora_A = nn.Parameter(value.to(layer.weight.device, non_blocking=True))


def loaded(layer: lora.Linear, value: Tensor) -> None:
    layer.load_state_dict({**layer.state_dict(), "lora_A": value})


def rescaled(layer: lora.Linear, value: Tensor) -> None:
    layer.lora_alpha = 3


def stepped(layer: lora.Linear, value: Tensor, **options: bool) -> None:
    layer.lora_A.grad = value.to(layer.weight.device)
    torch.optim.AdamW([layer.lora_A], lr=0.1, **options).step()


SEEN: dict[str, Callable[[lora.Linear, Tensor], None]] = {
    "counted": counted,
    "assigned": assigned,
    "loaded": loaded,
    "rescaled": rescaled,
    "single steps": partial(stepped, foreach=False),
    "foreach": partial(stepped, foreach=True),
    "fused": partial(stepped, fused=True),
}


@pytest.mark.parametrize("name", SEEN)
def test_a_write_that_can_be_seen_drops_the_cache(name, layer):
    before = merged_weight(layer)
    assert layer.merged
    SEEN[name](layer, torch.randn(4, 32))
    torch.testing.assert_close(merged_weight(layer), written_out(layer), **CLOSE)
    assert not torch.allclose(merged_weight(layer), before)


def test_a_write_that_only_numbers_show_needs_refresh_on_a_gpu(layer, device):
    """A CPU compares A and B number by number; a GPU would have to be waited for."""
    before = merged_weight(layer)
    layer.lora_A.data.copy_(torch.randn(4, 32), non_blocking=True)
    seen = not torch.equal(merged_weight(layer), before)
    assert seen == (device.type == "cpu")
    lora.refresh(layer)
    torch.testing.assert_close(merged_weight(layer), written_out(layer), **CLOSE)


def test_non_blocking_copies_from_pinned_memory_are_merged(layer, cuda):
    """On the stream that merges they are in order, without any wait."""
    for _ in range(50):
        a, b = torch.randn(4, 32).pin_memory(), torch.randn(24, 4).pin_memory()
        with torch.no_grad():
            layer.lora_A.copy_(a, non_blocking=True)
            layer.lora_B.copy_(b, non_blocking=True)
        found = merged_weight(layer)
        expected = layer.weight.detach().cpu() + layer.scaling * b @ a
        torch.testing.assert_close(found.cpu(), expected, **CLOSE)


def test_copies_on_a_stream_that_is_waited_for_are_merged(layer, cuda):
    copying, copied = torch.cuda.Stream(), torch.cuda.Event()
    for _ in range(20):
        merged_weight(layer)
        a = torch.randn(4, 32).pin_memory()
        copying.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(copying), torch.no_grad():
            busy()
            layer.lora_A.copy_(a, non_blocking=True)
            copied.record()
        torch.cuda.current_stream().wait_event(copied)
        found = merged_weight(layer)
        expected = layer.weight.detach().cpu() + layer.scaling * layer.lora_B.detach().cpu() @ a
        torch.testing.assert_close(found.cpu(), expected, **CLOSE)


def busy() -> None:
    """Some milliseconds of work on the current stream."""
    a = torch.randn(2048, 2048, device="cuda")
    for _ in range(20):
        a = torch.tanh(a @ a)


def test_a_forward_on_another_stream_waits_for_the_cache(cuda):
    """The stream that builds it is late; the one that reads it does not know of it."""
    layer = lora.Linear(2048, 2048, r=4, bias=False).to(cuda).eval()
    nn.init.normal_(layer.lora_B)
    expected = written_out(layer)
    building, reading = torch.cuda.Stream(), torch.cuda.Stream()
    torch.cuda.synchronize()
    for _ in range(10):
        lora.refresh(layer)
        with torch.cuda.stream(building):
            busy()
            layer.build_cache()
        with torch.cuda.stream(reading):
            found = merged_weight(layer)
        torch.cuda.synchronize()
        torch.testing.assert_close(found, expected, **CLOSE)


def test_a_dropped_cache_keeps_its_memory_until_it_was_read(cuda):
    """The memory goes back to the stream that built it, which writes something else there."""
    layer = lora.Linear(2048, 2048, r=4, bias=False).to(cuda).eval()
    nn.init.normal_(layer.lora_B)
    expected = written_out(layer)
    torch.cuda.synchronize()
    reading = torch.cuda.Stream()
    for _ in range(10):
        layer.build_cache()
        with torch.cuda.stream(reading):
            busy()
            found = merged_weight(layer)
        lora.refresh(layer)
        for _ in range(4):
            torch.full_like(layer.weight, torch.nan)
        torch.cuda.synchronize()
        torch.testing.assert_close(found, expected, **CLOSE)
