"""Dropout's mask on the device: drawn again in backward and in a recomputed forward, and fair."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import lorakit as lora
from lorakit.functional import fused
from lorakit.functional.dropout import draw_seed, keep_mask
from tests.gpu.kinds import KINDS
from tests.tolerances import EXACT, TOLERANCES

P = 0.25


def test_the_share_of_zeros_is_the_probability(device):
    like = torch.empty(1000, 1000, device=device, dtype=torch.bfloat16)
    mask = keep_mask(like, P, draw_seed())
    assert mask.device == like.device
    assert mask.dtype == torch.bfloat16
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    zeros = 1 - mask.float().mean()
    assert abs(float(zeros) - P) < 5 * (P * (1 - P) / mask.numel()) ** 0.5
    for along in (0, 1):  # no row and no column of its own
        shares = mask.float().mean(along)
        assert abs(float(shares.std()) - (P * (1 - P) / 1000) ** 0.5) < 2e-3


def test_a_seed_is_drawn_on_the_cpu_whatever_the_default_device(device):
    """Both kinds of checkpointing restore that generator; to ask the device would wait for it."""
    torch.manual_seed(5)
    expected = draw_seed()
    torch.manual_seed(5)
    with torch.device("meta"):
        assert draw_seed() == expected
    torch.manual_seed(5)
    with torch.device(device):
        assert draw_seed() == expected


def test_masks_do_not_depend_on_what_the_devices_generator_drew(device):
    like = torch.empty(99, 7, device=device)
    first = keep_mask(like, P, 3)
    torch.rand(10, device=device)
    torch.testing.assert_close(keep_mask(like, P, 3), first, **EXACT)
    assert not torch.equal(keep_mask(like, P, 4), first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_backward_uses_the_mask_of_forward(dtype, device, monkeypatch):
    """With x = 1, W = 0 and A = B = 1 the output counts what was kept, and dx repeats it."""
    monkeypatch.setattr(fused, "FEW", -1)
    x = torch.ones(64, 32, device=device, dtype=dtype, requires_grad=True)
    a = torch.ones(1, 32, device=device, requires_grad=True)
    b = torch.ones(1, 1, device=device)
    y = fused.lora_linear(x, x.new_zeros(1, 32), None, a, b, s=1.0, dropout=0.5)
    y.sum().backward()
    kept = x.grad / 2
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(y / 2, kept.sum(1, keepdim=True), **EXACT)
    torch.testing.assert_close(a.grad.flatten() / 2, kept.float().sum(0), **EXACT)


def gradients(block: nn.Module, x: torch.Tensor, run) -> dict[str, torch.Tensor]:
    block.zero_grad()
    x = x.clone().requires_grad_()
    torch.manual_seed(2)
    run(block, x).square().sum().backward()
    return {"x": x.grad, **{n: p.grad for n, p in block.named_parameters() if p.requires_grad}}


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("name", ["linear", "slices", "Conv1D", "conv2d", "DoRA"])
def test_a_checkpointed_block_draws_the_mask_of_its_forward_again(name, reentrant, device):
    """Its gradients are those without checkpointing, and those at another seed are others."""
    kind = KINDS[name]
    model = kind.adapted(lora_dropout=0.5).to(device).train()
    block = nn.Sequential(model, nn.Dropout(0.5), nn.Tanh())
    x = kind.input().to(device)
    expected = gradients(block, x, lambda block, x: block(x))
    found = gradients(block, x, lambda b, x: checkpoint(b, x, use_reentrant=reentrant))
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, **TOLERANCES[torch.float32], msg=key)
    torch.rand(1)
    other = gradients(block, x, lambda block, x: (torch.manual_seed(3), block(x))[1])
    assert not torch.allclose(other["0.layer.lora_A"], expected["0.layer.lora_A"])


def test_dropout_of_an_embedding_drops_a_tokens_whole_update(device):
    kind = KINDS["embedding"]
    model = kind.adapted(lora_dropout=P).to(device)
    ids = torch.zeros(20_000, dtype=torch.long, device=device)
    with torch.no_grad(), lora.disabled(model):
        base = model(ids)
    with torch.no_grad():
        update = model.train()(ids) - base
    dropped = (update == 0).all(1)
    assert torch.equal(dropped, (update == 0).any(1))
    assert abs(float(dropped.float().mean()) - P) < 5 * (P * (1 - P) / len(ids)) ** 0.5
