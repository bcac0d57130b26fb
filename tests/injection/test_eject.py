"""`eject` gives the original modules back: the same objects with the same numbers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.errors import StateError
from tests.injection import zoo
from tests.injection.checks import assert_same, outputs, q_and_v, snapshot, train
from tests.tolerances import EXACT


@pytest.mark.parametrize("name", zoo.CASES)
def test_a_trained_model_comes_back_bit_for_bit(name: str) -> None:
    case = zoo.CASES[name]
    model = case.build()
    before, y = snapshot(model), outputs(case, model)
    lora.inject(model, q_and_v(case))
    train(model, case)
    assert (outputs(case, model) - y).abs().max() > 1e-3
    with lora.merged(model):
        outputs(case, model)
    lora.eject(model)
    assert_same(before, snapshot(model))
    assert_close(outputs(case, model), y, **EXACT)


def test_trained_heads_and_biases_come_back_bit_for_bit() -> None:
    case = zoo.CASES["roberta"]
    model = case.build()
    before = snapshot(model)
    lora.inject(model, q_and_v(case, modules_to_save=["classifier"], bias="all"))
    train(model, case)
    changed = [
        n
        for n, value in model.state_dict().items()
        if not torch.equal(value, before["values"].get(n, value))
    ]
    assert {"classifier.dense.weight", "classifier.out_proj.bias"} < set(changed)
    assert any(n.endswith("attention.self.key.bias") or "LayerNorm.bias" in n for n in changed)
    lora.eject(model)
    assert_same(before, snapshot(model))


def test_many_cycles_leave_the_same_bits_in_half_precision() -> None:
    """loralib adds and subtracts the update in place and drifts (B4)."""
    case = zoo.CASES["gpt2"]
    model = case.build().bfloat16()
    before = snapshot(model)
    for seed in range(20):
        torch.manual_seed(seed)
        lora.inject(model, q_and_v(case, init_lora_weights=False, merge_weights=True))
        model.eval()
        outputs(case, model)
        model.train()
        model.eval()
        lora.eject(model)
    assert_same(before, snapshot(model))


def test_an_ejected_model_can_be_adapted_again() -> None:
    case = zoo.CASES["t5"]
    model = case.build()
    first = lora.inject(model, q_and_v(case))
    lora.eject(model)
    assert lora.inject(model, q_and_v(case)) == first


def test_ties_come_back() -> None:
    model = zoo.gpt2()
    before = snapshot(model)
    config = lora.LoraConfig(r=2, target_modules=["c_attn"], modules_to_save=["lm_head"])
    lora.inject(model, config)
    assert model.lm_head.weight is not model.transformer.wte.weight
    lora.eject(model)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert_same(before, snapshot(model))


def test_what_the_user_added_meanwhile_keeps_its_own_requires_grad() -> None:
    model = zoo.sequential()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"]))
    model.append(nn.Linear(4, 2))
    lora.eject(model)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_part_is_ejected_through_the_whole() -> None:
    model = zoo.bert("BertForSequenceClassification")
    before = snapshot(model)
    lora.inject(model.bert, lora.LoraConfig(r=2, modules_to_save=["pooler"]))
    lora.eject(model)
    assert_same(before, snapshot(model))


def test_a_moved_and_cast_model_is_ejected_in_its_new_type() -> None:
    case = zoo.CASES["roberta"]
    model, expected = case.build(), case.build().double()
    lora.inject(model, q_and_v(case, modules_to_save=["classifier"]))
    train(model, case)
    model.double()
    lora.eject(model)
    assert_close(model.state_dict(), expected.state_dict(), **EXACT)
    assert_close(outputs(case, model), outputs(case, expected), **EXACT)


def test_a_plain_model_has_nothing_to_eject() -> None:
    model = zoo.bert()
    with pytest.raises(StateError, match=r"This BertModel has no adapters\. Add them with"):
        lora.eject(model)


def test_inside_disabled_it_is_refused() -> None:
    """The originals stand in the copies' places there."""
    case = zoo.CASES["roberta"]
    model = case.build()
    before = snapshot(model)
    lora.inject(model, q_and_v(case, modules_to_save=["classifier"]))
    train(model, case)
    with lora.disabled(model), pytest.raises(StateError, match="The adapters are disabled"):
        lora.eject(model)
    lora.eject(model)
    assert_same(before, snapshot(model))


def test_inside_merged_it_leaves_nothing_behind() -> None:
    case = zoo.CASES["sequential"]
    model = case.build()
    before = snapshot(model)
    lora.inject(model, q_and_v(case))
    with lora.merged(model):
        lora.eject(model)
    assert_same(before, snapshot(model))


@pytest.mark.parametrize("verb", [lora.eject, lora.fold])
def test_a_part_of_what_was_injected_is_refused(verb: Any) -> None:
    model = nn.ModuleDict(
        {"a": nn.Sequential(nn.Linear(4, 4)), "b": nn.Sequential(nn.Linear(4, 4))}
    )
    before = snapshot(model)
    lora.inject(model, lora.LoraConfig(r=2, target_modules="all-linear"))
    for part in (model["a"], copy.deepcopy(model)["b"]):
        with pytest.raises(
            StateError, match="Sequential is a submodule of the ModuleDict that was passed"
        ):
            verb(part)
    verb(copy.deepcopy(model))
    lora.eject(model)
    assert_same(before, snapshot(model))


def test_parts_injected_one_by_one_are_ejected_one_by_one() -> None:
    model = nn.ModuleDict(
        {"a": nn.Sequential(nn.Linear(4, 4)), "b": nn.Sequential(nn.Linear(4, 4))}
    )
    before = snapshot(model)
    for part in ("a", "b"):
        lora.inject(model[part], lora.LoraConfig(r=2, target_modules="all-linear"))
    lora.eject(model["a"])
    lora.eject(model)
    assert_same(before, snapshot(model))


@pytest.mark.parametrize("verb", [lora.eject, lora.fold])
@pytest.mark.parametrize("name", ["roberta", "gpt2", "vit"])
def test_nothing_of_lorakit_stays_on_any_module(verb: Any, name: str) -> None:
    case = zoo.CASES[name]
    model = case.build()
    heads = {"roberta": ["classifier"], "gpt2": ["wte"], "vit": ["classifier"]}[name]
    lora.inject(model, q_and_v(case, modules_to_save=heads))
    with lora.disabled(model):
        pass
    verb(model)
    left = [key for m in model.modules() for key in m.__dict__ if "lora" in key or "reduce" in key]
    assert not left
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("undo", [lora.eject, lora.fold])
def test_an_optimizer_steps_after_a_merged_model_is_plain_again(undo) -> None:
    """Optimizers look at the layers that were merged; this one has become a plain one."""
    model = nn.Sequential(nn.Linear(4, 4)).eval()
    lora.inject(model, lora.LoraConfig(r=2, target_modules="all-linear"))
    with lora.merged(model), torch.no_grad():
        model(torch.ones(1, 4))
    undo(model)
    other = nn.Parameter(torch.ones(1))
    other.grad = torch.ones(1)
    torch.optim.SGD([other], lr=1.0).step()
    assert other.item() == 0
    lora.inject(model, lora.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    with lora.merged(model), torch.no_grad():
        before = model(torch.ones(1, 4))
        model[0].lora_B.grad = torch.ones(4, 2)
        torch.optim.SGD([model[0].lora_B], lr=1.0, fused=True).step()
        assert not torch.equal(model(torch.ones(1, 4)), before)
