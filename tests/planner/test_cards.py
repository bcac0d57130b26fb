"""Cards have the dimensions that the models were published with."""

from __future__ import annotations

import pytest

from lorakit.errors import ConfigError, FormatError
from lorakit.planner import bases
from lorakit.planner.bases import config_of, model_on_meta
from lorakit.planner.cards import CARDS

MILLIONS = {
    "roberta-base": 124.6,
    "roberta-large": 355.4,
    "deberta-v2-xxlarge": 1567,
    "gpt2": 124.4,
    "gpt2-medium": 354.8,
    "gpt2-large": 774.0,
    "gpt2-xl": 1558,
    "minilm-l6": 22.7,
    "smollm2-135m": 134.5,
    "gpt3-175b": 174_600,
    "llama-3-8b": 8030,
    "llama-3-70b": 70_550,
    "qwen2.5-7b": 7616,
    "mixtral-8x7b": 46_700,
}
"""Parameters as the models' own pages and papers count them."""


@pytest.mark.parametrize("name", CARDS)
def test_card_has_its_models_parameters(name):
    model = model_on_meta(config_of(name))
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count / 1e6 == pytest.approx(MILLIONS[name], rel=0.002)


def test_config_file_is_a_base(tmp_path):
    config_of("gpt2").save_pretrained(tmp_path)
    assert config_of(str(tmp_path / "config.json")).n_embd == 768
    assert config_of(str(tmp_path)).n_embd == 768


def test_directory_comes_before_a_card_of_its_name(tmp_path, monkeypatch):
    config = config_of("gpt2-medium")
    config.save_pretrained(tmp_path / "gpt2")
    monkeypatch.chdir(tmp_path)
    assert config_of("gpt2").n_embd == 1024


def test_unknown_base_names_the_cards():
    with pytest.raises(FormatError, match="did you mean 'llama-3-8b'"):
        config_of("lama-3-8b")


def test_revision_is_of_the_hub_and_of_no_card(monkeypatch):
    monkeypatch.setattr(bases, "load_config", lambda *asked: asked)
    assert bases.config_of("gpt2", "v1") == ("gpt2", "v1")


@pytest.mark.parametrize("base", ["gpt2", None])
def test_what_is_neither_model_nor_config_is_refused(base):
    with pytest.raises(ConfigError, match="pass a transformers model or its config"):
        bases.model_of(base)
