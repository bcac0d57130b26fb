"""Bottleneck adapters: what they compute, how many parameters they have, and their files."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BertModel,
    GPT2Config,
    GPT2Model,
    RobertaConfig,
    T5Config,
)
from transformers.activations import ACT2FN

import lorakit as lora
from lorakit.errors import ConfigError, TargetError
from lorakit.functional.bottleneck import ACTIVATIONS
from lorakit.methods import find
from tests.methods import written_out
from tests.methods.bottlenecks import (
    BERT,
    EACH,
    GPT2,
    HEAD,
    bert,
    config_of,
    on_meta,
    randomise,
    tokens,
)
from tests.tolerances import EXACT, TOLERANCES


def roberta_large() -> nn.Module:
    return on_meta(
        RobertaConfig(
            hidden_size=1024,
            num_hidden_layers=24,
            num_attention_heads=16,
            intermediate_size=4096,
            type_vocab_size=1,
        )
    )


def gpt(width: int, layers: int) -> nn.Module:
    return on_meta(GPT2Config(n_embd=width, n_layer=layers, n_head=16), AutoModelForCausalLM)


gpt2_medium, gpt2_large, gpt3 = (
    partial(gpt, 1024, 24),
    partial(gpt, 1280, 36),
    partial(gpt, 12288, 96),
)


@pytest.mark.parametrize(
    ("name", "model", "bottleneck", "parameters"),
    [
        ("houlsby", roberta_large, 8, 835_968),
        ("houlsby", roberta_large, 64, 6_343_680),
        ("houlsby", gpt3, 1, 7_078_080),
        ("pfeiffer", roberta_large, 16, 811_392),
        ("pfeiffer", roberta_large, 64, 3_171_840),
        ("lin", gpt2_medium, 6, 368_784),
        ("lin", gpt2_medium, 224, 11_089_152),
        ("lin", gpt2_large, 8, 875_808),
        ("lin", gpt2_large, 248, 23_002_848),
    ],
)
def test_the_adapters_of_a_model_are_as_large_as_the_paper_says(
    name, model, bottleneck, parameters
):
    report = find(name).apply(model(), config_of(name, bottleneck=bottleneck))
    assert report.adapter_parameters == report.trainable_parameters == parameters


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@EACH
def test_it_computes_what_its_definition_says(name, kind):
    model = (BertModel(BERT) if kind == "bert" else GPT2Model(GPT2)).double().eval()
    config = config_of(name, bottleneck=8)
    find(name).apply(model, config)
    randomise(model)
    own = {n: p for n, p in model.named_parameters() if p.requires_grad}
    function = functional.silu if config.activation == "swish" else functional.relu
    adapters = written_out.Adapters(own, function)
    ids = tokens()["input_ids"]
    given = model(ids).last_hidden_state
    wanted = getattr(written_out, kind)(model, adapters, ids)
    assert_close(given, wanted, **TOLERANCES[torch.float64])
    weights = torch.randn_like(wanted)
    gradients = torch.autograd.grad((given * weights).sum(), list(own.values()))
    expected = torch.autograd.grad((wanted * weights).sum(), list(own.values()))
    for leaf, gradient, right in zip(own, gradients, expected, strict=True):
        assert right.any(), leaf
        assert_close(gradient, right, **TOLERANCES[torch.float64])


def test_the_activations_are_those_of_transformers():
    x = torch.linspace(-3, 3, 25)
    for name, function in ACTIVATIONS.items():
        assert_close(function(x), ACT2FN[name](x), **TOLERANCES[torch.float32])


@EACH
def test_it_starts_as_the_base_bit_for_bit(name):
    model, batch = bert().eval(), tokens()
    base = model(**batch).logits
    find(name).apply(model, config_of(name), HEAD)
    assert_close(model(**batch).logits, base, **EXACT)


@EACH
def test_it_trains_saves_and_loads_and_leaves_the_base_as_it_was(name, tmp_path):
    model, batch = bert().train(), tokens()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    base = model(**batch).logits
    method = find(name)
    method.apply(model, config_of(name), HEAD)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 0.1)
    for _ in range(2):
        model(**batch).loss.backward()
        optimizer.step()
    assert not lora.check_training(model).stuck
    trained = model.eval()(**batch).logits
    assert not torch.equal(trained, base)
    with lora.disabled(model):
        assert_close(model(**batch).logits, base, **EXACT)

    lora.save_adapter(model, tmp_path)
    loaded = bert().eval()
    assert lora.load_adapter(loaded, tmp_path).base_verified
    assert_close(loaded(**batch).logits, trained, **EXACT)

    method.undo(model)
    assert {n: torch.equal(p, before[n]) for n, p in model.named_parameters()} == dict.fromkeys(
        before, True
    )
    assert {type(m) for m in model.modules()} == {type(m) for m in bert().modules()}
    assert_close(model(**batch).logits, base, **EXACT)


@EACH
def test_merging_is_refused_by_name(name):
    model = bert()
    find(name).apply(model, config_of(name), HEAD)
    with pytest.raises(TargetError, match=f"The method {name} has no plain form"):
        find(name).fold(model)
    with pytest.raises(TargetError, match="cannot be merged into weights"):
        lora.fold(model)


@pytest.mark.parametrize("bottleneck", [0, -1, 1.5, True, "8", None])
@EACH
def test_a_bottleneck_that_is_no_size_is_refused(name, bottleneck):
    with pytest.raises(ConfigError, match=r"bottleneck is .*; it must be a whole number"):
        config_of(name, bottleneck=bottleneck)


@EACH
def test_an_unknown_activation_is_refused_with_those_there_are(name):
    with pytest.raises(ConfigError, match="'mish'; it must be one of relu, gelu, gelu_new, silu"):
        config_of(name, activation="mish")


@pytest.mark.parametrize(
    ("dropped", "parameters"), [(0, 894_528), (8, 298_176), (None, 7 * 74_544)]
)
def test_dropped_adapters_are_those_of_the_first_layers(dropped, parameters):
    config = config_of("adapter_drop", bottleneck=48, dropped=dropped)
    report = find("adapter_drop").apply(on_meta(RobertaConfig()), config)
    assert report.adapter_parameters == parameters
    assert {int(name.split(".")[3]) for name in report.own} == {
        *range(5 if dropped is None else dropped, 12)
    }


def test_each_stack_of_an_encoder_decoder_drops_its_first_layers():
    config = T5Config(d_model=16, d_kv=8, d_ff=24, num_layers=3, num_heads=2, vocab_size=40)
    report = find("adapter_drop").apply(
        on_meta(config, AutoModelForSeq2SeqLM), config_of("adapter_drop", dropped=2)
    )
    assert {name.partition(".adapter.")[0] for name in report.own} == {
        "encoder.block.2",
        "decoder.block.2",
    }


@pytest.mark.parametrize("dropped", [-1, 1.5, True, "2"])
def test_a_number_of_dropped_layers_that_is_none_is_refused(dropped):
    with pytest.raises(ConfigError, match=r"dropped is .*; it must be a whole number, 0 or more"):
        config_of("adapter_drop", dropped=dropped)


@pytest.mark.parametrize("dropped", [3, 5])
def test_dropping_every_adapter_is_an_error_that_says_how_many_layers_there_are(dropped):
    with pytest.raises(
        TargetError, match=rf"dropped is {dropped}, but bert\.encoder\.layer .* has 3 layers"
    ):
        find("adapter_drop").apply(bert(), config_of("adapter_drop", dropped=dropped))
