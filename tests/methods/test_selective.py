"""BitFit and the last layers: what they train, and how much, by the paper's counts."""

from __future__ import annotations

import peft
import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    RobertaConfig,
    T5Config,
    T5ForConditionalGeneration,
)

import lorakit as lora
from lorakit.errors import ConfigError, MismatchError, TargetError
from lorakit.methods import METHODS, MethodConfig, find
from lorakit.methods.last_layers import LastLayersConfig
from tests.tolerances import EXACT

TINY = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 40}
DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
BERT = BertConfig(num_hidden_layers=3, **DROPOUT, **TINY)
HEAD = ["classifier"]


def bert() -> nn.Module:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(BERT).train()


def tokens() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {"input_ids": torch.randint(5, 40, (3, 7)), "labels": torch.tensor([0, 1, 1])}


def on_meta(config, kind=AutoModelForSequenceClassification):
    with torch.device("meta"):
        return kind.from_config(config)


@pytest.mark.parametrize(
    ("config", "biases"),
    [
        (RobertaConfig(type_vocab_size=1), 102_144),
        (
            RobertaConfig(
                hidden_size=1024,
                num_hidden_layers=24,
                num_attention_heads=16,
                intermediate_size=4096,
                type_vocab_size=1,
            ),
            271_360,
        ),
    ],
    ids=["base", "large"],
)
def test_bitfit_trains_as_many_biases_of_roberta_as_the_paper_says(config, biases):
    report = find("bitfit").apply(on_meta(config), MethodConfig(), HEAD)
    assert report.adapter_parameters == biases
    assert report.trainable_parameters == biases + sum(report.trained.values())
    assert set(report.trained) == {
        f"classifier.{part}.{leaf}" for part in ("dense", "out_proj") for leaf in ("weight", "bias")
    }


def test_the_two_last_layers_of_gpt2_medium_are_as_large_as_the_paper_says():
    config = GPT2Config(n_embd=1024, n_layer=24, n_head=16)
    report = find("last_layers").apply(
        on_meta(config, AutoModelForCausalLM), LastLayersConfig(count=2)
    )
    assert report.adapter_parameters == report.trainable_parameters == 25_192_448
    assert {name.split(".")[2] for name in report.own} == {"22", "23"}


def test_bitfit_has_the_gradients_of_pefts_bias_all():
    ours, theirs = bert(), bert()
    find("bitfit").apply(ours, MethodConfig(), HEAD)
    config = peft.LoraConfig(
        r=1, target_modules=["query"], bias="all", modules_to_save=[*HEAD], task_type="SEQ_CLS"
    )
    theirs = peft.get_peft_model(theirs, config)
    batch = tokens()
    loss, reference = ours(**batch).loss, theirs(**batch).loss
    loss.backward(), reference.backward()
    assert_close(loss, reference, **EXACT)
    wanted = {
        name.replace("base_model.model.", "").replace(".base_layer", ""): p.grad
        for name, p in theirs.named_parameters()
        if name.endswith("bias") and p.grad is not None
    }
    trained = {n: p.grad for n, p in ours.bert.named_parameters() if p.requires_grad}
    assert trained
    for name, gradient in trained.items():
        assert_close(gradient, wanted[f"bert.{name}"], **EXACT)


def test_bitfit_is_refused_by_a_base_without_biases():
    config = LlamaConfig(num_hidden_layers=1, num_key_value_heads=2, **TINY)
    with pytest.raises(ConfigError, match="bitfit needs biases, but LlamaForCausalLM has none"):
        find("bitfit").apply(on_meta(config, AutoModelForCausalLM), MethodConfig())


def test_the_last_layers_of_an_encoder_decoder_are_its_decoders():
    config = T5Config(d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, vocab_size=40)
    with torch.device("meta"):
        model = T5ForConditionalGeneration(config)
    report = find("last_layers").apply(model, LastLayersConfig(count=1))
    assert {name.split(".block.")[0] for name in report.own} == {"decoder"}
    assert {name.split(".")[2] for name in report.own} == {"1"}


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "2"])
def test_a_count_of_layers_that_is_none_is_refused(count):
    with pytest.raises(ConfigError, match=r"count is .*; it must be a whole number of at least 1"):
        LastLayersConfig(count=count)


def test_more_layers_than_there_are_is_an_error_that_says_how_many():
    model = bert()
    with pytest.raises(TargetError, match=r"count is 4, but bert.encoder.layer .* has 3 layers"):
        find("last_layers").apply(model, LastLayersConfig(count=4), HEAD)
    assert all(p.requires_grad for p in model.parameters())


CASES = {"bitfit": MethodConfig(), "last_layers": LastLayersConfig(count=2)}


@pytest.mark.parametrize("name", CASES)
def test_it_trains_saves_and_loads_and_leaves_the_base_as_it_was(name, tmp_path):
    model, batch = bert(), tokens()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    base = model(**batch).logits
    METHODS[name].apply(model, CASES[name], HEAD)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 0.1)
    model(**batch).loss.backward()
    optimizer.step()
    model.eval()
    trained = model(**batch).logits
    assert not torch.equal(trained, base)
    assert not lora.check_training(model).stuck
    with lora.disabled(model):
        assert_close(model(**batch).logits, base, **EXACT)

    lora.save_adapter(model, tmp_path)
    loaded = bert().eval()
    report = lora.load_adapter(loaded, tmp_path)
    assert report.base_verified
    assert_close(loaded(**batch).logits, trained, **EXACT)

    METHODS[name].undo(model)
    assert {n: torch.equal(p, before[n]) for n, p in model.named_parameters()} == dict.fromkeys(
        before, True
    )


@pytest.mark.parametrize("name", CASES)
def test_it_is_folded_into_a_plain_model(name):
    model, batch = bert().eval(), tokens()
    METHODS[name].apply(model, CASES[name], HEAD)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * parameter.requires_grad)
    trained = model(**batch).logits
    METHODS[name].fold(model)
    assert type(model.bert.encoder.layer[2].output.dense) is nn.Linear
    assert_close(model(**batch).logits, trained, **EXACT)


def test_a_file_of_fewer_layers_is_told_tensor_by_tensor(tmp_path):
    model = bert()
    find("last_layers").apply(model, LastLayersConfig(count=1), HEAD)
    lora.save_adapter(model, tmp_path)
    other = bert()
    find("last_layers").apply(other, LastLayersConfig(count=2), HEAD)
    with pytest.raises(MismatchError, match=r"layer\.1\..* but missing from the file"):
        lora.load_adapter(other, tmp_path)


def test_bitfit_of_a_model_without_biases_is_refused_though_its_head_could_be_trained() -> None:
    config = LlamaConfig(num_hidden_layers=1, **TINY)
    model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(ConfigError, match="bitfit needs biases, but LlamaForSequenceClass"):
        find("bitfit").apply(model, MethodConfig(), ["score"])
    assert all(parameter.requires_grad for parameter in model.parameters())
