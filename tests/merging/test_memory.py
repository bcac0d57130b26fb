"""The memory of a merge is bounded by a part of the largest shard, not by the model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

import lorakit as lora

WIDTH, LAYERS = 512, 3

SCRIPT = """
import sys
from pathlib import Path

import lorakit as lora

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

small, large = sys.argv[1:3], sys.argv[3:5]
lora.merge_files(*small, small[1] + "-merged")
before = peak()
lora.merge_files(*large, large[1] + "-merged")
print(peak() - before)
"""


def place_base(place: Path, config: LlamaConfig, pickled: bool) -> Path:
    """A base in two shards, the larger of which has the embeddings."""
    place.mkdir()
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(place)
    with torch.device("meta"):
        shapes = {n: t.shape for n, t in LlamaForCausalLM(config).state_dict().items()}
    parts: list[dict[str, torch.Tensor]] = [{}, {}]
    for name, shape in shapes.items():
        parts[name.startswith("model.layers.0")][name] = (torch.rand(shape) - 0.5).bfloat16()
    stem, kind = ("pytorch_model", "bin") if pickled else ("model", "safetensors")
    weight_map = {}
    for number, part in enumerate(parts):
        file = f"{stem}-{number}.{kind}"
        torch.save(part, place / file) if pickled else save_file(part, place / file)
        weight_map |= dict.fromkeys(part, file)
    (place / f"{stem}.{kind}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return place


def adapter_of(config: LlamaConfig, place: Path) -> Path:
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    targets = ["q_proj", "down_proj", "embed_tokens", "lm_head"]
    lora.inject(model, lora.LoraConfig(r=4, target_modules=targets))
    for name, parameter in list(model.named_parameters()):
        if "lora_" in name:
            owner, _, leaf = name.rpartition(".")
            value = torch.nn.Parameter(torch.randn(parameter.shape) * 0.05)
            model.get_submodule(owner)._parameters[leaf] = value
    return lora.save_adapter(model, place)


def llama(width: int, words: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        dtype="bfloat16",
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "pickles"])
def test_peak_memory_is_at_most_1_2_times_the_largest_shard(pickled: bool, tmp_path: Path) -> None:
    arguments: list[Path] = []
    for name, config in {"small": llama(16, 50), "large": llama(WIDTH, 40_000)}.items():
        base = place_base(tmp_path / name, config, pickled)
        arguments += [adapter_of(config, tmp_path / f"{name}-adapter"), base]
    shards = [file for file in (tmp_path / "large").iterdir() if file.suffix != ".json"]
    largest = max(file.stat().st_size for file in shards)
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    more = int(done.stdout.splitlines()[-1])
    assert more < 1.2 * largest
    if not pickled:  # whatever the shard is: some blocks, and the adapter
        assert more < 0.6 * largest
