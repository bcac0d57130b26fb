"""The longest text that a base reads; a config without a limit is no limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig, BloomConfig, T5Config, XLNetConfig

from lorakit.models.positions import UNLIMITED
from lorakit.recipe.data import text_limit
from tests.training import tiny

VERY_LARGE = int(1e30)
"""What tokenizers without a limit say."""

WITHOUT_LIMIT = {
    "-1": XLNetConfig(d_model=16, n_layer=1, n_head=2, d_inner=32, vocab_size=9),
    "missing, decoder": BloomConfig(hidden_size=16, n_layer=1, n_head=2, vocab_size=9),
    "missing, encoder-decoder": T5Config(d_model=16, num_layers=1, num_heads=2, vocab_size=9),
    "-1, BERT": BertConfig(max_position_embeddings=-1),
}


@pytest.mark.parametrize("config", WITHOUT_LIMIT.values(), ids=WITHOUT_LIMIT)
def test_a_base_without_a_limit_has_the_tokenizers(config: Any, tmp_path: Path) -> None:
    words = tiny.tokenizer()
    config.save_pretrained(tmp_path)
    words.model_max_length = VERY_LARGE
    assert text_limit(words, str(tmp_path)) == UNLIMITED
    words.model_max_length = 128
    assert text_limit(words, str(tmp_path)) == 128


@pytest.mark.parametrize("none", [-1, 0, None, VERY_LARGE, float("inf")], ids=str)
def test_a_tokenizer_without_a_limit_has_the_bases(none: Any, tmp_path: Path) -> None:
    words = tiny.tokenizer()
    words.model_max_length = none
    BertConfig(max_position_embeddings=40, hidden_size=8, num_attention_heads=2).save_pretrained(
        tmp_path
    )
    assert text_limit(words, str(tmp_path)) == 40
