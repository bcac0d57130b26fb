"""Tiny models of transformers as llama.cpp's GGUF files, and what llama.cpp computes with them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path

import gguf
import numpy as np
import torch
from torch import Tensor, nn

from lorakit.checkpoint.formats.gguf.architectures import architecture_of, interleaved


def write_base(model: nn.Module, file: Path) -> Path:
    """The model without a vocabulary: tokens are numbers."""
    config = model.config.to_dict()
    base = architecture_of(config)
    writer = gguf.GGUFWriter(file, base.name)
    writer.add_type(gguf.GGUFType.MODEL)
    _SETTINGS[config["model_type"]](writer, config)
    writer.add_tokenizer_model("no_vocab")
    tensors = dict(model.state_dict())
    if base.tied:
        del tensors["lm_head.weight"]
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        there = base.tensor_of(module)
        assert there is not None, name
        if (heads := base.heads_of(there)) is not None and leaf == "weight":
            tensor = interleaved(tensor, heads)
        if base.name == "gpt2" and module.split(".")[-1].startswith("c_") and leaf == "weight":
            tensor = tensor.t()
        renamed = f"{there.removesuffix('.weight')}.{leaf}"
        writer.add_tensor(renamed, tensor.detach().float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _llama(writer: gguf.GGUFWriter, config: dict) -> None:
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])


def _gpt2(writer: gguf.GGUFWriter, config: dict) -> None:
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])


_SETTINGS: dict[str, Callable[[gguf.GGUFWriter, dict], None]] = {
    "llama": _llama,
    "qwen2": _llama,
    "gpt2": _gpt2,
}


def logits_in_llama_cpp(model: Path, adapter: Path | None, ids: Sequence[int]) -> Tensor:
    """Logits at every token, (tokens, vocabulary)."""
    import llama_cpp

    parameters = llama_cpp.llama_model_default_params()
    loaded = llama_cpp.llama_model_load_from_file(str(model).encode(), parameters)
    assert loaded
    context_parameters = llama_cpp.llama_context_default_params()
    context_parameters.n_ctx = 64
    context_parameters.type_k = context_parameters.type_v = llama_cpp.GGML_TYPE_F32
    context_parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(loaded, context_parameters)
    if adapter is not None:
        added = llama_cpp.llama_adapter_lora_init(loaded, str(adapter).encode())
        assert added, "llama.cpp refuses the adapter"
        adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(added)
        scales = (ctypes.c_float * 1)(1.0)
        assert llama_cpp.llama_set_adapters_lora(context, adapters, 1, scales) == 0
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for place, token in enumerate(ids):
        batch.token[place], batch.pos[place] = token, place
        batch.n_seq_id[place], batch.seq_id[place][0], batch.logits[place] = 1, 0, True
    assert llama_cpp.llama_decode(context, batch) == 0
    width = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(loaded))
    rows = [
        np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, n), (width,)).copy()
        for n in range(len(ids))
    ]
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(loaded)
    return torch.from_numpy(np.stack(rows))
