"""Heads and biases train as copies: the pretrained tensors wait beside them, untouched."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.errors import StateError
from lorakit.injection import trained_copies
from tests.injection import zoo
from tests.injection.checks import assert_same, outputs, q_and_v, snapshot, train
from tests.tolerances import EXACT, TOLERANCES


def pretrained(model: nn.Module) -> dict[str, Tensor]:
    """The Parameter and buffer objects before `inject`."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def numbers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def trained_names(model: nn.Module) -> set[str]:
    factors = ("lora_A", "lora_B")
    return {n for n, p in model.named_parameters() if p.requires_grad and not n.endswith(factors)}


MODES: dict[str, tuple[dict[str, Any], Any]] = {
    "none": ({"bias": "none"}, lambda name: False),
    "all": ({"bias": "all"}, lambda name: name.endswith("bias")),
    "lora_only": (
        {"bias": "lora_only"},
        lambda name: name.endswith(("query.bias", "value.bias")),
    ),
    "head": ({"modules_to_save": ["classifier"]}, lambda name: name.startswith("classifier.")),
    "head and all": (
        {"modules_to_save": ["classifier"], "bias": "all"},
        lambda name: name.startswith("classifier.") or name.endswith("bias"),
    ),
    "norms": ({"modules_to_save": ["LayerNorm"]}, lambda name: "LayerNorm." in name),
}


@pytest.mark.parametrize("mode", MODES)
def test_what_trains_is_a_copy_and_the_original_stays(mode: str) -> None:
    fields, trains = MODES[mode]
    case = zoo.CASES["roberta"]
    model = case.build()
    before, originals = snapshot(model), pretrained(model)
    values = numbers(originals)
    report = lora.inject(model, q_and_v(case, **fields))
    expected = {name for name in values if trains(name)}
    assert trained_names(model) == expected == set(report.trained)
    assert set(trained_copies.names(model)) == expected
    train(model, case)
    for name, tensor in pretrained(model).items():
        if name in expected:
            assert tensor is not originals[name]
            assert not torch.equal(tensor, values[name]), name
        elif name in originals:
            assert tensor is originals[name]
    assert_close(numbers(originals), values, **EXACT)
    lora.eject(model)
    assert_same(before, snapshot(model))


def test_lora_only_skips_an_adapted_layer_without_bias() -> None:
    model = zoo.llama()
    report = lora.inject(model, lora.LoraConfig(r=2, bias="lora_only"))
    assert report.trained == {}


def test_fused_attention_has_its_bias_under_another_name() -> None:
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True))
    config = lora.LoraConfig(r=2, target_modules=["self_attn"], bias="lora_only")
    report = lora.inject(model, config)
    assert report.trained == {"0.self_attn.in_proj_bias": 24, "0.self_attn.out_proj.bias": 8}


def test_a_relative_position_table_is_no_bias() -> None:
    """loralib trains whatever has "bias" in its name (B27)."""
    report = lora.inject(zoo.t5(), lora.LoraConfig(r=2, bias="all"))
    assert report.trained == {}


class Counting(nn.Module):
    """A head with a BatchNorm: its statistics are buffers, one of them of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 6)
        self.head = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2))
        self.head.register_buffer("scratch", torch.zeros(3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x))
        return out


def test_statistics_of_a_trained_head_are_copied_too() -> None:
    model = Counting()
    before = snapshot(model)
    mean, count, scratch = (
        model.head[0].running_mean,
        model.head[0].num_batches_tracked,
        model.head.scratch,
    )
    x = torch.randn(8, 4)
    base = copy.deepcopy(model).eval()(x)
    config = lora.LoraConfig(r=2, target_modules=["body"], modules_to_save=["head"])
    lora.inject(model, config)
    model.train()
    model(x).sum().backward()
    assert model.head[0].num_batches_tracked == 1
    assert model.head[0].running_mean is not mean
    assert count == 0
    assert not mean.any()
    assert model.head.scratch is scratch
    model.eval()
    with lora.disabled(model):
        assert_close(model(x), base, **EXACT)
    assert model.head[0].num_batches_tracked == 1
    lora.eject(model.train())
    assert_same(before, snapshot(model))


def test_statistics_outside_the_trained_head_are_the_bases() -> None:
    model = Counting()
    mean = model.head[0].running_mean
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["body"]))
    assert model.head[0].running_mean is mean


# --- loading a base afterwards


def test_a_base_checkpoint_reaches_the_copy_and_the_original() -> None:
    case = zoo.CASES["roberta"]
    model, other = case.build(), case.build()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter) / 10)
    originals = pretrained(model)
    lora.inject(model, q_and_v(case, modules_to_save=["classifier"], bias="all"))
    train(model, case)
    result = model.load_state_dict(other.state_dict(), strict=False)
    assert all(key.endswith((".lora_A", ".lora_B")) for key in result.missing_keys)
    assert result.unexpected_keys == []
    for name, value in other.state_dict().items():
        assert_close(model.state_dict()[name], value, **EXACT)
    with lora.disabled(model):
        assert_close(outputs(case, model), outputs(case, other), **EXACT)
    lora.eject(model)
    assert_close(outputs(case, model), outputs(case, other), **EXACT)
    assert all(tensor is originals[name] for name, tensor in pretrained(model).items())


def test_a_checkpoint_with_adapters_does_not_reach_the_original() -> None:
    """Resuming a run must not make the trained head the base's."""
    case = zoo.CASES["roberta"]
    model = case.build()
    before = snapshot(model)
    config = q_and_v(case, modules_to_save=["classifier"])
    lora.inject(model, config)
    trained = copy.deepcopy(model)
    train(trained, case)
    model.load_state_dict(trained.state_dict())
    assert_close(outputs(case, model), outputs(case, trained), **EXACT)
    lora.eject(model)
    assert_same(before, snapshot(model))


def test_loading_into_a_copy_leaves_the_callers_tensors_alone() -> None:
    case = zoo.CASES["roberta"]
    model, base = case.build(), case.build().state_dict()
    values = numbers(base)
    lora.inject(model, q_and_v(case, modules_to_save=["classifier"]))
    model.load_state_dict(base, strict=False)
    train(model, case)
    lora.eject(model)
    with torch.no_grad():
        model.classifier.dense.weight.add_(1)
    assert_close(numbers(base), values, **EXACT)


# --- ties, moves, casts


def test_tensors_that_were_one_stay_one() -> None:
    model = zoo.gpt2()
    tied = model.lm_head.weight
    config = lora.LoraConfig(r=2, target_modules=["c_attn"], modules_to_save=["wte", "lm_head"])
    lora.inject(model, config)
    assert model.lm_head.weight is model.transformer.wte.weight is not tied
    with lora.disabled(model):
        assert model.lm_head.weight is model.transformer.wte.weight is tied
    assert model.lm_head.weight is model.transformer.wte.weight is not tied
    lora.eject(model)
    assert model.lm_head.weight is model.transformer.wte.weight is tied


def test_one_of_two_tied_tensors_trains_alone() -> None:
    model = zoo.gpt2()
    tied = model.lm_head.weight
    config = lora.LoraConfig(r=2, target_modules=["c_attn"], modules_to_save=["lm_head"])
    lora.inject(model, config)
    assert model.transformer.wte.weight is tied
    assert not tied.requires_grad
    assert model.lm_head.weight.requires_grad


def test_a_module_that_is_shared_is_copied_once() -> None:
    head = nn.Linear(4, 4)
    model = nn.ModuleDict({"q": nn.Linear(4, 4), "a": head, "b": head})
    report = lora.inject(model, lora.LoraConfig(r=2, target_modules=["q"], modules_to_save=["b"]))
    assert sum(report.trained.values()) == 20
    assert model["a"].weight is model["b"].weight
    assert model["a"].weight.requires_grad


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_cast_reaches_the_original_when_it_comes_back(dtype: torch.dtype) -> None:
    case = zoo.CASES["roberta"]
    model, expected = case.build(), case.build().to(dtype)
    lora.inject(model, q_and_v(case, modules_to_save=["classifier"], bias="all"))
    train(model, case)
    model.to(dtype)
    with lora.disabled(model):
        assert_close(outputs(case, model), outputs(case, expected), **EXACT)
    assert {p.dtype for p in model.parameters()} == {dtype}
    lora.eject(model)
    assert_close(model.state_dict(), expected.state_dict(), **EXACT)


def test_a_meta_model_gets_its_originals_from_the_base_checkpoint() -> None:
    case = zoo.CASES["roberta"]
    base = case.build()
    with torch.device("meta"):
        model = case.build()
    lora.inject(model, q_and_v(case, modules_to_save=["classifier"], bias="all"))
    model.to_empty(device="cpu")
    for module in model.modules():  # buffers that no checkpoint holds
        for name, buffer in module._buffers.items():
            if name in module._non_persistent_buffers_set:
                own = dict(base.named_buffers())
                buffer.copy_(next(b for n, b in own.items() if n.endswith(name)))
    with pytest.raises(StateError, match="are unknown: the model was adapted on the meta device"):
        lora.eject(model)
    result = model.load_state_dict(base.state_dict(), strict=False)
    assert result.unexpected_keys == []
    assert_close(outputs(case, model), outputs(case, base), **EXACT)
    train(model, case)
    with lora.disabled(model):
        assert_close(outputs(case, model), outputs(case, base), **EXACT)
    lora.eject(model)
    assert_close(model.state_dict(), base.state_dict(), **EXACT)


def test_unknown_originals_refuse_disabled_before_any_change() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"], modules_to_save=["1"]))
    model.to_empty(device="cpu")
    before = {name: id(p) for name, p in model.named_parameters()}
    with pytest.raises(StateError, match=r"1\.weight are unknown"), lora.disabled(model):
        pass
    assert {name: id(p) for name, p in model.named_parameters()} == before
    assert model[0].active


def test_a_deep_copy_has_originals_of_its_own() -> None:
    case = zoo.CASES["roberta"]
    model = case.build()
    lora.inject(model, q_and_v(case, modules_to_save=["classifier"]))
    other = copy.deepcopy(model)
    train(other, case)
    base = case.build()
    with lora.disabled(other):
        assert_close(outputs(case, other), outputs(case, base), **EXACT)
    other.load_state_dict({k: v + 1 for k, v in base.state_dict().items()}, strict=False)
    with lora.disabled(model):
        assert_close(outputs(case, model), outputs(case, base), **EXACT)
    lora.eject(model)
    assert_close(model.state_dict(), base.state_dict(), **EXACT)


def test_a_trained_bias_of_an_adapted_layer_is_used_in_every_path() -> None:
    case = zoo.CASES["sequential"]
    model = case.build()
    lora.inject(model, q_and_v(case, bias="lora_only", init_lora_weights=False))
    with torch.no_grad():
        model[0].bias.add_(1)
    unmerged = outputs(case, model)
    with lora.merged(model):
        assert_close(outputs(case, model), unmerged, **TOLERANCES[torch.float32])
    lora.fold(model)
    assert_close(outputs(case, model), unmerged, **TOLERANCES[torch.float32])


def test_a_trained_head_loaded_alone_is_no_base() -> None:
    case = zoo.CASES["roberta"]
    model = case.build()
    before = snapshot(model)
    lora.inject(model, q_and_v(case, modules_to_save=["classifier"]))
    head = {k: v + 1 for k, v in model.state_dict().items() if k.startswith("classifier.")}
    model.load_state_dict(head, strict=False)
    model.classifier.load_state_dict({k.removeprefix("classifier."): v for k, v in head.items()})
    assert_close({k: v for k, v in model.state_dict().items() if k in head}, head, **EXACT)
    lora.eject(model)
    assert_same(before, snapshot(model))


def test_a_base_checkpoint_of_a_wrapper_reaches_the_originals() -> None:
    case = zoo.CASES["roberta"]
    model, other = case.build(), case.build()
    lora.inject(model, q_and_v(case, modules_to_save=["classifier"]))
    wrapped = nn.ModuleDict({"inner": model})
    changed = {f"inner.{name}": value + 1 for name, value in other.state_dict().items()}
    wrapped.load_state_dict(changed, strict=False)
    lora.eject(model)
    assert_close({f"inner.{k}": v for k, v in model.state_dict().items()}, changed, **EXACT)


def test_eject_restores_a_tie_that_was_tied_again_meanwhile() -> None:
    """transformers' resize and init_weights call tie_weights, which hands the copy to the head."""
    case = zoo.CASES["llama"]
    model = zoo.llama(tie_word_embeddings=True)
    original = model.lm_head.weight
    assert model.model.embed_tokens.weight is original
    before, base = snapshot(model), outputs(case, model)
    lora.inject(model, q_and_v(case, modules_to_save=["embed_tokens"]))
    assert model.lm_head.weight is original
    model.tie_weights()
    assert model.lm_head.weight is model.model.embed_tokens.weight is not original
    train(model, case)
    model.eval()
    assert (outputs(case, model) - base).abs().max() > 1e-3
    with lora.disabled(model):
        assert_close(outputs(case, model), base, **EXACT)
    assert model.lm_head.weight is model.model.embed_tokens.weight is not original
    lora.eject(model)
    assert model.lm_head.weight is model.model.embed_tokens.weight is original
    assert_same(before, snapshot(model))


def test_the_report_says_that_a_tie_is_undone() -> None:
    case = zoo.CASES["llama"]
    names = ("model.embed_tokens.weight", "lm_head.weight")
    report = lora.inject(
        zoo.llama(tie_word_embeddings=True), q_and_v(case, modules_to_save=["embed_tokens"])
    )
    assert report.untied == (names,)
    assert f"no longer tied, the first is trained: {' = '.join(names)}" in str(report)
    both = lora.inject(
        zoo.llama(tie_word_embeddings=True),
        q_and_v(case, modules_to_save=["embed_tokens", "lm_head"]),
    )
    assert both.untied == ()
    assert lora.inject(zoo.llama(), q_and_v(case, modules_to_save=["embed_tokens"])).untied == ()
