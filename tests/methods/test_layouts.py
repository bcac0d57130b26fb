"""The layouts of blocks, for families of transformers: what they name is on the residual stream."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import AutoConfig, AutoModel

from lorakit.methods import METHODS
from lorakit.methods.blocks import stacks
from lorakit.methods.layouts import UNKNOWN, layout_of, part_of
from tests.tolerances import MODEL

D, LAYERS = 16, 2
BERT_LIKE = {
    "hidden_size": D, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 40,
    "num_hidden_layers": LAYERS, "pad_token_id": 0,
}  # fmt: skip
LLAMA_LIKE = BERT_LIKE | {"num_key_value_heads": 2, "head_dim": 8}
GPT_LIKE = {"n_embd": D, "n_layer": LAYERS, "n_head": 2, "vocab_size": 40}
BART_LIKE = {
    "d_model": D, "encoder_layers": LAYERS, "decoder_layers": LAYERS,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "vocab_size": 40, "max_position_embeddings": 32, "pad_token_id": 0,
    "decoder_start_token_id": 1,
}  # fmt: skip
T5_LIKE = {"d_model": D, "d_kv": 8, "d_ff": 24, "num_layers": LAYERS, "num_heads": 2}
VISION = {"image_size": 8, "patch_size": 4, "num_channels": 3}
MOE = {"num_local_experts": 2, "num_experts": 2, "num_experts_per_tok": 1}

POST_LN = {
    "bert": BERT_LIKE,
    "roberta": BERT_LIKE,
    "electra": BERT_LIKE | {"embedding_size": D},
    "deberta": BERT_LIKE,
    "deberta-v2": BERT_LIKE,
    "mpnet": BERT_LIKE,
    "distilbert": {"dim": D, "n_heads": 2, "hidden_dim": 24, "n_layers": LAYERS, "vocab_size": 40},
    "albert": BERT_LIKE | {"embedding_size": 8},
    "bart": BART_LIKE,
    "marian": BART_LIKE,
    "plbart": BART_LIKE,
    "openai-gpt": GPT_LIKE,
    "wav2vec2": BERT_LIKE | {"conv_dim": [8], "conv_stride": [4], "conv_kernel": [4],
        "num_feat_extract_layers": 1, "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2},
}  # fmt: skip
PRE_LN = {
    "gpt2": GPT_LIKE,
    "gptj": GPT_LIKE | {"rotary_dim": 4},
    "gpt_neox": BERT_LIKE,
    "gpt_neo": {"hidden_size": D, "num_layers": 2, "num_heads": 2, "vocab_size": 40,
        "attention_types": [[["global", "local"], 1]]},
    "gpt_bigcode": GPT_LIKE,
    "opt": {"hidden_size": D, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
        "ffn_dim": 24, "vocab_size": 40, "word_embed_proj_dim": D},
    "bloom": GPT_LIKE | {"hidden_size": D},
    "falcon": {key: BERT_LIKE[key] for key in BERT_LIKE if key != "intermediate_size"},
    "mpt": {"d_model": D, "n_heads": 2, "n_layers": 2, "vocab_size": 40, "expansion_ratio": 2},
    "llama": LLAMA_LIKE,
    "mistral": LLAMA_LIKE,
    "mixtral": LLAMA_LIKE | MOE,
    "qwen2": LLAMA_LIKE,
    "qwen3": LLAMA_LIKE,
    "gemma": LLAMA_LIKE,
    "gemma2": LLAMA_LIKE,
    "gemma3_text": LLAMA_LIKE,
    "olmo2": LLAMA_LIKE,
    "glm4": LLAMA_LIKE,
    "phi": BERT_LIKE,
    "phi3": LLAMA_LIKE,
    "cohere": LLAMA_LIKE,
    "stablelm": LLAMA_LIKE,
    "modernbert": BERT_LIKE,
    "megatron-bert": BERT_LIKE,
    "roberta-prelayernorm": BERT_LIKE,
    "mbart": BART_LIKE,
    "pegasus": BART_LIKE,
    "whisper": BART_LIKE | {"num_mel_bins": 8, "max_source_positions": 8,
        "max_target_positions": 16},
    "t5": T5_LIKE | {"vocab_size": 40},
    "switch_transformers": T5_LIKE | {"vocab_size": 40, "num_experts": 8,
        "num_decoder_layers": LAYERS, "num_sparse_encoder_layers": 1},
    "mt5": T5_LIKE | {"vocab_size": 40},
    "vit": BERT_LIKE | VISION,
    "dinov2": BERT_LIKE | VISION,
    "siglip_vision_model": BERT_LIKE | VISION,
    "clip_vision_model": BERT_LIKE | VISION,
}  # fmt: skip
ALL = POST_LN | PRE_LN


def model_of(kind: str, **settings: object) -> nn.Module:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **ALL[kind] | settings)
    return AutoModel.from_config(config).eval().requires_grad_(False)


def run(model: nn.Module) -> torch.Tensor:
    """A forward of a fixed input of the model's kind."""
    torch.manual_seed(1)
    config, name = model.config, model.main_input_name
    if name == "pixel_values":
        inputs = {name: torch.randn(2, 3, 8, 8)}
    elif name == "input_values":
        inputs = {name: torch.randn(2, 64)}
    elif name == "input_features":
        inputs = {name: torch.randn(2, 8, 16)}
    else:
        inputs = {name: torch.randint(5, 40, (2, 6))}
    if config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.randint(5, 40, (2, 5))
    return model(**inputs)[0]


def first(output: object) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output[0]


def moved_by(model: nn.Module, at: nn.Module, seen: Callable[[], torch.Tensor]) -> torch.Tensor:
    """By how much what `seen` gives changes where the output of `at` grows by a constant."""
    run(model)
    before = seen().clone()

    def shift(module: nn.Module, args: object, output: object) -> object:
        shifted = first(output) + SHIFT
        return shifted if isinstance(output, torch.Tensor) else (shifted, *output[1:])

    handle = at.register_forward_hook(shift)
    run(model)
    handle.remove()
    return seen() - before


SHIFT = torch.linspace(-1, 1, D)


def expect_shift(moved: torch.Tensor) -> None:
    assert_close(moved, SHIFT.expand_as(moved), **MODEL)


@pytest.mark.parametrize("kind", ALL)
def test_what_the_mlp_gives_is_added_to_the_residual_stream(kind):
    model = model_of(kind, num_hidden_layers=1) if kind == "albert" else model_of(kind)
    for stack in stacks(model):
        block = stack.blocks[-1].module
        layout, kept = layout_of(block), {}
        assert layout is not None
        assert layout.norm != UNKNOWN
        assert (layout.norm is not None) == (kind in POST_LN)
        if layout.norm is None:
            block.register_forward_hook(lambda m, a, output, k=kept: k.update(x=first(output)))
        else:
            norm = part_of(block, layout.norm)
            norm.register_forward_pre_hook(lambda m, args, k=kept: k.update(x=args[0]))
        module = part_of(block, layout.mlp)
        expect_shift(moved_by(model, module, lambda k=kept: k["x"]))


@pytest.mark.parametrize("kind", ALL)
def test_every_adapter_of_every_block_runs_and_changes_the_model(kind):
    model = model_of(kind)
    base = run(model)
    layers = 1 if kind == "albert" else LAYERS * len(stacks(model))
    for name, (places, norms) in {"houlsby": (2, 0), "pfeiffer": (1, 0), "lin": (1, 2 * D)}.items():
        method = METHODS[name]
        report = method.apply(model, method.config_type(bottleneck=2))
        assert report.adapter_parameters == layers * (places * (2 * D * 2 + 2 + D) + norms)
        assert torch.equal(run(model), base)
        adapters = {n: m for n, m in model.named_modules() if n.endswith(".adapter")}
        called = set()
        for full, adapter in adapters.items():
            adapter.up_bias.data.copy_(SHIFT)
            adapter.register_forward_hook(lambda *_, full=full, called=called: called.add(full))
        assert not torch.allclose(run(model), base)
        assert called == {*adapters}
        assert len(adapters) == places * layers
        method.undo(model)
        assert torch.equal(run(model), base)
