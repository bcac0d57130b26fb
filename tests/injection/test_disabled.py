"""`disabled` is the thread's own and whole: no output is half the base's, whoever else runs."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.checkpoint import CheckpointError, checkpoint

import lorakit as lora
from lorakit.surgery.disabling import here
from tests.injection.interrupting import interrupted
from tests.layers.test_replicas import replica
from tests.tolerances import EXACT


class Net(nn.Module):
    """Linear layers to adapt, a norm and a head to train in full."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 6), nn.Tanh())
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.body(x))
        return y


FIELDS: dict[str, dict[str, Any]] = {
    "adapters": {},
    "head": {"modules_to_save": ["head"]},
    "head, norm, biases": {"modules_to_save": ["head", "body.1"], "bias": "all"},
    "merged": {"merge_weights": True, "modules_to_save": ["head"]},
}


def adapted(**fields: Any) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A model, an input, the base's output and the adapted one, which differ everywhere."""
    torch.manual_seed(0)
    model, x = Net().eval(), torch.randn(4, 6)
    base = model(x).detach()
    settings = {"r": 2, "target_modules": ["body.0", "body.2"], "init_lora_weights": False}
    lora.inject(model, lora.LoraConfig(**settings | fields))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3)
        y = model(x)
    assert (y - base).abs().min() > 1e-3
    return model, x, base, y


@pytest.fixture(params=FIELDS)
def fields(request: pytest.FixtureRequest) -> dict[str, Any]:
    return FIELDS[request.param]


@torch.no_grad()
def output(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return model(x)


def in_another_thread(run: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(run()))
    thread.start()
    thread.join()
    return results[0]


# --- threads


def test_disabled_is_the_threads_own(fields: dict[str, Any]) -> None:
    model, x, base, y = adapted(**fields)
    with lora.disabled(model):
        assert_close(output(model, x), base, **EXACT)
        assert_close(in_another_thread(partial(output, model, x)), y, **EXACT)
        assert_close(output(model, x), base, **EXACT)
    assert_close(output(model, x), y, **EXACT)


def test_no_output_is_half_of_each_while_another_thread_switches(fields: dict[str, Any]) -> None:
    """In 10,533 outputs 5,899 were neither the base's nor the adapted ones."""
    model, x, base, y = adapted(**fields)
    ended = threading.Event()

    def switch() -> None:
        while not ended.is_set():
            with lora.disabled(model):
                assert_close(output(model, x), base, **EXACT)

    thread = threading.Thread(target=switch)
    thread.start()
    for _ in range(200):
        assert_close(output(model, x), y, **EXACT)
    ended.set()
    thread.join()


def test_another_model_in_the_same_thread_keeps_its_adapter() -> None:
    model, x, base, _ = adapted()
    other, _, _, y = adapted()
    with lora.disabled(model):
        assert_close(output(other, x), y, **EXACT)
        assert_close(output(model, x), base, **EXACT)


def test_a_part_of_a_model_is_disabled_alone() -> None:
    model, x, base, y = adapted(modules_to_save=["head"])
    with lora.disabled(model.body):
        assert_close(output(model.body, x), output(base_body(), x), **EXACT)
        assert not torch.allclose(output(model, x), base)
        with lora.disabled(model):
            assert_close(output(model, x), base, **EXACT)
        assert not torch.allclose(output(model, x), base)
    assert_close(output(model, x), y, **EXACT)


def base_body() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval().body


def test_the_state_inside_is_the_trained_one(fields: dict[str, Any]) -> None:
    model, x, base, y = adapted(**fields)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with lora.disabled(model):
        assert_close(model.state_dict(), before, **EXACT)
        made = copy.deepcopy(model)
        assert_close(output(made, x), y, **EXACT)
    with lora.disabled(made):
        assert_close(output(made, x), base, **EXACT)


def test_replicas_of_data_parallel_are_as_disabled_as_their_module(fields: dict[str, Any]) -> None:
    """They are made in the caller's thread, and each runs in one of its own."""
    model, x, base, y = adapted(**fields)
    with lora.disabled(model):
        made = replica(model)
    assert_close(in_another_thread(partial(output, made, x)), base, **EXACT)
    made = replica(model)
    with lora.disabled(model):
        assert_close(in_another_thread(partial(output, made, x)), y, **EXACT)


def test_disabled_decorates_a_function() -> None:
    model, x, base, y = adapted()
    assert_close(lora.disabled(model)(output)(model, x), base, **EXACT)
    assert_close(output(model, x), y, **EXACT)


# --- interruptions


def use(switch: Any, model: nn.Module) -> None:
    with switch(model):
        pass


FILES = ("modes.py", "disabling.py", "contextlib.py")


@pytest.mark.parametrize("switch", [lora.disabled, lora.merged])
def test_an_interrupt_while_entering_or_leaving_leaves_the_adapters_on(switch: Any) -> None:
    model, x, base, y = adapted(modules_to_save=["head"])
    at = 0
    while interrupted(partial(use, switch, model), at, FILES):
        assert here.disabled == ()
        assert_close(output(model, x), y, rtol=1e-5, atol=1e-6)
        at += 1
    assert at > 10
    with lora.disabled(model):
        assert_close(output(model, x), base, **EXACT)
    assert_close(output(model, x), y, rtol=1e-5, atol=1e-6)


# --- compiled code


@pytest.fixture
def compiler() -> Iterator[Callable[[nn.Module], Any]]:
    torch._dynamo.reset()
    yield partial(torch.compile, fullgraph=True, backend="aot_eager")
    torch._dynamo.reset()


def test_compiled_code_is_disabled_in_its_own_thread(
    fields: dict[str, Any], compiler: Callable[[nn.Module], Any]
) -> None:
    model, x, base, y = adapted(**fields)
    forward = compiler(model)
    close = {"rtol": 1e-5, "atol": 1e-6}
    for _ in range(2):
        assert_close(output(forward, x), y, **close)
        with lora.disabled(model):
            assert_close(output(forward, x), base, **close)
            assert_close(in_another_thread(partial(output, forward, x)), y, **close)
            assert_close(output(forward, x), base, **close)
        assert_close(in_another_thread(partial(output, forward, x)), y, **close)


def test_code_compiled_inside_is_adapted_outside(
    fields: dict[str, Any], compiler: Callable[[nn.Module], Any]
) -> None:
    model, x, base, y = adapted(**fields)
    forward = compiler(model)
    close = {"rtol": 1e-5, "atol": 1e-6}
    with lora.disabled(model):
        assert_close(output(forward, x), base, **close)
    assert_close(output(forward, x), y, **close)


# --- gradient checkpointing


def gradient(model: nn.Module, x: Tensor, kind: str) -> Tensor:
    leaf = x.clone().requires_grad_()
    (run(model, leaf, kind)).square().sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def run(model: nn.Module, x: Tensor, kind: str) -> Tensor:
    if kind == "plain":
        return model(x)
    y: Any = checkpoint(model, x, use_reentrant=kind == "reentrant")
    made: Tensor = y
    return made


KINDS = ["reentrant", "not reentrant"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpointed_forward_and_its_backward_inside_give_the_bases_gradient(kind: str) -> None:
    model, x, _, _ = adapted(modules_to_save=["head"])
    with lora.disabled(model):
        expected = gradient(model, x, "plain")
        assert_close(gradient(model, x, kind), expected, **EXACT)


@pytest.mark.parametrize("inside", [False, True])
def test_a_backward_on_the_other_side_of_the_block_is_an_error_of_torch(inside: bool) -> None:
    """It recomputes with the other weights, and saves other tensors than the forward did."""
    model, x, _, _ = adapted(modules_to_save=["head"])
    switch = lora.disabled(model)
    with switch if inside else nullcontext():
        y = run(model, x.clone().requires_grad_(), "not reentrant")
    with nullcontext() if inside else switch, pytest.raises(CheckpointError):
        y.square().sum().backward()


@pytest.mark.parametrize("kind", KINDS)
def test_reference_logits_between_forward_and_backward_change_no_gradient(kind: str) -> None:
    model, x, base, _ = adapted(modules_to_save=["head"])
    model.train()
    expected = gradient(model, x, "plain")
    leaf = x.clone().requires_grad_()
    y = run(model, leaf, kind)
    with lora.disabled(model), torch.no_grad():
        assert_close(run(model, leaf, kind), base, **EXACT)
    y.square().sum().backward()
    assert_close(leaf.grad, expected, **EXACT)
