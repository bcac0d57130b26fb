"""A completion as it comes: the same text in parts, none of them half of anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lorakit.inference.batch_generation import generate_batch
from lorakit.inference.streaming import CompletionStream, CompletionText
from lorakit.recipe.decoding import DecodingConfig
from tests.training.tiny_gpt2 import save_gpt2


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_gpt2(tmp_path_factory.mktemp("gpt2"), spread=0.6)


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def streamed(tokenizer: Any, ids: list[int], ends: list[int] = (), stops: list[str] = ()) -> Any:
    """The parts of a completion whose tokens come one by one, and the whole."""
    text, parts = CompletionText(tokenizer, ends, stops), []
    stream = CompletionStream(text, parts.append)
    for token in [[[1, 2, 3]], *([i] for i in ids)]:  # the prompt comes first
        stream.put(torch.tensor(token))
    stream.end()
    assert "".join(parts) == text.whole(ids)
    assert all(parts)
    return parts, text.whole(ids)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (" One two  three.\nFour ", ["One", " two", "  three.", "\nFour"]),
        ("日本語のテ", ["日", "本", "語", "の", "テ"]),
        ("a 🙂🙃 b", ["a", " 🙂", "🙃", " b"]),
    ],
)
def test_words_and_characters_come_whole(tokenizer, text, parts):
    ids = tokenizer(text)["input_ids"]
    assert streamed(tokenizer, ids) == (parts, text.strip())


def test_special_tokens_and_what_follows_an_end_are_not_told(tokenizer):
    ids = tokenizer("one two")["input_ids"]
    dot = tokenizer(".")["input_ids"][0]
    assert streamed(tokenizer, [*ids, 0], [0])[1] == "one two"
    assert streamed(tokenizer, [0, *ids])[1] == "one two"
    assert streamed(tokenizer, [*ids, dot, *ids], [dot])[1] == "one two"  # a visible one


def test_no_part_of_a_stop_string_is_told(tokenizer):
    ids = tokenizer("one End of two End of it more words")["input_ids"]
    parts, whole = streamed(tokenizer, ids, stops=["End of it", "never"])
    assert whole == "one End of two"
    assert parts[-1] in (" two", " of two")


def test_all_that_is_told_is_what_a_batch_says_and_beams_come_at_the_end(base, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    prompt = tokenizer("Blue Spice serves")["input_ids"]
    for beams in (1, 3):
        decoding, parts = DecodingConfig(max_new_tokens=24, num_beams=beams), []
        with torch.no_grad():
            expected = generate_batch(model, tokenizer, [prompt], decoding)
            assert generate_batch(model, tokenizer, [prompt], decoding, parts.append) == expected
        assert "".join(parts) == expected[0]
        assert (len(parts) == 1) == (beams > 1)
