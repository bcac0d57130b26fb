"""DistributedDataParallel with the device's own collectives, one process of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import lorakit as lora
from tests.tolerances import EXACT


@pytest.fixture
def group(device: torch.device, tmp_path: Path) -> Iterator[None]:
    backend = {"cuda": "nccl", "cpu": "gloo"}.get(device.type)
    if backend is None or not distributed.is_backend_available(backend):
        pytest.skip(f"torch has no {backend} here")
    where = {"device_id": torch.device("cuda", device.index or 0)} if backend == "nccl" else {}
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group(backend, store=store, rank=0, world_size=1, **where)
    yield
    distributed.destroy_process_group()


def adapted(device: torch.device) -> nn.Module:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6), nn.Linear(6, 3))
    fields = {"target_modules": ["0", "2"], "modules_to_save": ["3"], "bias": "lora_only"}
    lora.inject(net, lora.LoraConfig(r=2, init_lora_weights=False, **fields))
    return net.to(device)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.usefixtures("group")
def test_wrapped_training_is_that_of_the_model(static, device, tmp_path):
    plain, inner = adapted(device), adapted(device)
    ids = [device.index or 0] if device.type == "cuda" else None
    wrapped = DistributedDataParallel(inner, device_ids=ids, static_graph=static)
    x = torch.randn(8, 6, device=device)
    for net, module in ((plain, plain), (wrapped, inner)):
        optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(inner.state_dict()[name], value, **EXACT, msg=name)
    lora.save_adapter(wrapped.module, tmp_path / "adapter")
    assert not lora.check_training(inner).stuck


@pytest.mark.usefixtures("group")
def test_a_collective_on_the_adapter_is_seen_after_refresh(device):
    model = adapted(device).eval()
    x = torch.randn(8, 6, device=device)
    with torch.no_grad(), lora.merged(model):
        before = model(x)
        model[0].lora_B.mul_(3)  # counted; the collective beside it counts nothing
        distributed.broadcast(model[0].lora_A.data, 0)
        lora.refresh(model)
        merged = model(x)
    assert not torch.allclose(merged, before)
    with torch.no_grad():
        torch.testing.assert_close(merged, model(x), rtol=1e-5, atol=1e-5)
