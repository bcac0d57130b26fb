"""`lorakit analyze` on an adapter with the shapes of a 70 B model, from file to table."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, sleep

import torch

from benchmarks.registry import Row, Settings, spread
from lorakit.analysis import analyze
from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.config import LoraConfig
from lorakit.variants import AdapterSpec, LinearSite, ModuleAdapter

LAYERS, RANK, RUNS = 80, 16, 3
WIDTH, HIDDEN, GROUPED = 8192, 28672, 1024
"""Llama-2-70B's, and Llama-3-70B's: hidden size, MLP, and 8 heads of keys and values."""
SHAPES = {
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (GROUPED, WIDTH),
    "self_attn.v_proj": (GROUPED, WIDTH),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (HIDDEN, WIDTH),
    "mlp.up_proj": (HIDDEN, WIDTH),
    "mlp.down_proj": (WIDTH, HIDDEN),
}
"""(out, in)."""
CONDITIONS = {
    "adapter": f"{LAYERS} layers, all linear, rank {RANK}, random A and B",
    "seconds": f"of the whole command, with Python's start, over {RUNS} runs; the file is in the "
    "system's cache",
    "peak": "resident memory of the process, looked at every 10 ms; `own` leaves out the pages of "
    "files (the adapter's and the libraries'), which the system can take back",
}
_MB = 1e6


def check(settings: Settings) -> None:
    """A file's singular values are those of the dense update."""
    with tempfile.TemporaryDirectory() as directory:
        bundle = adapter_bundle(1, torch.float32, shrink=64)
        write(bundle, directory)
        adapters = read(directory).adapters
        for matrix in analyze(adapters).matrices:
            dense = adapters[matrix.name].delta().double()
            found = torch.tensor(matrix.spectrum.singular_values).double()
            torch.testing.assert_close(
                found, torch.linalg.svdvals(dense)[:RANK], rtol=1e-4, atol=1e-6
            )


def rows(settings: Settings) -> Iterator[Row]:
    layers = 1 if settings.quick else LAYERS
    for dtype in (torch.float32, torch.bfloat16):
        with tempfile.TemporaryDirectory() as directory:
            first, other = (Path(directory) / name for name in ("first", "other"))
            for seed, path in enumerate((first, other)):
                torch.manual_seed(settings.seed + seed)
                write(adapter_bundle(layers, dtype), path)
            size = sum(file.stat().st_size for file in first.iterdir())
            for command in ([first], [first, "--against", other]):
                yield {
                    "dtype": str(dtype).removeprefix("torch."),
                    "command": "analyze" if len(command) == 1 else "analyze --against",
                    "matrices": layers * len(SHAPES),
                    "file, MB": round(size / _MB),
                    **measured(list(map(str, command)), 1 if settings.quick else RUNS),
                }


def adapter_bundle(layers: int, dtype: torch.dtype, shrink: int = 1) -> AdapterBundle:
    """Random factors, of shapes that are smaller by a factor."""
    adapters = {}
    for layer in range(layers):
        for name, shape in SHAPES.items():
            out, width = (size // shrink for size in shape)
            tensors = {"lora_A": torch.randn(RANK, width), "lora_B": torch.randn(out, RANK)}
            tensors = {leaf: (tensor / 100).to(dtype) for leaf, tensor in tensors.items()}
            site = LinearSite(width, out)
            adapters[f"model.layers.{layer}.{name}"] = ModuleAdapter(
                AdapterSpec(RANK, RANK), tensors, site
            )
    targets = [name.rpartition(".")[2] for name in SHAPES]
    return AdapterBundle(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets), adapters)


def measured(arguments: list[str], runs: int) -> Row:
    """Seconds of the command, and the most memory of any run."""
    found = [one_run(arguments) for _ in range(runs)]
    seconds, resident, own = zip(*found, strict=True)
    return {
        "seconds": spread(seconds),
        "peak, MB": round(max(resident) / _MB),
        "own, MB": round(max(own) / _MB),
    }


def one_run(arguments: list[str]) -> tuple[float, int, int]:
    """Seconds, and bytes in memory at most: all of them, and those of no file."""
    started = perf_counter()
    command = [sys.executable, "-m", "lorakit", "analyze", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    resident = own = 0
    while process.poll() is None:
        now = memory(process.pid)
        resident, own = max(resident, now["VmRSS"]), max(own, now["RssAnon"])
        sleep(0.01)
    assert process.returncode == 0
    return perf_counter() - started, resident, own


def memory(pid: int) -> dict[str, int]:
    """Bytes by Linux's names; zeros once the process has ended."""
    found = dict.fromkeys(("VmRSS", "RssAnon"), 0)
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in found:
            found[name] = int(value.split()[0]) * 1024
    return found
