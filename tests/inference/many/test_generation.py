"""Texts of many adapters from one batch: each is what its adapter alone writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn
from transformers import AutoModelForCausalLM

from lorakit.inference import generate_rows, many, open_session
from lorakit.inference.generation import Generated
from lorakit.inference.many import generation
from lorakit.inference.many.names import rows_by_name
from lorakit.inference.partial_outputs import remove_partial
from lorakit.models.loading import load_tokenizer
from lorakit.recipe.decoding import DecodingConfig
from tests.inference.many.files import table_of
from tests.inference.many.languages import PLAIN, save_talker

PROMPTS = ["w1 w2 w3 w4 w5 w6", "w7", "w8 w9 w10", "w7", "w1", "w20 w21", "w33 w34 w35 w36", "w1"]
NAMES = ["legal", "poems", None, "dora", "poems", "legal", None, "legal"]
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"max_new_tokens": 8},
    "beams": {"max_new_tokens": 8, "num_beams": 3, "length_penalty": 0.7},
    "no n-gram twice": {"max_new_tokens": 8, "num_beams": 2, "no_repeat_ngram_size": 2},
}


def alone(source: str, table: Any, decoding: DecodingConfig) -> Generated:
    return generate_rows(open_session(source), table, "own", decoding)


def base_alone(base: Path, prompts: list[str], decoding: dict[str, Any]) -> list[str]:
    """What transformers' `generate` writes with the base, prompt by prompt."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), load_tokenizer(base)
    texts = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        output = model.generate(ids, do_sample=False, pad_token_id=0, **decoding)
        texts.append(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return texts


def sizes_of(model: nn.Module) -> list[int]:
    """The rows of each forward from now on."""
    sizes: list[int] = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    return sizes


@pytest.mark.parametrize("way", WAYS)
def test_each_text_is_what_its_adapter_alone_writes(
    llama: Path, writers: dict[str, str], way: str
) -> None:
    table = table_of([{"prompt": prompt} for prompt in PROMPTS])
    sessions = many.open_many(writers)
    sizes = sizes_of(sessions.model)
    found = many.generate_rows(sessions, NAMES, table, "mixed", WAYS[way]).texts
    assert max(sizes) == len(PROMPTS) * WAYS[way].get("num_beams", 1)
    for name, rows in rows_by_name(NAMES).items():
        prompts = table.select(rows)
        if name is not None:
            expected = alone(writers[name], prompts, DecodingConfig(**WAYS[way])).texts
        elif way == "no n-gram twice":
            continue
        else:
            expected = base_alone(llama, prompts["prompt"], WAYS[way])
        assert [found[row] for row in rows] == expected
    assert len(set(found)) > 5
    assert len({len(text.split()) for text in found}) > 1, "no row ends before another"
