"""A tokenizer that knows no words is refused, one that knows few is said."""

from __future__ import annotations

import pytest
from transformers import (
    AutoTokenizer,
    BertConfig,
    ByT5Tokenizer,
    GPT2Config,
    Qwen2Config,
    RobertaConfig,
    T5Config,
)

from lorakit.errors import FormatError
from lorakit.models.known_words import require_words, unknown_text
from lorakit.models.loading import load_tokenizer
from lorakit.training import train
from tests.training import tiny


@pytest.mark.parametrize("config", [BertConfig, GPT2Config, RobertaConfig, Qwen2Config, T5Config])
def test_a_base_without_tokenizer_files_is_refused(config, tmp_path):
    config().save_pretrained(tmp_path)
    made_up = AutoTokenizer.from_pretrained(tmp_path)
    assert len(made_up) < 110, "transformers makes one of special tokens"
    with pytest.raises(FormatError, match="has no tokenizer: its vocabulary is empty but for"):
        load_tokenizer(tmp_path)


def test_tokenizers_with_words_or_bytes_are_accepted(minilm, tmp_path):
    load_tokenizer(minilm)
    tiny.tokenizer().save_pretrained(tmp_path)
    tiny.save_encoder(tmp_path)
    load_tokenizer(tmp_path)
    require_words(ByT5Tokenizer(), "byt5")


UNK, CLS, SEP, FILM = 1, 2, 3, tiny.WORDS.index("film")


@pytest.mark.parametrize(
    ("rows", "share"),
    [
        ([[CLS, UNK, UNK, FILM, SEP]], "67%"),
        ([[CLS, UNK, SEP], [CLS, FILM, SEP]], None),
        ([[[CLS, UNK, SEP], [CLS, UNK, SEP]], [[CLS, FILM, SEP]]], "67%"),  # choices
        ([[CLS, SEP]], None),
        ([], None),
    ],
)
def test_mostly_unknown_tokens_are_said(rows, share):
    said = unknown_text(tiny.tokenizer(), rows, "train")
    if share is None:
        assert said is None
    else:
        assert said is not None
        assert said.startswith(
            f"{share} of the tokens of train are unknown to the tokenizer ([UNK])"
        )


def test_an_unknown_token_that_is_also_the_end_says_nothing(minilm):
    words = tiny.tokenizer()
    words.unk_token = words.eos_token
    assert unknown_text(words, [[SEP]], "train") is None


def test_a_run_on_another_alphabet_says_so(tmp_path):
    data = tmp_path / "data.csv"
    rows = [f"{'хорошо' if i % 2 else 'плохо'} кино,{i % 2}" for i in range(40)]
    data.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    base = tiny.save_encoder(tmp_path / "base")
    said: list[str] = []
    train(tiny.recipe(base, data, tmp_path / "run", training={"max_steps": 1}), said.append)
    assert any(line.startswith("100% of the tokens of train are unknown") for line in said)
