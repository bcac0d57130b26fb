"""The paper's claims beside a plan's figures."""

from __future__ import annotations

import pytest
from transformers import GPT2Config

from lorakit.planner.bases import config_of, model_on_meta
from lorakit.planner.claims import CARD, CONFIGS, claims, claims_text
from lorakit.planner.settings import StepSettings
from lorakit.planner.table import method_steps, plan_steps


def claims_of(config) -> tuple[dict[str, str], str]:
    settings = StepSettings(batch=1, length=16, dtype="fp16")
    found = claims(plan_steps(method_steps(model_on_meta(config), settings, CONFIGS)))
    return {claim.of: claim.plan for claim in found}, claims_text(found)


def test_claims_are_computed_from_the_plans():
    found, text = claims_of(GPT2Config(n_embd=512, n_layer=2, n_head=4, vocab_size=50_000))
    model = model_on_meta(GPT2Config(n_embd=512, n_layer=2, n_head=4, vocab_size=50_000))
    parameters = sum(p.numel() for p in model.parameters())
    trained = 2 * 2 * 4 * (512 + 512)
    assert found["trained parameters"] == f"{parameters / trained:,.0f} times fewer"
    assert found["checkpoint"].endswith(f" to {2 * trained / 1e6:,.1f} MB")
    assert (
        found["training memory"]
        == f"{16 * parameters / 1e9:.1f} GB to {2 * parameters / 1e9:.1f} GB"
    )
    for paper in ("350 GB to 35 MB", "10,000 times fewer", "1.2 TB to 350 GB", "25% faster"):
        assert paper in text
    assert "r=4 on query and value" in text


def test_speed_is_the_ratio_of_the_arithmetic():
    config = GPT2Config(n_embd=512, n_layer=2, n_head=4, vocab_size=50_000)
    found, text = claims_of(config)
    settings = StepSettings(batch=1, length=16, dtype="fp16")
    plans = plan_steps(method_steps(model_on_meta(config), settings, CONFIGS)).plans
    ratio = plans["full"].flops_per_token / plans["lora"].flops_per_token
    assert found["speed"] == f"{ratio - 1:.0%} faster by arithmetic"
    assert 1.4 < ratio < 1.6
    assert "25% faster" in text


def test_rule_of_4_4_8_says_where_it_is_wrong():
    _, text = claims_of(GPT2Config(n_embd=64, n_layer=1, n_head=2, vocab_size=500))
    assert "4 + 4 + 8 bytes for each trained parameter" in text
    assert "right for full fine-tuning but for activations" in text
    assert "of LoRA it leaves out the frozen weights" in text


@pytest.mark.slow
def test_claims_of_gpt3():
    found, _ = claims_of(config_of(CARD))
    assert found["checkpoint"] == "349.2 GB to 37.7 MB"
    assert found["trained parameters"] == "9,251 times fewer"
    assert found["training memory"] == "2.79 TB to 349.5 GB"
