"""Tied weights that PEFT trains apart: its `modules_to_save` copies each of them by itself."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.checkpoint import read, write
from lorakit.errors import MismatchError
from lorakit.merging import merge_files
from tests.injection import zoo
from tests.injection.checks import assert_same, outputs, snapshot
from tests.tolerances import EXACT, MODEL

LLAMA = zoo.CASES["llama"]
PAIR = ["embed_tokens", "lm_head"]
TIED = {
    "llama": (LLAMA, lambda: zoo.llama(tie_word_embeddings=True), PAIR),
    "gpt2": (zoo.CASES["gpt2"], zoo.gpt2, ["wte", "lm_head"]),
    "bert": (
        zoo.CASES["bert"],
        lambda: zoo.bert("BertForMaskedLM"),
        ["word_embeddings", "decoder"],
    ),
    "t5": (zoo.CASES["t5"], zoo.t5, ["shared", *PAIR]),
    "bart": (zoo.CASES["bart"], zoo.bart, ["shared", *PAIR]),
    "whisper": (zoo.CASES["whisper"], zoo.whisper, ["embed_tokens", "proj_out"]),
}


def tied_llama() -> nn.Module:
    return zoo.llama(tie_word_embeddings=True)


def saved_by_peft(name: str, path: Path, **changes: Any) -> nn.Module:
    """PEFT's model, whose tied weights have moved apart, and its file."""
    case, build, modules = TIED[name]
    given = {"r": 2, "target_modules": list(case.targets), "modules_to_save": list(modules)}
    fields = given | changes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it speaks of the tie, and of fan_in_fan_out
        theirs = peft.get_peft_model(build(), peft.LoraConfig(**fields)).eval()
        torch.manual_seed(3)
        with torch.no_grad():
            for parameter in theirs.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.3)
        theirs.save_pretrained(path)
    return theirs


@pytest.fixture
def apart(tmp_path: Path) -> Path:
    saved_by_peft("llama", tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize("name", TIED)
def test_weights_that_peft_trained_apart_give_its_function(name: str, tmp_path: Path) -> None:
    case, build, _ = TIED[name]
    theirs = saved_by_peft(name, tmp_path / "adapter")
    expected = outputs(case, theirs)
    ours = build()
    report = lora.load_adapter(ours, tmp_path / "adapter")
    biases = name == "bert"  # the decoder's is tied to another, which stays
    assert len(report.adapter.untied) == 1 + biases
    assert_close(outputs(case, ours), expected, **MODEL)
    again = build()
    lora.load_adapter(again, lora.save_adapter(ours, tmp_path / "again"))
    assert_close(outputs(case, again), outputs(case, ours), **EXACT)
    lora.fold(ours)
    assert not ours.config.tie_word_embeddings
    assert_close(outputs(case, ours), expected, **MODEL)


@pytest.mark.parametrize("target", PAIR)
def test_adapters_that_peft_tied_are_loaded(target: str, tmp_path: Path) -> None:
    """It adapts the other tied layer with the same A and B, and the config does not name it."""
    changes = {"target_modules": ["q_proj", target], "modules_to_save": None}
    theirs = saved_by_peft("llama", tmp_path, ensure_weight_tying=True, **changes)
    write(read(tmp_path), tmp_path / "again")
    for path in (tmp_path, tmp_path / "again"):
        ours = tied_llama()
        lora.load_adapter(ours, path)
        assert_close(outputs(LLAMA, ours), outputs(LLAMA, theirs), **MODEL)


def test_weights_trained_apart_are_merged_apart(tmp_path: Path) -> None:
    theirs = saved_by_peft("llama", tmp_path / "adapter")
    tied_llama().save_pretrained(tmp_path / "base")
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"made_by": "another tool"}))
    report = merge_files(str(tmp_path / "adapter"), str(tmp_path / "base"), tmp_path / "merged")
    assert "unknown settings of the adapter: made_by='another tool'" in str(report)
    merged = type(tied_llama()).from_pretrained(tmp_path / "merged").eval()
    assert not merged.config.tie_word_embeddings
    assert_close(outputs(LLAMA, merged), outputs(LLAMA, theirs), **MODEL)


def test_weights_trained_apart_are_tied_again_by_eject(apart: Path) -> None:
    model = tied_llama()
    before, base = snapshot(model), outputs(LLAMA, model)
    lora.load_adapter(model, apart)
    with lora.disabled(model):
        assert_close(outputs(LLAMA, model), base, **EXACT)
    lora.eject(model)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert_same(before, snapshot(model))


def test_weights_trained_apart_are_reported_and_train_apart(apart: Path) -> None:
    model = tied_llama()
    report = lora.load_adapter(model, apart).adapter
    names = "model.embed_tokens.weight = lm_head.weight"
    assert f"no longer tied, each is trained: {names}" in str(report)
    assert set(names.split(" = ")) <= {n for n, p in model.named_parameters() if p.requires_grad}
    assert report == lora.load_adapter(model, apart).adapter


def test_weights_that_train_as_one_are_not_loaded_apart(apart: Path) -> None:
    model = tied_llama()
    config = lora.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], modules_to_save=PAIR)
    lora.inject(model, config.replace(lora_alpha=8))
    before = snapshot(model)
    with pytest.raises(MismatchError, match=r"is trained as one with lm_head\.weight"):
        lora.load_adapter(model, apart)
    assert_same(before, snapshot(model))


def test_weights_on_the_meta_device_get_the_values_and_the_ties_of_the_file(
    apart: Path, tmp_path: Path
) -> None:
    with torch.device("meta"):
        model = tied_llama()
    lora.load_adapter(model, apart)
    tensors = load_file(apart / "adapter_model.safetensors")
    head = tensors["base_model.model.lm_head.weight"]
    assert_close(model.lm_head.weight.detach(), head, **EXACT)
    together = tied_llama()
    lora.inject(together, lora.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=PAIR))
    with torch.device("meta"):
        model = tied_llama()
    lora.load_adapter(model, lora.save_adapter(together, tmp_path / "together"))
    assert model.lm_head.weight is model.model.embed_tokens.weight
