"""Which token fills up a batch."""

from __future__ import annotations

from types import SimpleNamespace

from lorakit.tasks.padding import padding_id, with_pad_token


def test_a_tokenizer_without_a_pad_token_pads_with_its_end_of_text(gpt) -> None:
    gpt.pad_token = None
    assert with_pad_token(gpt) is gpt
    assert (gpt.pad_token, padding_id(gpt)) == ("<|im_end|>", gpt.eos_token_id)


def test_its_own_pad_token_stays(gpt) -> None:
    assert with_pad_token(gpt).pad_token == "<|endoftext|>"
    assert padding_id(gpt) == gpt.pad_token_id != gpt.eos_token_id


def test_without_any_token_the_first_one_stands_there_masked() -> None:
    assert padding_id(SimpleNamespace(pad_token_id=None)) == 0
