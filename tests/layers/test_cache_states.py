"""Any sequence of what users do to a model keeps its base, and its output is that of A and B."""

from __future__ import annotations

import copy
import io

import torch
import torch.nn.functional as F
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from torch import Tensor, nn
from torch.optim import SGD, AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.testing import assert_close

import lorakit as lora
from tests.tolerances import EXACT, TOLERANCES

F64 = {"dtype": torch.float64}


class TwoLayers(nn.Module):
    """A plain and a sliced layer in float64, where a stale output is off by many digits."""

    def __init__(self) -> None:
        super().__init__()
        self.one = lora.Linear(4, 5, r=2, lora_alpha=3, **F64)
        self.two = lora.MergedLinear(5, 6, r=1, lora_alpha=3, enable_lora=[True, False], **F64)
        for layer in (self.one, self.two):
            nn.init.normal_(layer.lora_B)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.tanh(self.one(x)))


def slow_forward(model: TwoLayers, base: dict[str, Tensor], x: Tensor) -> Tensor:
    """Both layers written out, with the base as it was in the beginning."""
    one, two = model.one, model.two
    w_one = base["one.weight"] + one.lora_alpha / 2 * one.lora_B @ one.lora_A
    h = torch.tanh(F.linear(x, w_one, base["one.bias"]))
    upper = base["two.weight"][:3] + two.lora_alpha * two.lora_B @ two.lora_A
    return F.linear(h, torch.cat([upper, base["two.weight"][3:]]), base["two.bias"])


def adapters(model: TwoLayers) -> list[nn.Parameter]:
    return [p for layer in (model.one, model.two) for p in (layer.lora_A, layer.lora_B)]


class LifeOfAModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.model = TwoLayers()
        lora.mark_only_lora_as_trainable(self.model)
        state = self.model.state_dict()
        self.base = {name: v.clone() for name, v in state.items() if "lora_" not in name}
        self.x = torch.randn(3, 4, **F64)
        self.saved = {name: value.clone() for name, value in state.items()}
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
        self.expected_average = [p.detach().clone() for p in adapters(self.model)]
        self.optimise("AdamW")

    @rule(kind=st.sampled_from(["AdamW", "SGD"]))
    def optimise(self, kind: str) -> None:
        made = {"AdamW": AdamW, "SGD": SGD}[kind]
        self.optimizer = made(adapters(self.model), lr=0.1, fused=True)

    @rule()
    def eval(self) -> None:
        self.model.eval()

    @rule()
    def train(self) -> None:
        self.model.train()

    @rule(inference=st.booleans())
    def forward_without_gradient(self, inference: bool) -> None:
        with torch.inference_mode() if inference else torch.no_grad():
            self.assert_output(self.model)

    @rule()
    def forward_with_gradient(self) -> None:
        self.assert_output(self.model)

    @rule()
    def step(self) -> None:
        """Fused optimizers write without a new version, also in evaluation mode."""
        for parameter in adapters(self.model):
            parameter.grad = torch.randn_like(parameter)
        self.optimizer.step()

    @rule()
    def backward_and_step(self) -> None:
        self.optimizer.zero_grad()
        loss = self.model(self.x).square().sum()
        loss.backward()
        self.optimizer.step()

    @rule()
    def save(self) -> None:
        file = io.BytesIO()
        torch.save(self.model.state_dict(), file)
        file.seek(0)
        self.saved = torch.load(file, weights_only=True)

    @rule(adapters_only=st.booleans())
    def load(self, adapters_only: bool) -> None:
        state = {n: v for n, v in self.saved.items() if "lora_" in n or not adapters_only}
        self.model.load_state_dict(state, strict=not adapters_only)
        for name, value in self.model.state_dict().items():
            assert_close(value, self.saved[name], **EXACT)

    @rule(whole=st.booleans())
    def copy(self, whole: bool) -> None:
        """Go on with a copy; the original is dropped with its cache."""
        if whole:
            file = io.BytesIO()
            torch.save(self.model, file)
            file.seek(0)
            self.model = torch.load(file, weights_only=False)
        else:
            self.model = copy.deepcopy(self.model)
        self.optimise("AdamW")

    @rule()
    def average_now(self) -> None:
        first = int(self.average.n_averaged) == 0
        self.average.update_parameters(self.model)
        now = [p.detach().clone() for p in adapters(self.model)]
        pairs = zip(self.expected_average, now, strict=True)
        self.expected_average = now if first else [old.lerp(new, 0.5) for old, new in pairs]

    @rule(training=st.booleans())
    def forward_of_the_average(self, training: bool) -> None:
        self.average.train(training)
        with torch.no_grad():
            self.assert_output(self.average.module)

    @rule()
    def edit(self) -> None:
        with torch.no_grad():
            for parameter in adapters(self.model):
                parameter.mul_(-0.9)

    @rule(alpha=st.sampled_from([1, 3, 7]))
    def set_alpha(self, alpha: int) -> None:
        self.model.one.lora_alpha = alpha

    @rule(allowed=st.booleans())
    def set_merge_weights(self, allowed: bool) -> None:
        self.model.two.merge_weights = allowed

    def assert_output(self, model: TwoLayers) -> None:
        expected = slow_forward(model, self.base, self.x)
        assert_close(model(self.x), expected, **TOLERANCES[torch.float64])

    @invariant()
    def base_is_bit_identical(self) -> None:
        for model in (self.model, self.average.module):
            for name, value in model.state_dict().items():
                if name in self.base:
                    assert_close(value, self.base[name], **EXACT)

    @invariant()
    def average_is_that_of_a_and_b(self) -> None:
        for value, expected in zip(
            adapters(self.average.module), self.expected_average, strict=True
        ):
            assert_close(value.detach(), expected, **TOLERANCES[torch.float64])


def test_any_sequence_of_events_keeps_base_and_output():
    run_state_machine_as_test(
        LifeOfAModel, settings=settings(max_examples=40, stateful_step_count=20, deadline=None)
    )


def test_to_empty_keeps_what_was_loaded_beside_a_base_without_values() -> None:
    layer = lora.Linear(8, 12, r=2, device="meta")
    loaded = {"lora_A": torch.randn(2, 8), "lora_B": torch.randn(12, 2)}
    layer.load_state_dict(loaded, strict=False, assign=True)
    layer.to_empty(device="cpu")
    assert not layer.weight.is_meta
    assert_close({name: getattr(layer, name).detach() for name in loaded}, loaded, **EXACT)
