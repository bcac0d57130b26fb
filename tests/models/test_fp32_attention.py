"""Attention in float32 inside a bfloat16 run."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from lorakit.models import fp32_attention
from lorakit.models.fp32_attention import NAME, attend, use_fastest_attention

SMALL = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}


def bert() -> BertForSequenceClassification:
    return BertForSequenceClassification(
        BertConfig(**SMALL, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    )


def llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**SMALL, num_key_value_heads=2))


def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(1, 50, (3, 7))
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture(autouse=True)
def slow_bf16_kernel(monkeypatch):
    monkeypatch.setattr(fp32_attention, "_has_fast_bf16_kernel", lambda: False)


@pytest.mark.parametrize("make", [bert, llama])
def test_it_is_sdpa_to_the_last_bit_in_float32(make):
    torch.manual_seed(0)
    model, inputs = make(), batch()
    expected = model(**inputs).logits
    use_fastest_attention(model, "bf16")
    assert model.config._attn_implementation == NAME
    assert torch.equal(model(**inputs).logits, expected)


@pytest.mark.parametrize("make", [bert, llama])
def test_it_is_as_near_to_float32_as_the_bf16_kernel(make):
    torch.manual_seed(0)
    model, inputs = make(), batch()
    with torch.no_grad():
        exact = model(**inputs).logits
        errors = {}
        for name in ("sdpa", NAME):
            if name == NAME:
                use_fastest_attention(model, "bf16")
            with torch.autocast("cpu", torch.bfloat16):
                errors[name] = (model(**inputs).logits - exact).abs().mean()
    assert 0 < errors[NAME] <= 1.1 * errors["sdpa"]


def test_the_kernel_gets_float32_and_the_layers_after_it_bf16(monkeypatch):
    seen = []
    original = torch.nn.functional.scaled_dot_product_attention

    def watched(query, key, value, *args, **kwargs):
        seen.append((query.dtype, key.dtype, value.dtype))
        return original(query, key, value, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    model = bert()
    use_fastest_attention(model, "bf16")
    after = []
    projection = model.bert.encoder.layer[0].attention.output.dense
    projection.register_forward_hook(lambda _, inputs, __: after.append(inputs[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model(**batch()).logits.sum().backward()
    assert seen == [(torch.float32,) * 3] * 2
    assert after == [torch.bfloat16]


def test_dropout_takes_torchs_own_path(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "transformers.integrations.sdpa_attention.sdpa_attention_forward",
        lambda module, query, *args, **kwargs: seen.append((query.dtype, kwargs)) or (query, None),
    )
    query = torch.ones(1, 2, 3, 4, dtype=torch.bfloat16)
    assert (
        fp32_attention.attend(torch.nn.Module(), query, query, query, None, dropout=0.1)[0] is query
    )
    assert seen == [(torch.bfloat16, {"dropout": 0.1})]


def test_an_additive_mask_is_converted():
    query = torch.randn(1, 2, 3, 4, dtype=torch.bfloat16)
    mask = torch.zeros(1, 1, 3, 3, dtype=torch.bfloat16)
    mask[..., 2] = -torch.inf
    module = torch.nn.Module()
    module.is_causal = False
    result, _ = fp32_attention.attend(module, query, query, query, mask)
    expected = torch.softmax(query @ query.mT / 2 + mask, -1) @ query
    assert result.dtype is torch.bfloat16
    torch.testing.assert_close(result, expected.transpose(1, 2), rtol=0.05, atol=0.05)


def test_a_model_that_is_saved_says_nothing_of_it(tmp_path):
    model = bert()
    use_fastest_attention(model, "bf16")
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_other_types_keep_theirs(dtype):
    model = bert()
    use_fastest_attention(model, dtype)
    assert model.config._attn_implementation == "sdpa"


def test_so_do_eager_attention_and_models_of_torch_alone():
    model = BertForSequenceClassification._from_config(
        BertConfig(**SMALL), attn_implementation="eager"
    )
    use_fastest_attention(model, "bf16")
    assert model.config._attn_implementation == "eager"
    use_fastest_attention(torch.nn.Linear(2, 2), "bf16")


def test_a_bias_of_positions_is_widened_too():
    """T5 adds its relative positions to the scores."""
    torch.manual_seed(0)
    module = torch.nn.Module()
    q, k, v = (torch.randn(1, 2, 5, 8, dtype=torch.bfloat16) for _ in range(3))
    bias = torch.randn(1, 2, 5, 5, dtype=torch.bfloat16)
    module.is_causal = False
    found, _ = attend(module, q, k, v, None, position_bias=bias, scaling=1.0)
    scores = q.float() @ k.float().transpose(-1, -2) + bias.float()
    expected = (scores.softmax(-1) @ v.float()).transpose(1, 2)
    torch.testing.assert_close(found, expected.bfloat16())
