"""A quantised base is refused by its config: nothing of it has to be there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from lorakit.errors import FormatError
from lorakit.models.loading import load_base, load_for_task, meta_model
from lorakit.models.positions import length_limit
from tests.training import tiny

LOADERS = {
    "train": lambda name: load_for_task(name, "AutoModelForCausalLM", {}),
    "merge": load_base,
    "targets": meta_model,
    "a recipe's limit": length_limit,
}
FORMATS: list[tuple[dict[str, Any], str]] = [
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes 4 bits"),
    ({"load_in_8bit": True, "llm_int8_threshold": 6.0}, "bitsandbytes 8 bits"),
    ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq 4 bits"),
    ({"quant_method": "awq", "bits": 4, "version": "gemm"}, "awq 4 bits"),
    ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
    ({"quant_method": "mxfp4"}, "mxfp4"),
    ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, "compressed-tensors"),
    ({"quant_method": "a-method-of-tomorrow"}, "a-method-of-tomorrow"),
]


def save_config(path: Path, **settings: Any) -> Path:
    """A config and nothing else."""
    config = LlamaConfig(num_hidden_layers=1, architectures=["LlamaForCausalLM"]).to_dict()
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({**config, **settings}))
    return path


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS.keys())
@pytest.mark.parametrize(("settings", "title"), FORMATS, ids=[title for _, title in FORMATS])
def test_a_quantised_base_is_refused_by_its_config(settings, title, loader, tmp_path):
    base = save_config(tmp_path, quantization_config=settings)
    with pytest.raises(FormatError) as caught:
        loader(str(base))
    assert f"{base} is quantised ({title})" in str(caught.value)
    assert "pass the base that it was made from" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "title"),
    [
        ({"compression_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
        ({"quantization": {"group_size": 64, "bits": 4}}, "4 bits"),
        ({"text_config": {"quantization_config": {"quant_method": "awq"}}}, "awq"),
    ],
    ids=["before transformers 4.45", "MLX", "in a part"],
)
def test_a_quantisation_under_another_name_is_seen(settings, title, tmp_path):
    with pytest.raises(FormatError, match=rf"is quantised \({title}\)"):
        load_base(str(save_config(tmp_path, **settings)))


@pytest.mark.parametrize(
    "file", ["quantize_config.json", "quant_config.json", "hf_quant_config.json"]
)
def test_an_older_tools_file_beside_the_config_is_seen(file, tmp_path):
    (save_config(tmp_path) / file).write_text('{"bits": 4}')
    with pytest.raises(FormatError, match=rf"is quantised \({file}\)"):
        load_base(str(tmp_path))


def test_an_empty_setting_is_no_quantisation(tmp_path):
    base = tiny.save_llama(tmp_path)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": None}))
    assert load_base(str(base))
