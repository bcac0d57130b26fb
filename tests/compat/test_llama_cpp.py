"""llama.cpp computes what transformers does with the same adapter, on tiny random models.

`llama-cpp-python` has no wheel and takes minutes to build: these tests run where it is installed.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen2Config

import lorakit as lora
from lorakit.checkpoint import write
from lorakit.injection.transfer.saving import bundle_of
from tests.compat.gguf_models import logits_in_llama_cpp, write_base
from tests.tolerances import MODEL

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
BASES = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
    "gpt2": GPT2Config(**GPT2),
}
GELU = {"rtol": 1e-3, "atol": 1e-3}
"""llama.cpp looks GELU up in a table of 16-bit numbers."""
IDS = list(range(1, 13))


@pytest.mark.parametrize("name", BASES)
def test_llama_cpp_computes_the_same_logits(name: str, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(BASES[name]).eval()
    base = write_base(model, tmp_path / "base.gguf")
    tolerance = GELU if name == "gpt2" else MODEL
    with torch.no_grad():
        plain = model(torch.tensor([IDS])).logits[0]
        settings = {"target_modules": "all-linear", "alpha_pattern": {"1.*": 11}}
        lora.inject(
            model,
            lora.LoraConfig(
                r=4, lora_alpha=6, use_rslora=True, init_lora_weights=False, **settings
            ),
        )
        expected = model(torch.tensor([IDS])).logits[0]
    adapter = tmp_path / "adapter.gguf"
    write(bundle_of(model), adapter, "gguf", base=model.config.to_dict())
    assert (expected - plain).abs().max() > 0.1
    assert_close(logits_in_llama_cpp(base, None, IDS), plain, **tolerance)
    assert_close(logits_in_llama_cpp(base, adapter, IDS), expected, **tolerance)
