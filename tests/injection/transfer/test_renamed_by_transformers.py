"""Adapters with the names of transformers 4, on the models of transformers 5."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from torch import nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.checkpoint import read, write
from lorakit.checkpoint.renaming import renamed_by
from tests.tolerances import EXACT

TEXT: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 40,
}
IMAGE = {**{k: v for k, v in TEXT.items() if k != "vocab_size"}, "image_size": 8, "patch_size": 4}


def vit() -> nn.Module:
    return transformers.ViTForImageClassification(transformers.ViTConfig(**IMAGE))


def clip() -> nn.Module:
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(**TEXT, eos_token_id=1))


def gemma() -> nn.Module:
    text = {**TEXT, "num_key_value_heads": 1, "head_dim": 8}
    config = transformers.Gemma3Config(text_config=text, vision_config=IMAGE, mm_tokens_per_image=1)
    return transformers.Gemma3ForConditionalGeneration(config)


CASES: dict[str, tuple[Callable[[], nn.Module], list[str], dict[str, str]]] = {
    "ViT": (
        vit,
        ["q_proj", "fc1"],
        {
            r"^vit\.layers\.(\d+)\.attention\.q_proj": (
                r"vit.encoder.layer.\1.attention.attention.query"
            ),
            r"^vit\.layers\.(\d+)\.mlp\.fc1": r"vit.encoder.layer.\1.intermediate.dense",
        },
    ),
    "CLIP": (clip, ["q_proj"], {"^encoder": "text_model.encoder"}),
    "Gemma 3": (
        gemma,
        [r"model.language_model.layers.0.self_attn.q_proj"],
        {r"^model\.language_model": "language_model.model"},
    ),
}


@pytest.mark.parametrize(("make", "targets", "former"), CASES.values(), ids=CASES)
def test_adapter_of_earlier_years_loads_and_says_what_was_renamed(
    make: Callable[[], nn.Module], targets: list[str], former: dict[str, str], tmp_path: Path
) -> None:
    model = make().eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    lora.inject(model, lora.LoraConfig(r=2, target_modules=targets, init_lora_weights=False))
    bundle = read(lora.save_adapter(model, tmp_path / "now"))
    write(renamed_by(bundle, former), tmp_path / "then")
    again = make().eval()
    again.load_state_dict(state)
    report = lora.load_adapter(again, tmp_path / "then", check_base=False)
    assert set(report.renamed) == set(bundle.adapters)
    assert "renamed: " in str(report)
    for name, adapter in bundle.adapters.items():
        found = again.get_submodule(name).lora_A.detach()
        assert_close(found, adapter.tensors["lora_A"], **EXACT)
