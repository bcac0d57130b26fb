"""What the methods with virtual tokens refuse: settings, models, and inputs of models."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    BertModel,
    ViTConfig,
    ViTForImageClassification,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from lorakit.errors import ConfigError, StateError, TargetError
from lorakit.methods import find
from lorakit.methods.prefixes.config import PrefixConfig, PrefixLayerConfig
from tests.methods.prefixes.models import CONFIGS, NAMES, SETTINGS, batch, make


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"prefix": -1}, "prefix is -1; it must be a whole number of at least 0"),
        ({"infix": 1.5}, "infix is 1.5; it must be a whole number of at least 0"),
        ({"prefix": 0}, "prefix and infix are both 0; one of them must be at least 1"),
        ({"reparametrisation": 0}, "reparametrisation is 0; it must be a whole number"),
    ],
)
@NAMES
def test_settings_that_are_none_are_refused(name, settings, problem):
    with pytest.raises(ConfigError, match=problem):
        SETTINGS[name](**settings)


def whisper():
    return WhisperForConditionalGeneration(
        WhisperConfig(
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=24,
            decoder_ffn_dim=24,
            vocab_size=40,
            num_mel_bins=8,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
            suppress_tokens=None,
            begin_suppress_tokens=None,
        )
    )


def vit():
    return ViTForImageClassification(
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=24,
            image_size=8,
            patch_size=4,
        )
    )


@pytest.mark.parametrize("build", [whisper, vit])
@NAMES
def test_a_model_of_sounds_or_images_is_refused_before_anything_changes(name, build):
    model = build()
    kinds = {n: type(m) for n, m in model.named_modules()}
    with pytest.raises(TargetError, match=f"{type(model).__name__} .* no place for virtual tokens"):
        find(name).apply(model, SETTINGS[name](prefix=3))
    assert {n: type(m) for n, m in model.named_modules()} == kinds
    assert all(p.requires_grad or "embed_positions" in n for n, p in model.named_parameters())


@pytest.mark.parametrize(("kind", "room"), [("bert", 32), ("roberta", 32), ("gpt2", 32)])
def test_inputs_that_leave_no_positions_are_refused(kind, room):
    model = make(kind)
    find("prefix_embedding").apply(model, PrefixConfig(prefix=3))
    model(input_ids=torch.full((1, room - 3), 5))
    with pytest.raises(StateError, match="The inputs are longer than 29 tokens: with 3 virtual"):
        model(input_ids=torch.full((1, room - 2), 5))


def test_masks_and_inputs_that_have_no_value_for_virtual_tokens_are_refused():
    model, inputs = make("bert"), batch("bert")
    find("prefix_embedding").apply(model, PrefixConfig(prefix=3))
    wide = inputs["attention_mask"][:, None].expand(-1, 7, -1)
    with pytest.raises(StateError, match="one value a token"):
        model(**{**inputs, "attention_mask": wide})
    with pytest.raises(StateError, match="no values for position_ids"):
        model(**inputs, position_ids=torch.zeros(3, 3, 7).long())


def test_a_layer_that_is_called_alone_is_refused():
    model = make("bert")
    find("prefix_layer").apply(model, PrefixLayerConfig(prefix=3))
    with pytest.raises(StateError, match="outside of its model's forward"):
        model.bert.encoder.layer[0](torch.zeros(1, 4, 16).double())


def test_an_infix_in_training_needs_labels():
    model, inputs = make("gpt2"), batch("gpt2")
    find("prefix_embedding").apply(model, PrefixConfig(prefix=1, infix=1))
    del inputs["labels"]
    with pytest.raises(StateError, match="the model got no labels"):
        model(**inputs)
    model.eval()(**inputs)


def test_a_model_that_reads_tokens_in_two_modules_is_refused():
    class Twins(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = (BertModel(CONFIGS["bert"]) for _ in range(2))

        def forward(self, input_ids):
            return self.first(input_ids)[0] + self.second(input_ids)[0]

    with pytest.raises(TargetError, match=r"reads tokens in several modules \(BertModel, BertMod"):
        find("prefix_embedding").apply(Twins(), PrefixConfig())


@pytest.mark.parametrize("settings", [{"prefix": 32}, {"prefix": 600}, {"prefix": 20, "infix": 12}])
@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama"])
@pytest.mark.parametrize("name", [*SETTINGS, "lora_prefix"])
def test_more_virtual_tokens_than_positions_are_refused_before_anything_changes(
    name, kind, settings
):
    model, method = make(kind), find(name)
    kinds = {n: type(m) for n, m in model.named_modules()}
    said = f"{name}.prefix is {settings['prefix']} and {name}.infix is {settings.get('infix', 0)}"
    with pytest.raises(ConfigError, match=rf"{said}: .* of the 32 positions .* 31 or less"):
        method.apply(model, method.config_type(**settings))
    assert {n: type(m) for n, m in model.named_modules()} == kinds


@NAMES
def test_a_model_without_positions_takes_any_number_of_virtual_tokens(name):
    model = make("t5")
    find(name).apply(model, SETTINGS[name](prefix=600))
    assert model(**batch("t5")).logits.shape[1] == 5
