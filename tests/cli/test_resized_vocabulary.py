"""PEFT's adapters of a resized vocabulary, through every command that loads them onto a base."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer

import lorakit as lora
from lorakit.checkpoint import AdapterBundle
from lorakit.inference.session import LoadOptions, open_session
from lorakit.models.vocabulary import fit_vocabulary
from tests.injection import zoo
from tests.tolerances import EXACT, MODEL
from tests.training.tiny import tokenizer

NOISE = {"rtol": 0.0, "atol": 1e-3}
"""Of the mean, by which transformers lets new rows differ: 1e-9 of the rows' covariance."""
NEW = ["<|new|>", "<|turn|>"]
FIELDS: dict[str, dict[str, Any]] = {
    "rows": {"trainable_token_indices": [21, 22]},
    "rows of both": {
        "trainable_token_indices": {"embed_tokens": [21, 22], "lm_head": [21, 22]},
    },
    "tables": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "tables beside LoRA": {"target_modules": ["q_proj", "embed_tokens"]},
    "nothing but size": {},
}


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """21 tokens, and as many rows."""
    words = tokenizer()
    assert len(words) == 21
    zoo.llama(vocab_size=21, tie_word_embeddings=request.param).save_pretrained(tmp_path / "base")
    words.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def trained_with_peft(base: Path, directory: Path, **fields: Any) -> tuple[Any, Any]:
    """Two tokens more, trained and saved with PEFT; the model, and its tokenizer."""
    words = AutoTokenizer.from_pretrained(base)
    words.add_special_tokens({"additional_special_tokens": NEW})
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(len(words))
    fixed = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT speaks of ties and of the tables that it adds
        adapted = peft.get_peft_model(model, peft.LoraConfig(**fixed | fields)).eval()
        torch.manual_seed(3)
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.3)
        adapted.save_pretrained(directory)
    words.save_pretrained(directory)
    return adapted, words


def tables_of_head(adapter: Path, merged: Any) -> bool:
    """Whether the file has the head's new rows: not beside LoRA on untied embeddings."""
    keys = load_file(adapter / "adapter_model.safetensors")
    return merged.config.tie_word_embeddings or any("lm_head" in key for key in keys)


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
def test_merge_resizes_the_base_as_the_file_says(
    fields: dict[str, Any], base: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    adapted, words = trained_with_peft(base, tmp_path / "adapter", **fields)
    code, _, err = run("merge", tmp_path / "adapter", "--base", base, "--output", tmp_path / "out")
    assert code == 0, err
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    ids = torch.tensor([[3, 21, 22, 7]])
    known = 23 if tables_of_head(tmp_path / "adapter", merged) else 21
    assert_close(merged(ids).logits[..., :known], adapted(ids).logits[..., :known], **MODEL)
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "out")(NEW[0]).input_ids == words(NEW[0]).input_ids
    )


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
def test_inspect_and_generate_resize_the_base_too(
    fields: dict[str, Any], base: Path, tmp_path: Path, run: Callable[..., Any]
) -> None:
    adapted, _ = trained_with_peft(base, tmp_path / "adapter", **fields)
    code, out, err = run("inspect", tmp_path / "adapter", "--base", base, "--json")
    assert code == 0, err
    assert json.loads(out)["fits"] == str(base)
    asked = ("--prompt", f"good {NEW[1]}", "--max-new-tokens", 5, "--json")
    code, out, err = run("generate", tmp_path / "adapter", "--base", base, *asked)
    assert code == 0, err
    assert len(json.loads(out)["generated"]) == 1
    session = open_session(str(tmp_path / "adapter"), LoadOptions(base=str(base)))
    ids = session.tokenizer(f"good {NEW[1]}", return_tensors="pt").input_ids
    assert 22 in ids
    known = 23 if tables_of_head(tmp_path / "adapter", adapted) else 21
    here, there = session.model(ids.to(session.model.device)).logits.cpu(), adapted(ids).logits
    assert_close(here[..., :known], there[..., :known], **MODEL)


def test_a_tokenizer_alone_resizes_the_base(base: Path, tmp_path: Path) -> None:
    """The rows of its new tokens are the mean, and the same at each loading."""
    model = AutoModelForCausalLM.from_pretrained(base)
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["q_proj"]))
    lora.save_adapter(model, tmp_path / "adapter")
    words = AutoTokenizer.from_pretrained(base)
    words.add_tokens(NEW)
    words.save_pretrained(tmp_path / "adapter")
    options = LoadOptions(base=str(base))
    first, second = (
        open_session(str(tmp_path / "adapter"), options, "generation").model.lm_head.weight
        for _ in range(2)
    )
    assert first.shape[0] == 23
    assert_close(first, second, **EXACT)
    assert_close(first[21:], first[:21].mean(0).expand(2, -1), **NOISE)


def test_a_tokenizer_of_fewer_tokens_leaves_the_base_as_it_is(base: Path, tmp_path: Path) -> None:
    """Bases have more rows than tokens, for the sake of round numbers."""
    model = zoo.llama(vocab_size=64)
    fit_vocabulary(model, AdapterBundle(), AutoTokenizer.from_pretrained(base))
    assert model.lm_head.weight.shape[0] == 64
