"""A compiled model that trains with a set: one graph forward, one backward, eager's gradients."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor
from torch.testing import assert_close

from lorakit import AdapterSet, LoraConfig
from lorakit.adapters import compiled_training
from lorakit.errors import StateError
from tests.adapters.files import save
from tests.injection import zoo
from tests.tolerances import MODEL

QV = {"target_modules": ["0", "3"]}
CONFIGS: dict[str, dict[str, Any]] = {
    "a": {"r": 2, **QV},
    "b": {"r": 3, "lora_alpha": 5, "use_dora": True, "target_modules": ["3"]},
    "head": {"r": 1, "target_modules": ["0"], "modules_to_save": ["5"]},
}
X = torch.linspace(-1, 1, 4 * 3 * 8).reshape(4, 3, 8)
MIXED = ["a", "b", None, "a"]


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def set_of(names: Sequence[str], build: Callable[[], Any] = zoo.sequential, **more: Any) -> Any:
    """A new set with these adapters, which train and whose B is not zero."""
    adapters = AdapterSet(build())
    for name in names:
        torch.manual_seed(len(name))
        config: dict[str, Any] = CONFIGS[name] | more
        adapters.add(name, LoraConfig(**config, init_lora_weights=False))
    return adapters


def compiled_of(adapters: AdapterSet) -> Any:
    return torch.compile(adapters.model, fullgraph=True, backend="aot_eager")


def collected(adapters: AdapterSet) -> dict[str, Tensor]:
    """The gradients of all, which are then gone."""
    found = {}
    for loaded in adapters.list():
        for key, parameter in adapters.named_parameters(loaded.name):
            if parameter.grad is not None:
                found[f"{loaded.name}: {key}"], parameter.grad = parameter.grad, None
    return found


def gradients(adapters: AdapterSet, model: Any) -> dict[str, Tensor]:
    """Of a step of the model, compiled or not."""
    model(X).square().sum().backward()
    return collected(adapters)


@pytest.mark.parametrize("rows", [MIXED, ["b"] * 4, [None, "head", "a", "b"], ["a", "b"]], ids=str)
def test_each_gradient_is_eagers_in_one_graph(rows: list[str | None]) -> None:
    adapters = set_of(["a", "b", "head"])
    with adapters.rows(rows):
        expected = gradients(adapters, adapters.model)
        found = gradients(adapters, compiled_of(adapters))
    assert {key.partition(":")[0] for key in found} == {name for name in rows if name}
    assert_close(found, expected, **MODEL)


def test_under_autocast_the_gradients_are_eagers_there() -> None:
    adapters, found = set_of(["a", "b", "head"]), []
    for model in (adapters.model, compiled_of(adapters)):
        with adapters.rows(["a", "head", "b", None]), torch.autocast("cpu", torch.bfloat16):
            found.append(gradients(adapters, model))
    assert_close(found[1], found[0], rtol=0.05, atol=0.05)


def test_inputs_and_outputs_have_any_layout() -> None:
    """A transposed input, whose gradient is, too."""
    adapters, x = set_of(["a"]), torch.randn(8, 3, 2, requires_grad=True)
    layer: Any = adapters.model.get_submodule("0")

    def run(x: Tensor) -> Any:
        return layer(x.transpose(0, 2)).sum()

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    with adapters.rows(["a", None]):
        expected = torch.autograd.grad(run(x), x)
        assert_close(torch.autograd.grad(compiled(x), x), expected, **MODEL)


def test_a_language_model_learns_in_one_graph() -> None:
    config = {"target_modules": ["q_proj", "down_proj"]}
    build, ids = partial(zoo.llama, num_hidden_layers=1), torch.arange(3, 15).reshape(2, 6)
    adapters = set_of(["a", "b"], build, **config)
    batch = {"input_ids": ids, "labels": ids, "use_cache": False}
    with adapters.rows(["b", "a"]):
        adapters.model(**batch).loss.backward()
        expected = collected(adapters)
        compiled_of(adapters)(**batch).loss.backward()
    assert_close(collected(adapters), expected, **MODEL)


def test_other_rows_and_more_adapters_recompile_nothing(tmp_path: Path) -> None:
    adapters = set_of(["a", "b"])
    compiled = compiled_of(adapters)
    with adapters.rows(MIXED):
        gradients(adapters, compiled)
    adapters.add("c", LoraConfig(r=3, **QV))
    adapters.load("d", save(zoo.sequential, tmp_path, r=4, **QV))
    rows: list[list[str | None]] = [["c", "a", "d", None], ["c"] * 4, ["d", "a", "b", "c"]]
    with torch.compiler.set_stance("fail_on_recompile"):
        for names in rows:
            with adapters.rows(names):
                expected = gradients(adapters, adapters.model)
                assert_close(gradients(adapters, compiled), expected, **MODEL)
        adapters.activate("b")
        expected = gradients(adapters, adapters.model)
        assert_close(gradients(adapters, compiled), expected, **MODEL)


def test_a_backward_pass_has_the_rows_of_its_forward() -> None:
    """Wherever it is called, and whatever other forwards have chosen since."""
    adapters = set_of(["a", "b"])
    compiled = compiled_of(adapters)
    with adapters.rows(MIXED):
        expected = gradients(adapters, adapters.model)
    outputs = []
    for names in (MIXED, ["b"] * 4, [None] * 4):
        with adapters.rows(names):
            outputs.append(compiled(X))
    outputs[0].square().sum().backward()
    assert_close(collected(adapters), expected, **MODEL)
    del outputs
    gc.collect()
    assert len(compiled_training._steps) == 0, "what no backward needs is forgotten"


def test_dropout_drops_the_same_in_backward() -> None:
    """The output is linear in the input, so the gradients of all of it give it back."""
    adapters = set_of(["a"], lora_dropout=0.5)
    layer: Any = adapters.model.train().get_submodule("3")
    torch.nn.init.zeros_(layer.bias)
    x = torch.randn(2, 3, 12, requires_grad=True)
    with adapters.rows(["a", None]):
        y = torch.compile(layer, fullgraph=True, backend="aot_eager")(x)
        y.sum().backward()
    assert x.grad is not None
    assert_close((x * x.grad).sum(), y.sum(), **MODEL)


@pytest.mark.parametrize("before", [True, False], ids=["train", "eval"])
def test_a_backward_pass_is_in_the_mode_of_its_forward(before: bool) -> None:
    adapters = set_of(["a"], lora_dropout=0.5)
    layer: Any = adapters.model.train(before).get_submodule("3")
    torch.nn.init.zeros_(layer.bias)
    x = torch.randn(2, 3, 12, requires_grad=True)
    with adapters.rows(["a", None]):
        y = torch.compile(layer, fullgraph=True, backend="aot_eager")(x)
        adapters.model.train(not before)
        y.sum().backward()
    assert x.grad is not None
    assert_close((x * x.grad).sum(), y.sum(), **MODEL)
    assert layer.training is not before


def test_adapters_that_change_before_their_backward_are_an_error() -> None:
    """Outside of a graph autograd says so."""
    adapters = set_of(["a", "b"])
    compiled, optimizer = compiled_of(adapters), torch.optim.SGD(adapters.parameters("a"), lr=1)
    with adapters.rows(MIXED):
        first, second = (compiled(X).square().sum() for _ in range(2))
    with adapters.rows(["b"] * 4):
        third = compiled(X).square().sum()
    first.backward()
    optimizer.step()
    with pytest.raises(StateError, match=r"3 have changed in place.*call backward"):
        second.backward()
    third.backward()


def test_hooks_that_copy_what_a_graph_keeps_are_named() -> None:
    adapters = set_of(["a"])
    compiled = compiled_of(adapters)
    adapters.activate("a")
    expected = gradients(adapters, adapters.model)
    hooks = torch.autograd.graph.saved_tensors_hooks
    with hooks(torch.clone, lambda tensor: tensor):
        loss = compiled(X).square().sum()
    with pytest.raises(StateError, match=r"saved_tensors_hooks, save_on_cpu"):
        loss.backward()
    kept = torch.int64
    with hooks(lambda x: x if x.dtype == kept else x.clone(), lambda tensor: tensor):
        loss = compiled(X).square().sum()
    loss.backward()
    assert_close(collected(adapters), expected, **MODEL)


@pytest.mark.parametrize("shape", [(12,), (0, 12)], ids=str)
def test_an_active_adapter_takes_any_input_in_a_graph_too(shape: tuple[int, ...]) -> None:
    adapters, x = set_of(["a"]), torch.randn(shape)
    adapters.activate("a")
    layer: Any = adapters.model.get_submodule("3")
    expected = layer(x)
    found = torch.compile(layer, fullgraph=True, backend="aot_eager")(x)
    assert_close(found, expected, **MODEL)
    found.sum().backward()


def test_without_one_that_learns_only_the_input_has_a_gradient(tmp_path: Path) -> None:
    adapters, x = set_of([]), X.clone().requires_grad_()
    adapters.model.requires_grad_(False)
    adapters.load("a", save(zoo.sequential, tmp_path, r=2, **QV))
    compiled = compiled_of(adapters)
    with adapters.rows(["a", None]):
        expected = torch.autograd.grad(adapters.model(x).sum(), x)
        assert_close(torch.autograd.grad(compiled(x).sum(), x), expected, **MODEL)
        assert not compiled(X).requires_grad


def test_a_layer_that_is_recomputed_in_a_graph_is_an_error() -> None:
    """Dynamo takes no context_fn, so nothing carries the rows there."""
    adapters = set_of(["a", "b"])
    layer: Any = adapters.model.get_submodule("3")

    def recomputed(x: Tensor) -> Any:
        return torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)

    compiled = torch.compile(recomputed, backend="aot_eager")
    with adapters.rows(["a", "b"]):
        y = compiled(torch.randn(2, 3, 12))
        with pytest.raises(StateError, match="is recomputed by gradient checkpointing"):
            y.sum().backward()
