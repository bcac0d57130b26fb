"""What the calls of an AdapterSet take: rows in an order, a model, something to activate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from lorakit import AdapterSet, LoraConfig
from lorakit.errors import ConfigError, StateError
from tests.adapters.files import loaded_set, output, save
from tests.injection import zoo
from tests.tolerances import EXACT


def adapted(path: Path) -> Any:
    model = zoo.llama()
    return model, loaded_set(model, {"a": save(zoo.llama, path, target_modules=["q_proj"])})


@pytest.mark.parametrize(
    "names",
    [lambda: (n for n in ["a", None]), lambda: map(str, "a"), lambda: iter([None, "a"])],
    ids=["generator", "map", "iterator"],
)
def test_rows_take_what_can_be_read_once(names: Any, tmp_path: Path) -> None:
    model, adapters = adapted(tmp_path)
    batch = zoo.CASES["llama"].batch()
    with adapters.rows(names()):
        first = output(model, **batch)
        assert_close(output(model, **batch), first, **EXACT)


@pytest.mark.parametrize("names", [{"a": 1}, {"a"}, b"a", 3])
def test_rows_refuse_what_has_no_order(names: Any, tmp_path: Path) -> None:
    _, adapters = adapted(tmp_path)
    with pytest.raises(StateError, match=r"which is no list"), adapters.rows(names):
        pass


@pytest.mark.parametrize("names", [[], (), {}, None, iter(())])
def test_rows_refuse_no_names(names: Any, tmp_path: Path) -> None:
    _, adapters = adapted(tmp_path)
    with pytest.raises(StateError, match="names no adapters"), adapters.rows(names):
        pass


def test_activate_refuses_no_weights(tmp_path: Path) -> None:
    _, adapters = adapted(tmp_path)
    adapters.activate("a")
    with pytest.raises(StateError, match=r"not \{\}; deactivate\(\) chooses the base"):
        adapters.activate({})
    assert adapters.active == {"a": 1.0}


@pytest.mark.parametrize(
    "call",
    [
        lambda adapters, path: adapters.pin(None),
        lambda adapters, path: adapters.unpin(None),
        lambda adapters, path: adapters.unload(None),
        lambda adapters, path: adapters.save(None, path),
        lambda adapters, path: list(adapters.parameters(None)),
        lambda adapters, path: adapters.activate({None: 0.5, "a": 0.5}),
        lambda adapters, path: adapters.pin(["a"]),
    ],
    ids=["pin", "unpin", "unload", "save", "parameters", "activate", "pin a list"],
)
def test_only_rows_may_name_the_base(call: Any, tmp_path: Path) -> None:
    _, adapters = adapted(tmp_path)
    with pytest.raises(StateError, match=r"which has 'a':\n  - (None|\['a'\])"):
        call(adapters, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("model", ["x", None, torch.zeros(1)])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(ConfigError, match=r"takes a model, an nn\.Module, not "):
        AdapterSet(model)


class Shifted(nn.Module):
    """A layer that reads the rows, and one that reads a table."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.table = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.rows(x) + self.table(torch.ones(3, 4)).sum(0)


def test_a_batch_without_rows_needs_no_rows() -> None:
    model, empty = Shifted(), torch.empty(0, 4)
    adapters = AdapterSet(model)
    adapters.add("a", LoraConfig(r=2, target_modules=["table"]))
    adapters.activate("a")
    assert output(model, x=empty).shape == (0, 4)
    with adapters.rows(["a"]), pytest.raises(StateError, match="the model has an input of 0, and"):
        output(model, x=empty)
