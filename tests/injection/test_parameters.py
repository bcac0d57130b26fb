"""Adapters of parameters that a module reads itself: experts on a live model."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.errors import ConfigError, StateError, TargetError
from lorakit.layers.conversion import lora_layers
from tests.injection import moe
from tests.injection.checks import assert_same, snapshot
from tests.tolerances import EXACT, MODEL


class Experts(nn.Module):
    """y = W_0' x + W_1' x, with a parameter for both, and one of each other kind."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 3, 4))
        self.scale = nn.Parameter(torch.ones(3))
        self.register_parameter("bias", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("eoi,ti->to", self.weight, x) * self.scale


def toy() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(Experts(), nn.Linear(3, 3))


def config(**fields: Any) -> lora.LoraConfig:
    given = {"r": 2, "target_modules": [], "target_parameters": ["weight"]}
    return lora.LoraConfig(**given | {"init_lora_weights": False} | fields)


def adapted(target: str = "0.weight") -> nn.Module:
    model = toy()
    lora.inject(model, config(target_parameters=[target]))
    return model


X = torch.randn(5, 4)


def test_forward_is_that_of_the_weight_plus_each_expert_s_update() -> None:
    """The definition: W_e + s B_e A_e, with s = alpha / r."""
    model = adapted()
    a, b = (p.detach() for n, p in model.named_parameters() if "lora_" in n)
    for e in range(2):
        model.state_dict()["0.weight"][e] += 4.0 * b[:, [e, e + 2]] @ a[2 * e : 2 * e + 2]
    with lora.disabled(model):
        expected = model(X)
    model = adapted()
    assert_close(model(X), expected, **MODEL)


def test_inject_starts_at_the_base_s_output() -> None:
    model = moe.model_of("mixtral")
    before = moe.logits(model)
    report = lora.inject(model, config(target_parameters=moe.EXPERTS, init_lora_weights=True))
    assert_close(moe.logits(model), before, **EXACT)
    assert report.trainable_parameters == 2 * 4 * 2 * ((16 + 48) + (24 + 16))
    assert [layer.weight_shape for layer in report.layers[:2]] == [(4, 48, 16), (4, 16, 24)]
    assert {layer.type for layer in report.layers} == {"MixtralExperts"}
    assert not any("experts" in name for name in report.uncovered)


def test_state_dict_keeps_its_names_and_has_the_factors_under_the_parameter_s() -> None:
    model, plain = adapted(), toy()
    added = [name for name in model.state_dict() if name not in plain.state_dict()]
    assert added == ["0.weight.lora_A", "0.weight.lora_B"]
    assert_close(model[0].weight, plain[0].weight, **EXACT)
    model.load_state_dict(copy.deepcopy(model.state_dict()))


@pytest.mark.parametrize("whole", [False, True], ids=["of the base", "of all"])
def test_a_state_that_is_assigned_leaves_the_adapter(whole: bool) -> None:
    model = adapted()
    expected = model(X)
    assert not torch.equal(expected, toy()(X))
    state = copy.deepcopy((model if whole else toy()).state_dict())
    model.load_state_dict(state, strict=whole, assign=True)
    assert list(dict(lora_layers(model))) == ["0.weight"]
    assert model.state_dict()["0.weight"].data_ptr() == state["0.weight"].data_ptr()
    assert_close(model(X), expected, **EXACT)


def test_eject_gives_everything_back() -> None:
    model = moe.model_of("gpt_oss")
    before = snapshot(model)
    lora.inject(model, config(target_parameters=moe.EXPERTS))
    lora.eject(model)
    assert_same(before, snapshot(model))


def test_fold_merged_and_disabled_agree_with_the_forward() -> None:
    model = moe.model_of("gpt_oss").eval()
    before = moe.logits(model)
    lora.inject(model, config(target_parameters=moe.EXPERTS))
    expected = moe.logits(model)
    with lora.disabled(model):
        assert_close(moe.logits(model), before, **EXACT)
    with torch.no_grad(), lora.merged(model) as report:
        assert_close(moe.logits(model), expected, **MODEL)
        assert report.cache_bytes == 2 * 4 * 4 * (16 * 48 + 24 * 16)
    lora.fold(model)
    assert_close(moe.logits(model), expected, **MODEL)
    assert not list(lora_layers(model))
    assert list(model.state_dict()) == list(moe.model_of("gpt_oss").state_dict())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_read_their_own(copied: Any) -> None:
    model = adapted()
    other = copied(model)
    assert_close(other(X), model(X), **EXACT)
    with torch.no_grad():
        other[0].weight.zero_()
    assert not torch.equal(other(X), model(X))
    lora.eject(other)
    assert type(other[0]) is Experts


def test_training_moves_the_factors_alone() -> None:
    model = moe.model_of("mixtral")
    lora.inject(model, config(target_parameters=moe.EXPERTS, init_lora_weights=True))
    model.activation_checkpointing_enable()
    model.train()
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        model(input_ids=moe.IDS, labels=moe.IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if "lora_" in name}
    assert not lora.check_training(model).stuck


def test_a_base_that_gets_its_memory_later_keeps_the_adapter() -> None:
    with torch.device("meta"):
        model = nn.Sequential(Experts())
    lora.inject(model, config(target_parameters=["0.weight"]))
    layer = dict(lora_layers(model))["0.weight"]
    layer.lora_A = nn.Parameter(torch.ones(4, 4))
    layer.lora_B = nn.Parameter(torch.ones(3, 4))
    model.to_empty(device="cpu")
    assert layer.lora_A.eq(1).all()
    assert layer.lora_B.eq(1).all()


def test_a_cast_model_computes_in_its_type() -> None:
    model = adapted().to(torch.bfloat16)
    assert model(X.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert adapted()[0].weight.dtype == torch.float32
        assert adapted()(X).dtype == torch.bfloat16


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    model = adapted()
    lora.save_adapter(model, tmp_path)
    other = toy()
    report = lora.load_adapter(other, tmp_path)
    assert report.base_verified
    assert_close(other(X), model(X), **EXACT)


def test_what_is_saved_in_full_is_not_adapted_too(tmp_path: Path) -> None:
    model = toy()
    fields = {"target_modules": ["1"], "target_parameters": ["0.weight"], "modules_to_save": ["0"]}
    report = lora.inject(model, config(**fields))
    assert [layer.name for layer in report.layers] == ["1"]
    lora.save_adapter(model, tmp_path)
    other = toy()
    lora.load_adapter(other, tmp_path)
    assert_close(other(X), model(X), **EXACT)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no match": ({"target_parameters": ["weihgt"]}, "'weihgt' matches no parameter"),
    "absent": ({"target_parameters": ["weight", "0.bias"]}, r"'0\.bias' matches no parameter"),
    "a vector": ({"target_parameters": ["scale"]}, r"0\.scale has the shape \(3,\)"),
    "dropout": ({"lora_dropout": 0.1}, "has no input that could be dropped"),
    "twice": ({"target_modules": ["1"]}, r"1\.weight is a parameter of a Linear in target_modules"),
    "DoRA": ({"use_dora": True}, r"use_dora only supports nn\.Linear"),
    "a key": ({"rank_pattern": {"0.up": 3}}, r"rank_pattern: '0\.up' matches none"),
}


@pytest.mark.parametrize(("fields", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_adapted_is_named(fields: dict[str, Any], message: str) -> None:
    model = toy()
    before = snapshot(model)
    with pytest.raises(TargetError, match=message):
        lora.inject(model, config(**fields))
    assert_same(before, snapshot(model))


def test_a_set_of_adapters_refuses_them_by_name(tmp_path: Path) -> None:
    lora.save_adapter(adapted(), tmp_path)
    adapters = lora.AdapterSet(toy())
    with pytest.raises(TargetError, match=r"0\.weight is a parameter that its module reads itself"):
        adapters.load("one", tmp_path)
    with pytest.raises(TargetError, match=r"0\.weight is a parameter that its module reads itself"):
        adapters.add("new", config(target_parameters=["0.weight"]))


def test_data_parallel_is_refused_by_name() -> None:
    with pytest.raises(StateError, match="DataParallel does not support adapted parameters"):
        adapted()[0]._replicate_for_data_parallel()


def test_target_modules_may_be_empty_where_parameters_are_named() -> None:
    assert lora.LoraConfig(target_modules=[], target_parameters=["w"]).target_modules == ()
    with pytest.raises(ConfigError, match="target_modules is"):
        lora.LoraConfig(target_modules=[])
    with pytest.raises(ConfigError, match="target_parameters is a string"):
        lora.LoraConfig(target_parameters="w")


def test_targets_lists_experts_for_target_parameters() -> None:
    found = lora.targets(moe.model_of("gpt_oss"), r=2)
    experts = [group for group in found.groups if group.setting == "target_parameters"]
    assert [(g.suffix, g.count, g.type, g.in_features, g.out_features) for g in experts] == [
        ("experts.gate_up_proj", 2, "GptOssExperts", 16, 48),
        ("experts.down_proj", 2, "GptOssExperts", 24, 16),
    ]
    model = moe.model_of("gpt_oss")
    config = lora.LoraConfig(r=2, target_modules=[], target_parameters=[g.suffix for g in experts])
    counted = sum(group.parameters for group in experts)
    assert lora.inject(model, config).trainable_parameters == counted
    assert "for target_parameters:" in str(found)
    assert not any("Experts" in why for why in found.refused.values())


def test_compiled_code_is_one_graph() -> None:
    model = adapted()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert_close(compiled(X), model(X), **MODEL)
    compiled(X).sum().backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "lora_" in n)
    with lora.disabled(model):
        assert_close(compiled(X), toy()(X), **EXACT)
