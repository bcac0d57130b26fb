"""`fold` makes the update part of new weights, and says what rounding took from it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.errors import StateError, TargetError
from lorakit.layers.base import AdapterLayer
from lorakit.layers.conversion import lora_layers
from tests.injection import zoo
from tests.injection.checks import outputs, q_and_v, slow_delta, snapshot, train
from tests.tolerances import EXACT, MODEL, TOLERANCES


def logits(model: nn.Module, name: str) -> Tensor:
    return outputs(zoo.CASES[name], model)


@pytest.mark.parametrize("name", zoo.CASES)
def test_outputs_are_those_of_the_merged_model(name: str) -> None:
    case = zoo.CASES[name]
    model = case.build()
    before = snapshot(model)
    lora.inject(model, q_and_v(case, init_lora_weights=False))
    unmerged = outputs(case, model)
    with lora.merged(model):
        merged = outputs(case, model)
    lora.fold(model)
    assert_close(outputs(case, model), merged, **EXACT)
    assert_close(outputs(case, model), unmerged, **MODEL)
    after = snapshot(model)
    for what in ("modules", "types", "attributes", "hooks", "requires_grad", "training"):
        assert after[what] == before[what], what
    assert after["values"].keys() == before["values"].keys()


@pytest.mark.parametrize("name", ["bert", "gpt2", "phi3", "fused"])
def test_weights_are_the_slow_sum_in_new_parameters(name: str) -> None:
    case = zoo.CASES[name]
    model = case.build()
    lora.inject(model, q_and_v(case, init_lora_weights=False))
    olds = {key: layer.base_weight for key, layer in lora_layers(model)}
    copies = {key: old.detach().clone() for key, old in olds.items()}
    expected = {key: old + slow_delta(model.get_submodule(key)) for key, old in olds.items()}
    lora.fold(model)
    for key, old in olds.items():
        new = model.get_submodule(key).weight
        assert new is not old
        assert new.data_ptr() != old.data_ptr()
        assert new.is_contiguous()
        assert_close(new, expected[key], **TOLERANCES[torch.float32])
        assert_close(old.detach(), copies[key], **EXACT)


def test_embeddings_and_convolutions_are_folded() -> None:
    model = nn.Sequential(nn.Embedding(7, 6), nn.Conv1d(5, 4, 3, padding=1, groups=1), nn.Flatten())
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["0", "1"], init_lora_weights=False))
    ids = torch.randint(0, 7, (3, 5))
    y = model(ids)
    lora.fold(model)
    assert [type(module) for module in model[:2]] == [nn.Embedding, nn.Conv1d]
    assert_close(model(ids), y, **TOLERANCES[torch.float32])


def test_trained_heads_and_biases_stay() -> None:
    case = zoo.CASES["roberta"]
    model = case.build()
    head = model.classifier.out_proj.weight
    lora.inject(model, q_and_v(case, modules_to_save=["classifier"], bias="lora_only"))
    train(model, case)
    y, trained = outputs(case, model), model.classifier.out_proj.weight
    lora.fold(model)
    assert model.classifier.out_proj.weight is trained is not head
    assert_close(outputs(case, model), y, **MODEL)
    with pytest.raises(StateError, match="has no adapters"):
        lora.eject(model)


def test_a_base_loads_into_a_folded_head_alone() -> None:
    """Nothing of the injection is left that would also write the original."""
    case = zoo.CASES["roberta"]
    model, base = case.build(), case.build()
    original = model.classifier.out_proj.weight
    lora.inject(model, q_and_v(case, modules_to_save=["classifier"]))
    lora.fold(model)
    before = original.detach().clone()
    model.load_state_dict({k: v + 1 for k, v in base.state_dict().items()})
    assert_close(original.detach(), before, **EXACT)


TIED = {
    "gpt2, embedding": ("gpt2", {"target_modules": ["wte"]}),
    "gpt2, head": ("gpt2", {"target_modules": ["lm_head"]}),
    "gpt2, both": ("gpt2", {"target_modules": ["wte", "lm_head"]}),
    "gpt2, trained head": ("gpt2", {"target_modules": ["c_attn"], "modules_to_save": ["lm_head"]}),
    "t5, head": ("t5", {"target_modules": ["lm_head"]}),
    "t5, embeddings": ("t5", {"target_modules": ["embed_tokens"]}),
    "bart, head": ("bart", {"target_modules": ["lm_head"]}),
}


@pytest.mark.parametrize("name", TIED)
def test_ties_are_undone_and_a_round_trip_keeps_the_logits(name: str, tmp_path: Path) -> None:
    architecture, fields = TIED[name]
    case = zoo.CASES[architecture]
    model = case.build()
    assert model.config.tie_word_embeddings
    lora.inject(model, lora.LoraConfig(r=2, init_lora_weights=False, **fields))
    if "modules_to_save" in fields:
        with torch.no_grad():
            model.lm_head.weight.add_(torch.randn_like(model.lm_head.weight))
    y = outputs(case, model)
    lora.fold(model)
    assert not model.config.tie_word_embeddings
    assert_close(outputs(case, model), y, **MODEL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        model.save_pretrained(tmp_path)
        again = type(model).from_pretrained(tmp_path)
    assert_close(outputs(case, again), outputs(case, model), **EXACT)


@pytest.mark.parametrize("name", ["UMT5", "SwitchTransformers"])
def test_logits_that_are_scaled_by_the_tie_stay_scaled(name: str, tmp_path: Path) -> None:
    """They are where the config says that the weights are tied, so it has to go on saying so."""
    config = getattr(transformers, f"{name}Config")(**zoo.T5_SIZES)
    torch.manual_seed(1)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config).eval()
    case = zoo.CASES["t5"]
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["lm_head"], init_lora_weights=False))
    y = outputs(case, model)
    lora.fold(model)
    assert_close(outputs(case, model), y, **MODEL)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    assert_close(outputs(case, again), outputs(case, model), **EXACT)


@pytest.mark.parametrize("name", ["bert", "llama", "vit", "whisper", "phi3"])
def test_a_round_trip_keeps_the_logits_bit_for_bit(name: str, tmp_path: Path) -> None:
    case = zoo.CASES[name]
    model = case.build()
    lora.inject(model, q_and_v(case, init_lora_weights=False))
    lora.fold(model)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    assert_close(outputs(case, again), outputs(case, model), **EXACT)


def test_ties_of_weights_that_are_not_folded_stay() -> None:
    model = zoo.gpt2()
    lora.inject(model, q_and_v(zoo.CASES["gpt2"]))
    lora.fold(model)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert model.config.tie_word_embeddings


def test_a_tied_weight_that_is_folded_leaves_its_partner() -> None:
    model = zoo.gpt2()
    tied = model.lm_head.weight
    before = tied.detach().clone()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["wte"], init_lora_weights=False))
    lora.fold(model)
    assert model.lm_head.weight is tied
    assert_close(tied.detach(), before, **EXACT)
    assert (model.transformer.wte.weight - tied).abs().max() > 1e-3


def test_rounding_to_bfloat16_is_reported() -> None:
    """Against the definition, with every sum in float64."""
    case = zoo.CASES["llama"]
    model = case.build().bfloat16()
    lora.inject(model, q_and_v(case, lora_alpha=0.02, init_lora_weights=False))
    expected = {}
    for key, layer in lora_layers(model):
        weight = layer.base_weight.detach().double()
        update = 0.01 * layer.lora_B.detach().double() @ layer.lora_A.detach().double()
        kept = (weight + update).bfloat16().double() - weight
        expected[key] = float((kept - update).norm() / update.norm())
    report = lora.fold(model)
    assert report.rounding == pytest.approx(expected, rel=1e-3)
    assert report.worst_rounding == max(report.rounding.values()) > 0.1


def test_max_norm_is_refused_and_nothing_has_changed() -> None:
    model = nn.Sequential(nn.Embedding(7, 6, max_norm=1.0), nn.Linear(6, 2))
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["0", "1"], init_lora_weights=False))
    before = snapshot(model)
    with pytest.raises(TargetError) as caught:
        lora.fold(model)
    assert caught.value.problems == (
        "0 is an embedding with max_norm, which rescales each row before the update is added",
    )
    after = snapshot(model)
    assert after["types"] == before["types"]
    assert after["parameters"] == before["parameters"]


@pytest.mark.parametrize("build", [zoo.bert, zoo.sequential])
def test_a_plain_model_has_nothing_to_fold(build: Any) -> None:
    with pytest.raises(StateError, match="has no adapters"):
        lora.fold(build())


def test_inside_disabled_it_is_refused() -> None:
    model = zoo.roberta()
    lora.inject(model, lora.LoraConfig(r=2, modules_to_save=["classifier"]))
    with lora.disabled(model), pytest.raises(StateError, match="The adapters are disabled"):
        lora.fold(model)
    assert all(isinstance(layer, AdapterLayer) for _, layer in lora_layers(model))


def test_a_second_adapter_goes_on_top_of_a_folded_one() -> None:
    case = zoo.CASES["gpt2"]
    model = case.build()
    lora.inject(model, q_and_v(case, init_lora_weights=False))
    lora.fold(model)
    y = outputs(case, model)
    lora.inject(model, q_and_v(case))
    assert_close(outputs(case, model), y, **EXACT)
    train(model, case)
    lora.eject(model)
    assert_close(outputs(case, model), y, **EXACT)


def test_folding_twice_the_same_update_adds_it_twice() -> None:
    model = zoo.sequential()
    weight = model[0].weight.detach().clone()
    for _ in range(2):
        torch.manual_seed(3)
        lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"], init_lora_weights=False))
        update = model[0].delta_weight().detach()
        lora.fold(model)
    assert_close(model[0].weight.detach(), weight + 2 * update, **TOLERANCES[torch.float32])


def test_layers_that_share_a_weight_each_get_their_own() -> None:
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    model["b"].weight = model["a"].weight
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["a", "b"], init_lora_weights=False))
    x = torch.randn(2, 4)
    y = model["a"](x), model["b"](x)
    lora.fold(model)
    assert model["a"].weight is not model["b"].weight
    assert_close((model["a"](x), model["b"](x)), y, **TOLERANCES[torch.float32])


def test_biases_that_the_config_ties_survive_a_round_trip(tmp_path: Path) -> None:
    case = zoo.CASES["bert"]
    model = zoo.bert("BertForMaskedLM")
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["decoder"], init_lora_weights=False))
    y = outputs(case, model)
    lora.fold(model)
    assert_close(outputs(case, model), y, **MODEL)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert_close(outputs(case, again), outputs(case, model), **EXACT)


@pytest.mark.parametrize("change", [lora.fold, lora.eject])
def test_a_layer_without_a_plain_form_is_refused_before_any_change(change: Any) -> None:
    model = nn.Sequential(lora.Linear(4, 4, r=2), lora.Linear(4, 4, r=2, fan_in_fan_out=True))
    with pytest.raises(TargetError, match=r"fan_in_fan_out=True cannot become an nn\.Linear"):
        change(model)
    assert [type(module) for module in model] == [lora.Linear, lora.Linear]
    assert all("lora_A" in module._parameters for module in model)
