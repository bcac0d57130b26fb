"""Adapters that a set writes are those that it read, and those that it trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import lorakit
from lorakit import AdapterSet, LoraConfig
from lorakit.errors import ConfigError, TargetError
from tests.adapters.files import alone, loaded_set, output, save_all
from tests.adapters.test_rows import IDS, TEXT, WORLDS, batch_of
from tests.injection import zoo
from tests.tolerances import EXACT, MODEL


@pytest.mark.parametrize("world", WORLDS)
def test_what_was_loaded_is_saved_as_it_was(world: str, tmp_path: Path) -> None:
    build, configs = WORLDS[world]
    paths = save_all(build, tmp_path, configs)
    model, batch = build(), batch_of(build)
    adapters = loaded_set(model, paths)
    for name, path in paths.items():
        again = adapters.save(name, tmp_path / f"{name} again")
        first, second = lorakit.checkpoint.read(path), lorakit.checkpoint.read(again)
        assert_close(second.tensors, first.tensors, **EXACT)
        assert second.config == first.config
        assert second.fingerprint == first.fingerprint
        adapters.activate(name)
        assert_close(output(alone(build, again), **batch), output(model, **batch), **MODEL)


def test_a_new_adapter_trains_and_no_other_moves(tmp_path: Path) -> None:
    paths = save_all(zoo.llama, tmp_path, {"old": {"r": 2, "target_modules": ["q_proj"]}})
    model = zoo.llama()
    adapters = loaded_set(model, paths)
    base = output(model, **TEXT)
    loaded = adapters.add("new", LoraConfig(r=4, target_modules="all-linear", use_dora=True))
    assert (loaded.source, len(loaded.modules)) == (None, 14)
    with adapters.rows(["new", "old"] * 4):
        assert_close(output(model, **TEXT)[::2], base[::2], **MODEL)
    before = {name: p.detach().clone() for name, p in adapters.named_parameters("new")}
    assert len(before) == 3 * 14
    optimizer = torch.optim.SGD(adapters.parameters("new"), lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        with adapters.rows(["new", "old", None, "new"]):
            model(IDS[:4], labels=IDS[:4]).loss.backward()
        optimizer.step()
    for name, parameter in adapters.named_parameters("new"):
        assert not torch.equal(parameter, before[name]), name
    assert not list(adapters.parameters("old"))
    assert all(parameter.grad is None for parameter in model.parameters())
    adapters.activate("new")
    trained = output(model, **TEXT)
    path = adapters.save("new", tmp_path / "new")
    assert_close(output(alone(zoo.llama, path), **TEXT), trained, **MODEL)
    adapters.close()
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("setting", [{"bias": "all"}, {"trainable_token_indices": [3]}])
def test_what_a_set_does_not_train_is_refused(setting: dict[str, Any]) -> None:
    adapters = AdapterSet(zoo.llama())
    with pytest.raises(ConfigError, match="trains A and B, and modules in full"):
        adapters.add("new", LoraConfig(target_modules=["q_proj"], **setting))
    with pytest.raises(TargetError, match="nope"):
        adapters.add("new", LoraConfig(target_modules=["nope"]))
    assert adapters.list() == []


def test_a_module_that_all_rows_share_is_not_trained() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with pytest.raises(TargetError, match=r"1.weight is a parameter of BatchNorm1d"):
        AdapterSet(model).add("new", LoraConfig(target_modules=["0"], modules_to_save=["1"]))
