"""Which token fills up a batch: one for the tokenizer and the model's config."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from transformers import (
    GPT2Config,
    GPT2Model,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from lorakit.errors import ConfigError
from lorakit.tasks.classification import Classification
from lorakit.tasks.generation import Generation
from lorakit.tasks.padding import padding_id, require_padding, settle_padding

CLASSES = Classification(("text",), "label", 64, ("no", "yes"))
COMPLETIONS = Generation(("text",), "said", 64)


def gpt2(pad: int | None = None) -> GPT2Model:
    return GPT2Model(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=9, pad_token_id=pad))


def settled(tokenizer: Any, model: PreTrainedModel) -> str:
    """The padding token that tokenizer and config agree on."""
    settle_padding(tokenizer, model)
    assert model.config.pad_token_id == tokenizer.pad_token_id == padding_id(tokenizer)
    return str(tokenizer.pad_token)


def test_a_tokenizers_own_pad_token_stays_and_is_the_models(gpt) -> None:
    assert settled(gpt, gpt2()) == settled(gpt, gpt2(1)) == "<|endoftext|>"


def test_a_tokenizer_without_one_pads_as_the_models_config_does(gpt) -> None:
    gpt.pad_token = None
    assert settled(gpt, gpt2(1)) == "<|im_start|>"


@pytest.mark.parametrize("pad", [None, -1, 100_000])
def test_without_either_it_pads_with_its_end_of_text(gpt, pad) -> None:
    gpt.pad_token = None
    assert settled(gpt, gpt2(pad)) == "<|im_end|>"


def roberta(pad: int) -> RobertaModel:
    sizes = {"hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 9}
    return RobertaModel(RobertaConfig(**sizes, num_hidden_layers=1, pad_token_id=pad))


def test_a_model_that_counts_positions_from_its_padding_keeps_it(gpt) -> None:
    """Built again with another one, it would compute something else."""
    assert settled(gpt, roberta(1)) == "<|im_start|>"


def without_special_tokens(gpt: Any) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=gpt._tokenizer, model_max_length=64)


def test_without_an_end_another_special_token_pads(gpt) -> None:
    tokenizer = without_special_tokens(gpt)
    tokenizer.unk_token = "<|im_start|>"
    assert settled(tokenizer, gpt2()) == "<|im_start|>"


def test_a_tokenizer_without_any_special_token_is_refused_where_it_has_to_pad(gpt) -> None:
    tokenizer, model = without_special_tokens(gpt), gpt2()
    settle_padding(tokenizer, model)
    assert (model.config.pad_token_id, tokenizer.pad_token) == (None, None)
    with pytest.raises(ConfigError, match=r"set pad_token in its tokenizer_config\.json"):
        require_padding(tokenizer, CLASSES)


def test_generation_pads_under_the_mask_without_any_token(gpt) -> None:
    tokenizer = without_special_tokens(gpt)
    require_padding(tokenizer, COMPLETIONS)
    assert padding_id(tokenizer) == 0
    assert padding_id(SimpleNamespace(pad_token_id=None)) == 0
