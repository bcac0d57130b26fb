"""Experts that files have one by one become adapters of the parameters that models have."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch

import lorakit as lora
from lorakit.checkpoint import write
from lorakit.derivation import adaptable
from lorakit.errors import MismatchError
from tests.derivation.test_extraction import IDS, disturbed, save
from tests.injection.moe import ALONE, model_of
from tests.merging.models import mixtral
from tests.tolerances import MODEL


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe"])
def test_experts_stored_one_by_one_become_an_adapter_of_their_parameter(
    name: str, tmp_path: Path
) -> None:
    model = model_of(name).eval()
    base = save(model, tmp_path / "base")
    again = type(model).from_pretrained(base).eval()
    theirs = type(model).from_pretrained(base).eval()
    lora.inject(model, lora.LoraConfig(r=4, init_lora_weights=False, **ALONE))
    lora.fold(model)
    tuned = save(model, tmp_path / "tuned")
    found = lora.extract(base, tuned, rank=4)
    names = {name for name, p in model.named_parameters() if p.ndim == 3}
    assert set(found.bundle.adapters) == names
    assert found.error.whole < 1e-5
    by_energy = lora.extract(base, tuned, energy=0.999999).bundle.adapters
    assert {x.spec.r for x in by_energy.values()} == {4}
    write(found.bundle, tmp_path / "adapter", "peft")
    assert lora.load_adapter(again, tmp_path / "adapter").base_verified
    torch.testing.assert_close(again(IDS).logits, model(IDS).logits, **MODEL)
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    torch.testing.assert_close(theirs(IDS).logits, model(IDS).logits, **MODEL)


def test_one_changed_expert_is_found_beside_layers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mixtral().eval()
    base = save(model, tmp_path / "base")
    with torch.no_grad():
        model.model.layers[0].mlp.experts.down_proj[1] += 0.1
    tuned = save(disturbed(model, lambda name: "q_proj" in name), tmp_path / "tuned")
    bundle = lora.extract(base, tuned, rank=2).bundle
    experts = "model.layers.0.mlp.experts.down_proj"
    assert set(bundle.adapters) == {"model.layers.0.self_attn.q_proj", experts}
    assert bundle.config.target_modules == ("q_proj",)
    assert bundle.config.target_parameters == (experts,)
    assert not bundle.adapters[experts].delta()[0].any()


def test_experts_that_make_no_stack_are_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = mixtral()
    base = save(model, tmp_path / "base")
    tuned = save(disturbed(model, lambda name: "experts" in name), tmp_path / "tuned")
    monkeypatch.setattr(adaptable, "stacked_keys", lambda model, keys: {})
    match = r"experts\.\w+ has changed, and is stored in .*save_original_format=False"
    for keep_rest in (False, True):
        with pytest.raises(MismatchError, match=match):
            lora.extract(base, tuned, rank=2, keep_rest=keep_rest)
