"""Adapters that learn from mixed batches: each as it would have learned alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit
from lorakit import AdapterSet, LoraConfig
from lorakit.adapters.trained import Segments
from tests.adapters.test_rows import IDS
from tests.injection import zoo
from tests.tolerances import TOLERANCES

CLOSE = TOLERANCES[torch.float64]
QV = {"target_modules": ["q_proj", "v_proj"]}
Start = Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]


def adamw(**settings: Any) -> Start:
    return lambda parameters: torch.optim.AdamW(parameters, **settings)


def sgd(parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.1)


LEARNERS: dict[str, tuple[dict[str, Any], Start, float]] = {
    "narrow": ({"r": 2, "lora_alpha": 4, **QV}, adamw(lr=1e-2, weight_decay=0.0), 1.0),
    "wide": ({"r": 4, "lora_alpha": 2, **QV}, adamw(lr=3e-2, weight_decay=0.3), 0.1),
    "dora": ({"r": 3, "use_dora": True, **QV}, adamw(lr=1e-2, weight_decay=0.1), 0.5),
    "momentum": ({"r": 2, "target_modules": "all-linear"}, sgd, 10.0),
}
"""By name: the config, its optimizer, and the norm to which its gradients are clipped."""


def llama() -> nn.Module:
    return zoo.llama().double().train()


class Learner:
    """Parameters, an optimizer and a schedule of their own."""

    def __init__(self, name: str, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters, (_, start, self.norm) = parameters, LEARNERS[name]
        self.optimizer = start(parameters)
        self.schedule = torch.optim.lr_scheduler.LinearLR(self.optimizer, 1.0, 0.1, 50)

    def step(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.parameters, self.norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()


def loss_of(model: nn.Module, ids: Tensor) -> Tensor:
    """The mean loss of these texts."""
    return own_losses(model, ids, [None] * len(ids))


def own_losses(model: nn.Module, ids: Tensor, names: Sequence[str | None]) -> Tensor:
    """The sum of what each adapter's own rows have as their mean loss."""
    logits = model(input_ids=ids).logits
    losses = nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none"
    )
    return torch.stack(
        [losses[[at for at, own in enumerate(names) if own == name]].mean() for name in set(names)]
    ).sum()


def rows_of(step: int) -> list[str]:
    """Other rows in each step; in some an adapter has none, in some they are not in order."""
    generator = torch.Generator().manual_seed(step)
    names = list(LEARNERS)
    return [names[n] for n in torch.randint(4, (8,), generator=generator).tolist()]


def test_each_learns_as_it_would_have_learned_alone() -> None:
    """50 steps: ranks, alphas, learning rates, clipping, weight decay, momentum, DoRA."""
    model = llama()
    adapters = AdapterSet(model)
    alone, single, mixed = {}, {}, {}
    for name, (config, *_) in LEARNERS.items():
        adapters.add(name, LoraConfig(**config))
        alone[name] = llama()
        lorakit.inject(alone[name], LoraConfig(**config))
        own = {n: p for n, p in alone[name].named_parameters() if p.requires_grad}
        with torch.no_grad():
            for key, parameter in adapters.named_parameters(name):
                own[key].copy_(parameter)
        single[name] = Learner(name, [*own.values()])
        mixed[name] = Learner(name, [*adapters.parameters(name)])
    for step in range(50):
        ids, names = IDS.roll(step, 1), rows_of(step)
        with adapters.rows(names):
            own_losses(model, ids, names).backward()
        for name in set(names):
            mixed[name].step()
            rows = [at for at, own_name in enumerate(names) if own_name == name]
            loss_of(alone[name], ids[rows]).backward()
            single[name].step()
    for name in LEARNERS:
        found = dict(adapters.named_parameters(name))
        for key, parameter in alone[name].named_parameters():
            if parameter.requires_grad:
                assert_close(found[key], parameter, rtol=1e-7, atol=1e-9, msg=f"{name}: {key}")


def test_an_adapter_without_a_row_does_not_move() -> None:
    model = llama()
    adapters = AdapterSet(model)
    for name, (config, *_) in LEARNERS.items():
        adapters.add(name, LoraConfig(**config))
    learners = {name: Learner(name, [*adapters.parameters(name)]) for name in LEARNERS}

    def step(names: list[str]) -> None:
        with adapters.rows(names):
            own_losses(model, IDS[: len(names)], names).backward()
        for learner in learners.values():  # also of those that had no row
            learner.step()

    def state(name: str) -> list[Any]:
        optimizer = learners[name].optimizer
        held = [*learners[name].parameters]
        held += [v for s in optimizer.state.values() for v in s.values()]
        return [v.clone() if isinstance(v, Tensor) else v for v in held]

    for _ in range(3):
        step(list(LEARNERS))
    absent = ["wide", "momentum"]
    before = {name: state(name) for name in LEARNERS}
    step(["narrow", "dora", "narrow"])
    for name in LEARNERS:
        same = all(
            torch.equal(a, b) if isinstance(a, Tensor) else a == b
            for a, b in zip(before[name], state(name), strict=True)
        )
        assert same is (name in absent), name
    assert all(p.grad is None for name in absent for p in adapters.parameters(name))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_mixed_batch_has_one_product_with_the_base(
    monkeypatch: pytest.MonkeyPatch, dropout: float
) -> None:
    """Not one for each adapter, in forward and in backward."""
    model = zoo.llama().train()
    adapters = AdapterSet(model)
    for name in ("a", "b", "c"):
        config = {"r": 2, "lora_dropout": dropout, "target_modules": "all-linear"}
        adapters.add(name, LoraConfig(**config))
    calls: list[int] = []
    run = Segments.__call__

    def counted(plan: Segments, input: Tensor) -> Tensor:
        calls.append(len(input))
        return run(plan, input)

    monkeypatch.setattr(Segments, "__call__", counted)
    with adapters.rows(["a", "b", "c", "a", None]):
        loss_of(model, IDS[:5]).backward()
    assert calls == [5] * 14
    assert all(p.grad is not None for name in "abc" for p in adapters.parameters(name))


def test_slices_and_loaded_ones_train_beside_others(tmp_path: Path) -> None:
    """GPT-2's Conv1D, in slices and whole, beside an adapter that was loaded."""
    model = zoo.gpt2().double()
    lorakit.inject(source := zoo.gpt2().double(), LoraConfig(r=2, target_modules=["c_attn"]))
    path = lorakit.save_adapter(source, tmp_path)
    adapters = AdapterSet(model)
    adapters.load("old", path)
    adapters.add("sliced", LoraConfig(r=2, slices={"c_attn": [True, False, True]}))
    adapters.add("whole", LoraConfig(r=3, target_modules=["c_attn"]))
    for name in ("sliced", "whole"):
        for parameter in adapters.parameters(name):
            nn.init.normal_(parameter, std=0.3)
    names = ["whole", "old", "sliced", "whole", None]
    with adapters.rows(names):
        own_losses(model, IDS[:5], names).backward()
    for name in ("sliced", "whole"):
        together = {key: p.grad for key, p in adapters.named_parameters(name)}
        for parameter in adapters.parameters(name):
            parameter.grad = None
        adapters.activate(name)
        loss_of(model, IDS[:5][[at for at, own in enumerate(names) if own == name]]).backward()
        for key, parameter in adapters.named_parameters(name):
            assert_close(together[key], parameter.grad, **CLOSE, msg=f"{name}: {key}")


def classifier() -> nn.Module:
    return zoo.bert("BertForSequenceClassification", num_labels=3).double()


HEADS = {"modules_to_save": ["classifier"], "target_modules": ["query", "value"]}


def test_each_row_trains_the_head_of_its_adapter(tmp_path: Path) -> None:
    """As alone, and `load_adapter` reads the head that was trained."""
    labels, names = torch.tensor([0, 1, 2, 2, 0, 1]), ["a", "b", "b", "a", "a", "b"]
    rows = {name: [n for n, own in enumerate(names) if own == name] for name in "ab"}
    model, config, alone = classifier(), LoraConfig(r=2, **HEADS), {}
    adapters = AdapterSet(model)
    for name in "ab":
        adapters.add(name, config)
        alone[name] = classifier()
        lorakit.inject(alone[name], config)
        alone[name].load_state_dict(dict(adapters.named_parameters(name)), strict=False)
    base = adapters.model.get_parameter("classifier.weight").clone()

    def step(model: nn.Module, parameters: Sequence[nn.Parameter], loss: Tensor) -> None:
        loss.backward()
        with torch.no_grad():
            for parameter in parameters:
                parameter.sub_(parameter.grad, alpha=0.5)
                parameter.grad = None

    for _ in range(5):
        with adapters.rows(names):
            logits = model(IDS[:6]).logits
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        own = [p for name in "ab" for p in adapters.parameters(name)]
        step(model, own, losses[rows["a"]].mean() + losses[rows["b"]].mean())
        for name, single in alone.items():
            loss = nn.functional.cross_entropy(single(IDS[rows[name]]).logits, labels[rows[name]])
            step(single, [p for p in single.parameters() if p.requires_grad], loss)
    for name, single in alone.items():
        found = dict(adapters.named_parameters(name))
        assert {"classifier.weight", "classifier.bias"} < found.keys()
        for key, parameter in single.named_parameters():
            if parameter.requires_grad:
                assert_close(found[key], parameter, rtol=1e-7, atol=1e-9, msg=key)
        loaded = classifier()
        lorakit.load_adapter(loaded, adapters.save(name, tmp_path / name))
        assert_close(loaded(IDS).logits, single(IDS).logits, rtol=1e-6, atol=1e-6)
    assert torch.equal(adapters.model.get_parameter("classifier.weight"), base)


def test_a_head_of_a_16_bit_base_trains_in_float32() -> None:
    model = zoo.bert("BertForSequenceClassification", num_labels=3).bfloat16()
    adapters = AdapterSet(model)
    adapters.add("a", LoraConfig(r=2, **HEADS))
    with adapters.rows(["a", None]):
        logits = model(IDS[:2]).logits
    assert logits.dtype is torch.bfloat16
    logits.float().square().sum().backward()
    trained = dict(adapters.named_parameters("a"))["classifier.weight"]
    assert trained.dtype is torch.float32
    assert trained.grad is not None
    assert trained.grad.any()


def test_what_trains_follows_the_model_and_stays_as_wide() -> None:
    """Shared memory is a place to which a CPU moves, as a GPU is one."""
    model = zoo.llama()
    adapters = AdapterSet(model)
    adapters.add("new", LoraConfig(r=2, **QV, modules_to_save=["lm_head"]))
    adapters.activate("new")
    model(IDS, labels=IDS).loss.backward()
    parameters = [*adapters.parameters("new")]
    model.share_memory()
    assert all(p.is_shared() and p.grad is not None and p.grad.is_shared() for p in parameters)
    model.to(torch.float64)
    model(IDS, labels=IDS).loss.backward()
    assert all(a is b for a, b in zip(parameters, adapters.parameters("new"), strict=True))
    assert {p.dtype for p in parameters} == {torch.float32}
