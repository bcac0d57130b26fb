"""Trainable tokens in lorakit and in PEFT: files in both directions, outputs, gradients, ties."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

import lorakit as lora
from lorakit.errors import MismatchError
from tests.injection import zoo
from tests.injection.checks import loss
from tests.tolerances import EXACT, TOLERANCES

FLOAT64 = TOLERANCES[torch.float64]
IDS = torch.tensor([[3, 38, 39, 5, 39, 7], [38, 9, 11, 3, 2, 39]])
VALUES = "trainable_tokens_delta"


def case(name: str, tied: bool) -> nn.Module:
    return BUILD[name](tie_word_embeddings=tied).double()


def masked_lm(**settings: Any) -> nn.Module:
    """Its head, tied to the embeddings, has a bias."""
    return zoo.bert("BertForMaskedLM", **settings)


def scaled_bart(**settings: Any) -> nn.Module:
    """Its embeddings multiply by sqrt(16) in a forward of their own."""
    return zoo.bart(scale_embedding=True, **settings)


BUILD = {"llama": zoo.llama, "gpt2": zoo.gpt2, "t5": zoo.t5, "bert": masked_lm, "bart": scaled_bart}
TARGETS = {
    "llama": ["q_proj"],
    "gpt2": ["c_attn"],
    "t5": ["q", "v"],
    "bert": ["query"],
    "bart": ["q_proj"],
}
MODELS = [(name, tied) for name in TARGETS for tied in (True, False)]


def settings(name: str, tokens: Any = (39, 38), **more: Any) -> dict[str, Any]:
    """The fields that both configs have; the tokens are not in ascending order."""
    listed = dict(tokens) if isinstance(tokens, Mapping) else list(tokens)
    fixed = {"r": 2, "lora_alpha": 4, "target_modules": TARGETS[name]}
    return {**fixed, "trainable_token_indices": listed, **more}


def batch(model: nn.Module) -> dict[str, Tensor]:
    decoder = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
    return {"input_ids": IDS, **decoder}


def logits(model: nn.Module) -> Tensor:
    found: Tensor = model(**batch(model)).logits
    return found


def in_peft(model: nn.Module, name: str, **fields: Any) -> Any:
    config = peft.LoraConfig(**settings(name, **fields), fan_in_fan_out=name == "gpt2")
    made = peft.get_peft_model(copy.deepcopy(model), config)
    randomise(made)
    return made.eval()


def randomise(model: nn.Module) -> None:
    torch.manual_seed(13)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)


def plain_gradients(model: nn.Module) -> dict[str, Tensor]:
    """Of A, B and the rows, by the names of lorakit; the rows by their numbers in order."""
    loss(logits(model)).backward()
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:  # an untied BART has a table that it does not use
            short = name.removeprefix("base_model.model.")
            for part in (".token_adapter", ".default", ".weight"):
                short = short.replace(part, "")
            found[short] = parameter.grad
    return found


@pytest.mark.parametrize(("name", "tied"), MODELS)
def test_rows_of_a_peft_file_compute_the_same_outputs_and_gradients(
    name: str, tied: bool, tmp_path: Path
) -> None:
    base = case(name, tied)
    theirs = in_peft(base, name)
    theirs.save_pretrained(tmp_path)
    ours = copy.deepcopy(base)
    report = lora.load_adapter(ours, tmp_path)
    if name == "bert" and tied:  # PEFT forgets the bias of a tied head
        head = dict(base.named_parameters())["cls.predictions.bias"].detach()
        assert_close(logits(ours), logits(theirs) + head, **FLOAT64)
    else:
        assert_close(logits(ours), logits(theirs), **FLOAT64)
    assert report.adapter.trainable_parameters == theirs.get_nb_trainable_parameters()[0]
    if name != "bert":
        here, there = plain_gradients(ours), plain_gradients(theirs)
        order = [1, 0]  # PEFT keeps the order of its config
        there = {n: g[order] if n.endswith(VALUES) else g for n, g in there.items()}
        assert_close(here, there, **FLOAT64)


@pytest.mark.parametrize(("name", "tied"), MODELS)
def test_rows_that_lorakit_saves_compute_the_same_in_peft(
    name: str, tied: bool, tmp_path: Path
) -> None:
    base = case(name, tied)
    ours = copy.deepcopy(base)
    lora.inject(ours, lora.LoraConfig(**settings(name)))
    randomise(ours)
    lora.save_adapter(ours, tmp_path)
    theirs = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path).eval()
    if not (name == "bert" and tied):
        assert_close(logits(theirs), logits(ours), **FLOAT64)
    names = [key for key in load_file(tmp_path / "adapter_model.safetensors") if "lora_" not in key]
    assert len(names) == 1
    assert names[0].endswith(f".token_adapter.{VALUES}")
    other = copy.deepcopy(base)
    lora.load_adapter(other, tmp_path)
    assert_close(logits(other), logits(ours), **EXACT)


@pytest.mark.parametrize("tokens", [
    {"embed_tokens": [38, 39], "lm_head": [38, 39]},
    {"embed_tokens": [38, 39], "lm_head": [3, 39]},
    {"lm_head": [39]},
])  # fmt: skip
@pytest.mark.parametrize("tied", [True, False])
def test_rows_of_named_modules_are_those_of_peft(tokens: Any, tied: bool, tmp_path: Path) -> None:
    base = case("llama", tied)
    theirs = in_peft(base, "llama", tokens=tokens)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = copy.deepcopy(base)
    lora.load_adapter(ours, tmp_path / "theirs")
    assert_close(logits(ours), logits(theirs), **FLOAT64)
    lora.save_adapter(ours, tmp_path / "ours")
    again = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "ours").eval()
    assert_close(logits(again), logits(theirs), **FLOAT64)


@pytest.mark.parametrize("tied", [True, False])
def test_a_peft_file_of_a_resized_vocabulary_loads_into_a_resized_base(
    tied: bool, tmp_path: Path
) -> None:
    """PEFT adds the whole tables, whose other new rows no other resizing gives."""
    base = loaded(tmp_path / "base", tied)
    base.resize_token_embeddings(44)
    theirs = peft.get_peft_model(
        copy.deepcopy(base), peft.LoraConfig(**settings("llama", tokens=[41, 40]))
    ).eval()
    randomise(theirs)
    with pytest.warns(UserWarning, match="save_embedding_layers"):
        theirs.save_pretrained(tmp_path / "adapter")
    ours = loaded(tmp_path / "base", tied)
    ours.resize_token_embeddings(44, mean_resizing=False)
    report = lora.load_adapter(ours, tmp_path / "adapter").adapter
    ids = {"input_ids": torch.tensor([[3, 40, 41, 42, 43]])}
    assert_close(ours(**ids).logits, theirs(**ids).logits, **FLOAT64)
    assert report.trained == {}
    lora.save_adapter(ours, tmp_path / "again")
    tensors = load_file(tmp_path / "again" / "adapter_model.safetensors")
    assert max(tensor.shape[0] for key, tensor in tensors.items() if "lora" not in key) == 4


def loaded(directory: Path, tied: bool) -> Any:
    if not directory.exists():
        zoo.llama(tie_word_embeddings=tied).save_pretrained(directory)
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float64).eval()


def test_rows_of_another_base_are_refused(tmp_path: Path) -> None:
    """The tables of a file show which base it was trained on."""
    base = loaded(tmp_path / "base", tied=False)
    base.resize_token_embeddings(44)
    theirs = peft.get_peft_model(base, peft.LoraConfig(**settings("llama", tokens=[40, 41])))
    with pytest.warns(UserWarning, match="save_embedding_layers"):
        theirs.save_pretrained(tmp_path / "adapter")
    other = loaded(tmp_path / "base", tied=False)
    other.resize_token_embeddings(44)
    with torch.no_grad():
        other.model.embed_tokens.weight[7] += 1
    with pytest.raises(MismatchError, match=r"embed_tokens\.weight is the base weight of an adap"):
        lora.load_adapter(other, tmp_path / "adapter")


def test_the_config_names_the_tokens_as_peft_does(tmp_path: Path) -> None:
    ours = zoo.llama()
    lora.inject(ours, lora.LoraConfig(**settings("llama")))
    lora.save_adapter(ours, tmp_path)
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    assert written["trainable_token_indices"] == {"model.embed_tokens": [38, 39]}
