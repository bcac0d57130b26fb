"""What is done with a model goes on with a set: disable, merge, copy, cast, load, read weights."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit
from lorakit.errors import StateError
from lorakit.layers import Linear
from lorakit.layers.stand_in import AdapterStandIn
from tests.adapters.files import alone, loaded_set, output, save, save_all
from tests.adapters.test_adapter_set import CONFIGS, text_of
from tests.injection import zoo
from tests.tolerances import EXACT, MODEL


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_all(zoo.llama, tmp_path_factory.mktemp("adapters"), CONFIGS)


def test_disabled_is_the_base(paths: dict[str, Path]) -> None:
    model = zoo.llama()
    base, adapters = text_of(model), loaded_set(model, paths)
    adapters.activate("legal")
    with lorakit.disabled(model):
        assert_close(text_of(model), base, **EXACT)
    with adapters.rows(["legal", "medical"]), lorakit.disabled(model):
        assert_close(text_of(model), base, **EXACT)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_computes_the_same_and_is_independent(paths: dict[str, Path], again: object) -> None:
    model = zoo.llama()
    adapters = loaded_set(model, paths)
    adapters.activate("legal")
    adapters.load("another", paths["legal"])
    expected = text_of(model)
    twin = again(model)  # type: ignore[operator]
    adapters.deactivate()
    assert_close(text_of(twin), expected, **EXACT)


def test_a_base_that_is_cast_and_loaded_again_is_followed(paths: dict[str, Path]) -> None:
    model = zoo.llama()
    adapters = loaded_set(model, paths)
    adapters.activate("legal")
    text_of(model)
    model.to(torch.float64)
    expected = alone(zoo.llama, paths["legal"]).to(torch.float64)
    assert_close(text_of(model), text_of(expected), **MODEL)
    other = {name: weight * 1.1 for name, weight in zoo.llama().double().state_dict().items()}
    model.load_state_dict(other, assign=True)
    expected.load_state_dict(other, strict=False)
    assert_close(text_of(model), text_of(expected), **MODEL)


class Attended(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.attention(x, x, x, need_weights=False)[0]
        return y


def attended() -> nn.Module:
    torch.manual_seed(1)
    return Attended().eval()


def test_a_weight_that_is_read_is_switched_and_refused_by_row(tmp_path: Path) -> None:
    path = save(attended, tmp_path, r=2, target_modules=["attention"])
    model, x = attended(), torch.randn(2, 3, 8)
    base, adapters = output(model, x=x), loaded_set(model, {"a": path})
    adapters.activate("a")
    assert_close(output(model, x=x), output(alone(attended, path), x=x), **MODEL)
    with adapters.rows(["a", None]), pytest.raises(StateError, match="has its weight read"):
        output(model, x=x)
    adapters.close()
    assert_close(output(model, x=x), base, **EXACT)


def test_merged_runs_the_active_adapter_from_a_cache(paths: dict[str, Path]) -> None:
    model = zoo.llama()
    adapters = loaded_set(model, paths)
    adapters.activate("legal")
    layer = model.get_submodule("model.layers.0.self_attn.q_proj")
    assert isinstance(layer, Linear)

    def is_merged() -> bool:
        return layer.acting is not None and layer.acting.merged

    expected = text_of(model)
    assert not is_merged()
    with lorakit.merged(model) as report:
        assert report.cache_bytes == 2 * (16 * 16 + 8 * 16) * 4
        assert is_merged()
        assert_close(text_of(model), expected, **MODEL)
        adapters.activate("medical")
        assert_close(text_of(model), text_of(alone(zoo.llama, paths["medical"])), **MODEL)
        adapters.activate("legal")
        assert_close(text_of(model), expected, **MODEL)
        assert is_merged()
    assert not is_merged()
    assert_close(text_of(model), expected, **EXACT)


@pytest.mark.parametrize("merge_weights", [False, True])
def test_rows_have_no_merged_weights(tmp_path: Path, merge_weights: bool) -> None:
    """Those of one adapter for all rows neither, nor those of layers that compute it by itself."""
    config = {"r": 2, "merge_weights": merge_weights, "target_modules": ["embed_tokens", "q_proj"]}
    path, model = save(zoo.llama, tmp_path, **config), zoo.llama()
    adapters = loaded_set(model, {"a": path})
    expected = text_of(alone(zoo.llama, path))
    with lorakit.merged(model):
        for names in (["a", "a"], ["a", None]):
            with adapters.rows(names):
                assert_close(text_of(model)[:1], expected[:1], **MODEL)
        assert not cached_in(adapters)
        adapters.activate("a")
        assert_close(text_of(model), expected, **MODEL)
        assert cached_in(adapters)


def cached_in(adapters: lorakit.AdapterSet) -> list[torch.Tensor]:
    """Merged weights of the layers that compute with its adapters."""
    layers = [found for found in gc.get_objects() if issubclass(type(found), AdapterStandIn)]
    mine = {id(module) for module in adapters.model.modules()}
    return [x._merged for x in layers if id(x._host) in mine and x._merged is not None]


def test_replicas_of_data_parallel_are_refused(paths: dict[str, Path]) -> None:
    model = zoo.llama()
    loaded_set(model, paths)
    layer: Any = model.get_submodule("model.layers.0.self_attn.q_proj")
    with pytest.raises(StateError, match="DataParallel"):
        layer._replicate_for_data_parallel()


def twice(weight: Tensor) -> None:
    with torch.no_grad():
        weight.mul_(2)


def twice_by_numpy(weight: Tensor) -> None:
    array = weight.detach().numpy()
    np.multiply(array, 2, out=array)


@pytest.mark.parametrize("change", [twice, lambda w: w.data.mul_(2), twice_by_numpy])
def test_rows_follow_a_base_that_is_changed_in_place(
    tmp_path: Path, change: Callable[[Tensor], object]
) -> None:
    """DoRA's norm depends on the weight, and a composition of a batch is kept.

    No version counter tells of `.data` and of numpy.
    """
    config = {"r": 2, "use_dora": True, "target_modules": ["q_proj"]}
    paths, model = {"dora": save(zoo.llama, tmp_path, **config)}, zoo.llama()
    adapters = loaded_set(model, paths)

    def changed(other: nn.Module) -> nn.Module:
        change(other.get_parameter("model.layers.0.self_attn.q_proj.weight"))
        return other

    with adapters.rows(["dora", None]):
        text_of(model)
        expected = changed(zoo.llama())
        lorakit.load_adapter(expected, paths["dora"], check_base=False)
        assert_close(text_of(changed(model))[:1], text_of(expected.eval())[:1], **MODEL)


def test_refresh_has_rows_follow_a_write_that_nothing_can_see(tmp_path: Path) -> None:
    config = {"r": 2, "use_dora": True, "target_modules": ["q_proj"]}
    path, model = save(zoo.llama, tmp_path, **config), zoo.llama()
    adapters = loaded_set(model, {"dora": path})

    def changed(other: nn.Module) -> nn.Module:
        other.get_parameter("model.layers.0.self_attn.q_proj.weight").data[0, 0] += 5
        return other

    expected = changed(zoo.llama())
    lorakit.load_adapter(expected, path, check_base=False)
    with adapters.rows(["dora", None]):
        text_of(model)
        changed(model)
        lorakit.refresh(model)
        assert_close(text_of(model)[:1], text_of(expected.eval())[:1], **MODEL)


def test_an_input_without_rows_is_an_error(tmp_path: Path) -> None:
    def build() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 4))

    model = build()
    adapters = loaded_set(model, {"a": save(build, tmp_path, r=1, target_modules=["0"])})
    with adapters.rows(["a", None]), pytest.raises(StateError, match="of one dimension"):
        model(torch.randn(4))
    for name in "bc":
        adapters.add(name, lorakit.LoraConfig(r=1, target_modules=["0"]))
    with adapters.rows(["b", "c"]), pytest.raises(StateError, match="of one dimension"):
        model(torch.randn(4))
