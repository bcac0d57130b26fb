"""What stands still is found and named; what moves, or never ran, is left alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lorakit as lora
from lorakit.injection.inspection.health import check_training, mark_training_start, recording_calls

STEPS = 3


class Net(nn.Module):
    """Two layers that learn, one whose output is thrown away, one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 1)
        self.wasted, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.first(x))
        self.wasted(h)
        return self.last(h)


def adapted(targets: list[str]) -> Net:
    model = Net()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=targets))
    return model


def train(model: nn.Module, parameters=None, rate: float = 0.1, steps: int = STEPS) -> None:
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trainable if parameters is None else parameters, lr=rate)
    for _ in range(steps):
        for parameter in trainable:
            parameter.grad = None
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()


def test_all_moved_is_quiet():
    model = adapted(["first", "last"])
    train(model)
    check = check_training(model)
    assert check.stuck == {}
    assert str(check) == "all 4 trainable tensors have changed"


def test_after_one_step_lora_a_has_a_zero_gradient():
    """dL/dA = scale B^T dL/dy x^T, and B starts at zero."""
    model = adapted(["first"])
    train(model, steps=1)
    assert check_training(model).stuck == {"first.lora_A": "its gradient is zero"}


def test_an_unused_output_is_named_with_the_reason():
    model = adapted(["first", "wasted"])
    train(model)
    check = check_training(model)
    assert sorted(check.stuck) == ["wasted.lora_A", "wasted.lora_B"]
    assert all("its grad is None" in why for why in check.stuck.values())
    assert "2 of 4 trainable tensors have not changed:\n  - wasted.lora_A" in str(check)


def test_a_tensor_outside_the_optimizer_is_named():
    model = adapted(["first", "last"])
    train(model, [p for n, p in model.named_parameters() if p.requires_grad and "first" in n])
    assert sorted(check_training(model).stuck) == ["last.lora_A", "last.lora_B"]
    assert "it is in no optimizer" in check_training(model).stuck["last.lora_B"]


def test_a_learning_rate_of_zero_is_named():
    model = adapted(["first"])
    train(model, rate=0.0)
    assert "the learning rate is 0" in check_training(model).stuck["first.lora_B"]


def test_modules_that_never_ran_are_left_out():
    model = adapted(["first", "idle"])
    with recording_calls(model) as called:
        train(model)
    assert called == {"first"}
    assert sorted(check_training(model).stuck) == ["idle.lora_A", "idle.lora_B"]
    assert check_training(model, frozenset(called)).stuck == {}


def test_recording_leaves_no_hook():
    model = adapted(["first"])
    with pytest.raises(RuntimeError, match="stop"), recording_calls(model):
        raise RuntimeError("stop")
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_mark_starts_anew():
    model = adapted(["first", "last"])
    train(model)
    mark_training_start(model)
    assert len(check_training(model).stuck) == 4


@pytest.mark.parametrize("change", [1e-6, -1e-6])
def test_a_small_change_of_one_element_counts(change):
    model = adapted(["first"])
    with torch.no_grad():
        model.first.lora_A[1, 2] += change
    assert list(check_training(model).stuck) == ["first.lora_B"]


def test_two_elements_that_change_places_count():
    model = adapted(["first"])
    with torch.no_grad():
        model.first.lora_A[0, [0, 1]] = model.first.lora_A[0, [1, 0]]
    assert list(check_training(model).stuck) == ["first.lora_B"]


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
@pytest.mark.parametrize("inside", [True, False], ids=["inject, wrap", "wrap, inject"])
def test_a_wrapped_model_is_checked_as_the_plain_one(wrap, inside):
    model = Net()
    wrapped = wrap(model)
    config = lora.LoraConfig(r=2, target_modules=["first"])
    lora.inject(model if inside else wrapped, config)
    stuck = check_training(wrapped).stuck
    assert sorted(stuck) == ["first.lora_A", "first.lora_B"]
    assert check_training(model).stuck == stuck


def test_calls_within_a_wrapper_are_recorded_by_the_plain_names():
    model = adapted(["first", "idle"])
    wrapped = nn.DataParallel(model)
    with recording_calls(wrapped) as called:
        wrapped(torch.randn(8, 4))
    assert called == {"first"}
    assert sorted(check_training(wrapped, frozenset(called)).stuck) == [
        "first.lora_A",
        "first.lora_B",
    ]


def test_a_model_without_a_mark_has_nothing_to_say():
    model = Net()
    assert check_training(model).stuck == {}
    assert check_training(model).trainable == 8


def test_heads_trained_in_full_are_watched_too():
    model = Net()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["first"], modules_to_save=["wasted"]))
    train(model)
    assert sorted(check_training(model).stuck) == ["wasted.bias", "wasted.weight"]
