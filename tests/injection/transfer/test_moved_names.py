"""An adapter on the bare model, on a wrapper, on a classifier: found where there is one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
)

import lorakit as lora
from lorakit.checkpoint import read
from lorakit.errors import ConfigError, FormatError, MismatchError
from tests.tolerances import EXACT

CONFIG = LlamaConfig(
    vocab_size=20,
    hidden_size=8,
    intermediate_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    pad_token_id=0,
)


def causal() -> nn.Module:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIG).eval()


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    model = causal()
    settings: dict[str, Any] = {"target_modules": ["q_proj", "v_proj"], "init_lora_weights": False}
    lora.inject(model, lora.LoraConfig(r=2, **settings))
    return lora.save_adapter(model, tmp_path / "a")


class Wrapper(nn.Module):
    """As vision-language models have it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.model = nn.ModuleDict({"language_model": inner})


def bare() -> nn.Module:
    return causal().model


def classifier() -> nn.Module:
    model = AutoModelForSequenceClassification.from_config(CONFIG)
    model.model.load_state_dict(bare().state_dict())
    return model


PLACES = {
    "bare": (bare, "layers."),
    "classifier": (classifier, "model.layers."),
    "wrapper": (lambda: Wrapper(bare()), "model.language_model.layers."),
    "deeper": (lambda: nn.ModuleDict({"inner": causal()}), "inner.model.layers."),
}


@pytest.mark.parametrize(("make", "prefix"), PLACES.values(), ids=PLACES)
def test_adapter_of_a_causal_model_is_placed_and_its_base_verified(
    make: Any, prefix: str, adapter: Path
) -> None:
    model = make()
    report = lora.load_adapter(model, adapter)
    assert report.base_verified
    if prefix == "model.layers.":
        assert report.renamed == {}
        return
    name = f"{prefix}1.self_attn.v_proj"
    assert report.renamed[name] == "model.layers.1.self_attn.v_proj"
    assert "renamed: 4 modules, such as model.layers.0.self_attn.q_proj to" in str(report)
    value = read(adapter).adapters["model.layers.1.self_attn.v_proj"].tensors["lora_A"]
    assert_close(model.get_submodule(name).lora_A.detach(), value, **EXACT)


def test_adapter_saved_from_there_has_the_names_of_there(adapter: Path, tmp_path: Path) -> None:
    model = bare()
    lora.load_adapter(model, adapter)
    lora.save_adapter(model, tmp_path / "b")
    assert {name.partition(".")[0] for name in read(tmp_path / "b").adapters} == {"layers"}
    lora.load_adapter(bare(), tmp_path / "b")


def test_several_places_are_named_and_refused(adapter: Path) -> None:
    model = nn.ModuleDict({"student": causal(), "teacher": causal()})
    before = sorted(name for name, _ in model.named_parameters())
    with pytest.raises(MismatchError, match="in several places; say which with rename") as caught:
        lora.load_adapter(model, adapter)
    assert "student.model.layers.0.self_attn.q_proj for model." in str(caught.value)
    assert before == sorted(name for name, _ in model.named_parameters())
    report = lora.load_adapter(model, adapter, rename={"^": "teacher."})
    assert all(name.startswith("teacher.") for name in report.renamed)


def test_part_with_another_meaning_is_not_taken_for_it(adapter: Path) -> None:
    model = nn.ModuleDict({"other": causal().model})
    with pytest.raises(MismatchError, match="the model has no such module"):
        lora.load_adapter(model, adapter)
    assert lora.load_adapter(model, adapter, rename={"^model": "other"}).base_verified


def test_subfolder_of_a_directory_is_read(adapter: Path) -> None:
    assert lora.load_adapter(causal(), adapter.parent, subfolder="a").base_verified
    with pytest.raises(FormatError, match="has no directory b"):
        read(adapter.parent, subfolder="b")
    for outside in ("../x", "/tmp", ""):
        with pytest.raises(ConfigError, match="is no directory within another one"):
            read(adapter.parent, subfolder=outside)


def test_truncated_model_is_still_refused(adapter: Path) -> None:
    model = causal()
    del model.model.layers[1]
    with pytest.raises(MismatchError, match="the model has no such module"):
        lora.load_adapter(model, adapter)
