"""Decoding in batches against transformers' `generate` on one prompt, and what is kept of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lorakit.errors import ConfigError
from lorakit.inference import batch_generation, generation
from lorakit.inference.batch_generation import generate_batch
from lorakit.inference.partial_outputs import PartialOutputs, remove_partial
from lorakit.recipe.decoding import DecodingConfig
from tests.training.tiny_gpt2 import save_gpt2

BEAM = DecodingConfig(max_new_tokens=12, num_beams=4, length_penalty=0.8, no_repeat_ngram_size=3)
PROMPTS = [[5, 9, 30, 7, 7, 7], [40, 41, 0], [60, 61, 62, 63, 64, 65, 66, 67, 0], [0]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_gpt2(tmp_path_factory.mktemp("gpt2"), spread=0.6)


@pytest.fixture(scope="module")
def model(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base).eval()


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def alone(model: Any, tokenizer: Any, prompt: list[int], decoding: DecodingConfig) -> str:
    """The definition: one prompt without padding, read once for each beam by transformers."""
    with torch.no_grad():
        output = model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            pad_token_id=0,
            eos_token_id=[0],
            num_beams=decoding.num_beams,
            length_penalty=decoding.length_penalty,
            max_new_tokens=decoding.new_token_limit,
            do_sample=False,
        )
    return tokenizer.decode(output[0, len(prompt) :], skip_special_tokens=True).strip()


@pytest.mark.parametrize("beams", [1, 4])
def test_a_batch_read_once_says_what_each_prompt_alone_says(model, tokenizer, beams):
    decoding = DecodingConfig(max_new_tokens=12, num_beams=beams, length_penalty=0.8)
    expected = [alone(model, tokenizer, prompt, decoding) for prompt in PROMPTS]
    assert len(set(expected)) > 1
    with torch.no_grad():
        assert generate_batch(model, tokenizer, PROMPTS, decoding) == expected


def test_prompts_are_read_once_and_not_for_every_beam(model, tokenizer, monkeypatch):
    rows = []
    with torch.no_grad():
        model.register_forward_pre_hook(
            lambda module, args, kwargs: rows.append(tuple(kwargs["input_ids"].shape)),
            with_kwargs=True,
        )
        generate_batch(model, tokenizer, PROMPTS, BEAM)
        once = sum(a * b for a, b in rows)
        assert rows[0] == (4, 8)
        assert all(shape == (16, 1) for shape in rows[1:])
        rows.clear()
        monkeypatch.setattr(batch_generation, "_accepts_cache", lambda model: False)
        generate_batch(model, tokenizer, PROMPTS, BEAM)
    assert rows[0] == (16, 9)
    assert sum(a * b for a, b in rows) > once
    model._forward_pre_hooks.clear()


def test_ngrams_are_counted_in_the_completion_only():
    seen = []

    def inner(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        seen.append(ids.tolist())
        return scores

    scores = torch.zeros(1, 5)
    assert batch_generation.AfterPrompt(inner, 2)(torch.tensor([[1, 2, 3, 4]]), scores) is scores
    assert seen == [[[3, 4]]]


def test_a_completion_repeats_no_ngram(model, tokenizer, monkeypatch):
    outputs = []
    generate = model.generate

    def recording(**arguments: Any) -> torch.Tensor:
        outputs.append(generate(**arguments))
        return outputs[-1]

    monkeypatch.setattr(model, "generate", recording)
    with torch.no_grad():
        for decoding in (DecodingConfig(max_new_tokens=12, num_beams=4), BEAM):
            generate_batch(model, tokenizer, PROMPTS, decoding)
    start = max(map(len, PROMPTS))
    loose, strict = ([doubled(row[start:].tolist()) for row in output] for output in outputs)
    assert any(loose)
    assert not any(strict)


def doubled(ids: list[int]) -> bool:
    """Whether three tokens in a row occur twice; what pads the end does not count."""
    while ids and ids[-1] == 0:
        ids.pop()
    triples = list(zip(ids, ids[1:], ids[2:], strict=False))
    return len(triples) > len(set(triples))


def test_a_stop_string_ends_a_completion(model, tokenizer):
    with torch.no_grad():
        (whole,) = generate_batch(model, tokenizer, [PROMPTS[0]], DecodingConfig(max_new_tokens=12))
        middle = whole[len(whole) // 2]
        (cut,) = generate_batch(
            model, tokenizer, [PROMPTS[0]], DecodingConfig(max_new_tokens=12, stop_strings=[middle])
        )
    assert cut == whole.partition(middle)[0].strip()


def test_kept_texts_are_those_of_the_same_question(tmp_path):
    output = tmp_path / "out.jsonl"
    kept = PartialOutputs(output, {"prompts": [[1]]})
    assert kept.read() == {}
    kept.start({})
    kept.add({0: "a\u2028b", 3: "c"})
    kept.add({1: ""})
    assert PartialOutputs(output, {"prompts": [[1]]}).read() == {0: "a\u2028b", 3: "c", 1: ""}
    assert PartialOutputs(output, {"prompts": [[2]]}).read() == {}
    with kept.file.open("a") as file:
        file.write('{"7": "half')  # a kill while it was written
    assert PartialOutputs(output, {"prompts": [[1]]}).read() == {0: "a\u2028b", 3: "c", 1: ""}
    remove_partial(output)
    assert list(tmp_path.iterdir()) == []


def test_two_commands_that_write_to_one_place_keep_their_completions_apart(tmp_path):
    one, other = (PartialOutputs(tmp_path / "out.jsonl", {"prompts": [[n]]}) for n in (1, 2))
    one.start({})
    other.start({0: "of the other"})
    one.add({0: "of the one"})
    assert (one.read(), other.read()) == ({0: "of the one"}, {0: "of the other"})


@pytest.mark.parametrize("line", [b'{"3": "c"', b"\xff\xfe", b"[1]", b'{"x": "c"}', b""])
def test_a_damaged_line_of_kept_completions_ends_them(line, tmp_path):
    kept = PartialOutputs(tmp_path / "out.jsonl", {"prompts": [[1]]})
    kept.start({0: "a"})
    kept.file.write_bytes(kept.file.read_bytes() + line + b'\n{"4": "d"}\n')
    assert kept.read() == {0: "a"}


def test_the_beams_of_a_recipe_are_checked():
    with pytest.raises(
        ConfigError, match=r"num_beams is 2 and temperature is 1.*; beam search does not sample"
    ) as caught:
        DecodingConfig(num_beams=2, temperature=1.0, no_repeat_ngram_size=-1, batch_size=0)
    assert len(caught.value.problems) == 3


def test_an_interrupted_decoding_continues_and_asks_each_prompt_once(base, tmp_path, monkeypatch):
    saved = saved_adapter(base, tmp_path / "adapter")
    table = rows_of([["name : A"], ["name : B"], ["name : A"], ["name : C and more"]])
    decoding = DecodingConfig(max_new_tokens=6, num_beams=2, batch_size=1)
    whole = generation.generate_rows(saved, table, "t", decoding).texts
    assert whole[0] == whole[2]

    asked: list[int] = []
    real = batch_generation.generate_batch

    def counting(
        model: Any, tokenizer: Any, prompts: list[list[int]], s: DecodingConfig, say: Any
    ) -> list[str]:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(prompts))
        return real(model, tokenizer, prompts, s, say)

    output = tmp_path / "out.jsonl"
    monkeypatch.setattr(generation, "generate_batch", counting)
    with pytest.raises(KeyboardInterrupt):
        generation.generate_rows(saved, table, "t", decoding, output=output)
    (kept,) = tmp_path.glob(".out.jsonl.partial-0-*")
    assert [json.loads(line) for line in kept.read_text().splitlines()]
    asked.clear()
    assert generation.generate_rows(saved, table, "t", decoding, output=output).texts == whole
    assert sum(asked) == 1
    remove_partial(output)
    assert not kept.exists()


def saved_adapter(base: Path, directory: Path) -> Any:
    """A random adapter of the tiny GPT-2, opened for e2e."""
    import lorakit as lora
    from lorakit.inference.session import LoadOptions, open_session

    model = AutoModelForCausalLM.from_pretrained(base)
    config = lora.LoraConfig(
        r=2,
        lora_alpha=32,
        target_modules=["c_attn"],
        slices={"c_attn": [True, False, True]},
        init_lora_weights=False,
    )
    lora.inject(model, config)
    lora.save_adapter(model, directory)
    return open_session(str(directory), LoadOptions(base=str(base), task="e2e"))


def rows_of(inputs: list[list[str]]) -> Any:
    import datasets

    return datasets.Dataset.from_dict({"input": [text for (text,) in inputs]})
