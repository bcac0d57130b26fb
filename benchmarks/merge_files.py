"""An adapter merged into its base on disk: from file to file, and through the loaded model."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, sleep

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

import lorakit as lora
from benchmarks.peers import INSTALLED
from benchmarks.registry import Row, Settings, spread

WORKERS = {"lorakit.merge_files": "files", "load, fold, save": "fold", "peft": "peft"}
"""By the names in the table, those in `merge_files_worker`."""
RANK, RUNS, SHARD = 16, 2, 500 * 10**6
LARGE = {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 10}
SMALL = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4}
CONDITIONS = {
    "base": f"Llama's shapes, {LARGE}, 32,000 tokens, random, bfloat16, in files of at most 500 MB",
    "adapter": f"all linear layers, rank {RANK}, float32",
    "seconds": "of the whole process, with Python's start and the imports; the base is in the "
    "system's cache, and the new checkpoint may still be on its way to the disk",
    "peak": "resident memory of the process at its largest; `own` leaves out the pages of files, "
    "looked at every 10 ms",
    "of the largest shard": "`own`, less that of a merge of a model of some kilobytes, over the "
    "bytes of the largest file of the base",
}
_MB = 1e6


def check(settings: Settings) -> None:
    """Every way writes the same weights, up to one rounding."""
    with tempfile.TemporaryDirectory() as folder:
        base, adapter = place(Path(folder), SMALL, settings.seed)
        expected = None
        for name in workers():
            output = Path(folder) / WORKERS[name]
            run(name, adapter, base, output)
            found = {k: v for f in output.glob("*.safetensors") for k, v in load_file(f).items()}
            expected = expected or found
            assert found.keys() == expected.keys(), name
            for key, tensor in found.items():
                torch.testing.assert_close(tensor, expected[key], rtol=2**-7, atol=1e-3)


def rows(settings: Settings) -> Iterator[Row]:
    tiny = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    with tempfile.TemporaryDirectory() as folder:
        least = one_run("lorakit.merge_files", *place(Path(folder), tiny, settings.seed, 50))[2]
    with tempfile.TemporaryDirectory() as folder:
        base, adapter = place(Path(folder), SMALL if settings.quick else LARGE, settings.seed)
        sizes = [file.stat().st_size for file in base.glob("*.safetensors")]
        for name in workers():
            found = [one_run(name, base, adapter) for _ in range(1 if settings.quick else RUNS)]
            seconds, resident, own = zip(*found, strict=True)
            yield {
                "way": name,
                "base, MB": round(sum(sizes) / _MB),
                "largest shard, MB": round(max(sizes) / _MB),
                "seconds": spread(seconds),
                "peak, MB": round(max(resident) / _MB),
                "own, MB": round(max(own) / _MB),
                "of the largest shard": round((max(own) - least) / max(sizes), 2),
            }


def workers() -> list[str]:
    return [name for name in WORKERS if name != "peft" or "peft" in INSTALLED]


def place(folder: Path, sizes: dict[str, int], seed: int, words: int = 32_000) -> tuple[Path, Path]:
    """A base in shards, written one after the other, and an adapter of it."""
    torch.manual_seed(seed)
    config = LlamaConfig(**sizes, vocab_size=words, num_attention_heads=8, dtype="bfloat16")
    config.architectures = ["LlamaForCausalLM"]
    base, adapter = folder / "base", folder / "adapter"
    config.save_pretrained(base)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    limit = min(SHARD, sum(p.numel() for p in model.parameters()))  # two files, or more
    part: dict[str, torch.Tensor] = {}
    weight_map: dict[str, str] = {}
    names = list(model.state_dict())
    for number, name in enumerate(names):
        part[name] = (torch.rand(model.state_dict()[name].shape) - 0.5).div_(10).bfloat16()
        if sum(tensor.nbytes for tensor in part.values()) >= limit or number == len(names) - 1:
            file = f"model-{len(set(weight_map.values())):05}.safetensors"
            save_file(part, base / file, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(part, file)
            part = {}
    index = {"metadata": {"total_size": sum(p.numel() * 2 for p in model.parameters())}}
    text = json.dumps({**index, "weight_map": weight_map})
    (base / "model.safetensors.index.json").write_text(text)
    lora.inject(model, lora.LoraConfig(r=RANK, lora_alpha=RANK, target_modules="all-linear"))
    for name, parameter in list(model.named_parameters()):
        if not parameter.is_meta or "lora_" in name:
            owner, _, leaf = name.rpartition(".")
            value = torch.nn.Parameter(torch.randn(parameter.shape) * 0.02)
            model.get_submodule(owner)._parameters[leaf] = value
    return base, lora.save_adapter(model, adapter)


def command(name: str, adapter: Path, base: Path, output: Path) -> list[str]:
    worker = [sys.executable, "-m", "benchmarks.merge_files_worker", WORKERS[name]]
    return [*worker, *map(str, (adapter, base, output))]


def run(name: str, adapter: Path, base: Path, output: Path) -> None:
    subprocess.run(command(name, adapter, base, output), check=True, capture_output=True)


def one_run(name: str, base: Path, adapter: Path) -> tuple[float, int, int]:
    """Seconds, and bytes in memory at most: all of them, and those of no file."""
    with tempfile.TemporaryDirectory(dir=base.parent) as output:
        started = perf_counter()
        process = subprocess.Popen(
            command(name, adapter, base, Path(output) / "merged"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        resident = own = 0
        while process.poll() is None:
            now = memory(process.pid)
            resident, own = max(resident, now["VmHWM"]), max(own, now["RssAnon"])
            sleep(0.01)
        assert process.returncode == 0
        return perf_counter() - started, resident, own


def memory(pid: int) -> dict[str, int]:
    """Bytes by Linux's names; zeros once the process has ended."""
    found = dict.fromkeys(("VmHWM", "RssAnon"), 0)
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in found:
            found[name] = int(value.split()[0]) * 1024
    return found
