"""LoRA and virtual tokens together."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, GPT2Config

import lorakit as lora
from lorakit.errors import ConfigError, TargetError
from lorakit.layers.conversion import lora_layers
from lorakit.methods import find
from lorakit.methods.lora_prefix import LoraPrefixConfig
from lorakit.recipe.schema import from_mapping
from tests.methods.prefixes.models import CLASSES, batch, make
from tests.tolerances import EXACT, TOLERANCES

QV = {"lora_alpha": 16, "target_modules": None}
WHERE = pytest.mark.parametrize("where", ["embedding", "layer"])


@pytest.mark.parametrize(
    ("where", "r", "parameters"),
    [("embedding", 8, 37_896_192), ("embedding", 32, 151_142_400), ("layer", 8, 51_904_512)],
)
def test_gpt3_has_lora_and_virtual_tokens_as_the_formulas_say(where, r, parameters):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(GPT2Config(n_embd=12288, n_layer=96, n_head=96))
    config = LoraPrefixConfig(lora=lora.LoraConfig(r=r, **QV), prefix=8, infix=4, where=where)
    report = find("lora_prefix").apply(model, config)
    assert report.adapter_parameters == report.trainable_parameters == parameters


@pytest.mark.parametrize("kind", CLASSES)
@WHERE
def test_it_is_the_sum_of_both_methods(kind, where):
    both, prefixed, inputs = make(kind), make(kind), batch(kind)
    config = LoraPrefixConfig(lora=lora.LoraConfig(r=2), prefix=2, infix=1, where=where)
    torch.manual_seed(4)
    find("lora_prefix").apply(both, config)
    names = {n: p for n, p in both.named_parameters() if p.requires_grad and "lora_" not in n}
    for _, layer in lora_layers(both):
        torch.nn.init.normal_(layer.lora_B)
    method = {"embedding": "prefix_embedding", "layer": "prefix_layer"}[where]
    with torch.no_grad():
        for name, layer in lora_layers(both):
            prefixed.get_submodule(name).weight.copy_(layer.folded_weight())
    find(method).apply(prefixed, find(method).config_type(prefix=2, infix=1))
    with torch.no_grad():
        for name, value in names.items():
            prefixed.get_parameter(name).copy_(value)
    assert_close(both(**inputs).loss, prefixed(**inputs).loss, **TOLERANCES[torch.float64])


@torch.no_grad()
def output(model, inputs):
    return model(**inputs).logits


@pytest.mark.parametrize("kind", ["bert", "llama"])
@WHERE
def test_it_trains_saves_loads_and_is_undone(kind, where, tmp_path):
    model, inputs = make(kind, torch.float32), batch(kind)
    base = output(model, inputs)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    config = LoraPrefixConfig(lora=lora.LoraConfig(r=2), prefix=3, where=where)
    method, head = find("lora_prefix"), ["classifier"] if kind == "bert" else []
    report = method.apply(model, config, head)
    factors = sum(p.numel() for n, p in model.named_parameters() if "lora_" in n)
    rows = 3 * 16 * (3 if where == "layer" else 1)
    assert report.adapter_parameters == factors + rows
    assert report.trainable_parameters == factors + rows + sum(report.trained.values())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        optimizer.step()
    assert not lora.check_training(model).stuck
    trained = output(model, inputs)
    with lora.disabled(model):
        assert_close(output(model, inputs), base, **EXACT)
    lora.save_adapter(model, tmp_path)
    loaded = make(kind, torch.float32)
    assert lora.load_adapter(loaded, tmp_path).base_verified
    assert_close(output(loaded, inputs), trained, **EXACT)
    with method.inference(loaded.eval()):
        assert_close(output(loaded, inputs), output(model.eval(), inputs), rtol=1e-4, atol=1e-4)
    with pytest.raises(TargetError, match="lora_prefix has no plain form"):
        method.fold(model)
    method.undo(model)
    assert {n: torch.equal(p, before[n]) for n, p in model.named_parameters()} == dict.fromkeys(
        before, True
    )


def test_a_recipe_keeps_the_defaults_of_lora_that_it_does_not_name():
    mapping = {"base": "b", "data": {"train": "t.csv"}, "output": "o", "method": "lora_prefix"}
    config = from_mapping(mapping | {"lora_prefix": {"lora": {"r": 4}, "prefix": 2}}).method_config
    assert (config.lora.r, config.lora.target_modules, config.prefix) == (4, "all-linear", 2)
    with pytest.raises(ConfigError, match=r"unknown setting lora_prefix\.lora\.rank"):
        from_mapping(mapping | {"lora_prefix": {"lora": {"rank": 4}}})


def test_a_place_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="where is 'middle'; it must be one of embedding, layer"):
        LoraPrefixConfig(where="middle")
