"""Several adapters: the base and the weighted sum of their updates, in float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import LlamaForCausalLM

import lorakit as lora
from lorakit.checkpoint import read
from tests.merging import models
from tests.tolerances import TOLERANCES

CLOSE = TOLERANCES[torch.float32]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return models.save(models.llama, tmp_path / "base", shards=True)


def adapters(base: Path, tmp_path: Path) -> tuple[Path, Path]:
    config = {"target_modules": ["q_proj", "up_proj"]}
    first = models.adapt(base, LlamaForCausalLM, tmp_path / "a", **config)
    config = {"target_modules": ["q_proj", "embed_tokens"], "r": 3, "use_rslora": True}
    return first, models.adapt(base, LlamaForCausalLM, tmp_path / "b", **config)


def weights(place: Path) -> dict[str, torch.Tensor]:
    return {k: v for f in place.glob("*.safetensors") for k, v in load_file(f).items()}


def test_weighted_sum_is_that_of_the_updates(base: Path, tmp_path: Path) -> None:
    a, b = adapters(base, tmp_path)
    report = lora.merge_files([(a, 0.7), (b, 0.3)], base, tmp_path / "merged")
    expected = weights(base)
    for path, weight in ((a, 0.7), (b, 0.3)):
        for name, adapter in read(path).adapters.items():
            expected[f"{name}.weight"] += weight * adapter.delta()
    assert_close(weights(tmp_path / "merged"), expected, **CLOSE)
    assert report.adapters == [(str(a), 0.7), (str(b), 0.3)]
    assert report.folded_layers == 2 + 2 + 1
    merged = models.strict(LlamaForCausalLM, tmp_path / "merged")
    assert torch.isfinite(models.logits(merged)).all()


def test_order_of_the_adapters_does_not_matter(base: Path, tmp_path: Path) -> None:
    a, b = adapters(base, tmp_path)
    lora.merge_files([(a, 0.7), (b, -0.3)], base, tmp_path / "one")
    lora.merge_files([(b, -0.3), (a, 0.7)], base, tmp_path / "other")
    assert_close(weights(tmp_path / "one"), weights(tmp_path / "other"), **CLOSE)


def test_negative_weight_takes_a_merge_back(base: Path, tmp_path: Path) -> None:
    a, _ = adapters(base, tmp_path)
    lora.merge_files(a, base, tmp_path / "merged")
    lora.merge_files([(a, -1.0)], tmp_path / "merged", tmp_path / "again", check_base=False)
    assert_close(weights(tmp_path / "again"), weights(base), **CLOSE)


def test_sum_is_rounded_once(tmp_path: Path) -> None:
    base = models.save(models.llama, tmp_path / "base", dtype=torch.bfloat16)
    a, b = adapters(base, tmp_path)
    lora.merge_files([(a, 0.5), (b, 0.25)], base, tmp_path / "merged")
    name = "model.layers.0.self_attn.q_proj"
    delta = 0.5 * read(a).adapters[name].delta() + 0.25 * read(b).adapters[name].delta()
    expected = (weights(base)[f"{name}.weight"].float() + delta).bfloat16()
    found = weights(tmp_path / "merged")[f"{name}.weight"]
    assert (found != expected).float().mean() < 0.01
    assert_close(found, expected, **TOLERANCES[torch.bfloat16])


def test_weight_of_what_was_trained_in_full_goes_from_the_base_to_it(
    base: Path, tmp_path: Path
) -> None:
    config = {"target_modules": ["q_proj"], "modules_to_save": ["norm"]}
    whole = models.adapt(base, LlamaForCausalLM, tmp_path / "whole", **config)
    lora.merge_files([(whole, 0.5)], base, tmp_path / "merged")
    before, trained = weights(base)["model.norm.weight"], read(whole).trained["model.norm.weight"]
    found = weights(tmp_path / "merged")["model.norm.weight"]
    assert_close(found, (before + trained) / 2, **CLOSE)


def test_same_adapter_in_halves_is_the_whole(base: Path, tmp_path: Path) -> None:
    a, _ = adapters(base, tmp_path)
    lora.merge_files([(a, 0.5), (a, 0.5)], base, tmp_path / "halves")
    lora.merge_files(a, base, tmp_path / "whole")
    assert_close(weights(tmp_path / "halves"), weights(tmp_path / "whole"), **CLOSE)
