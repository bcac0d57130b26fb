"""The peak of a training step as `lorakit.plan` predicts it, beside a real step and other rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from multiprocessing import get_context

import torch
import transformers
from accelerate.commands.estimate import estimate_training_usage
from accelerate.utils import calculate_maximum_sizes

import lorakit as lora
from benchmarks import allocations, provenance
from benchmarks.gpu import records
from benchmarks.planned_peaks_cells import CELLS, QUICK, Cell, built, config_of
from benchmarks.planned_peaks_worker import measured
from benchmarks.registry import Row, Settings

Bytes = dict[str, int]
"""What `measured` gives, by name."""

DONE = provenance.ROOT / "runs" / "planned_peaks.jsonl"
"""The cells that a full run has measured; without it, all are measured again."""
CONDITIONS = {
    "step": "forward, the model's loss, backward, clipping and AdamW (fused); the optimizer has "
    "its state when it begins; random weights and tokens",
    "methods": "with the defaults of `lorakit.plan`",
    "dtype": "of the frozen weights and the products; what trains is float32",
    "predicted": "`lorakit.plan(model on meta, ...).peak_bytes` in MB",
    "measured": "the most bytes that torch's allocator for CPUs had given out at once (profiler), "
    "those of weights, batch and state among them, in MB",
    "process": "VmHWM of a process of its own over the step, in MB, less what it had before the "
    "step beside these tensors: Python, libraries, memory that is free and not given back",
    "estimate-memory": "what `accelerate estimate-memory` prints as training with Adam, by its own "
    "functions, in MB: of every method, batch and length the same; bf16 is its float16",
    "4 x weights": "the rule of thumb for Adam: weights, gradients and two moments, each as large "
    "as all the weights in float32, in MB",
}
_MB = 1e6
_SIZE = 4000


def check(settings: Settings) -> None:
    """The counter sees each storage once, from its birth to its death."""

    def twice() -> None:
        for _ in range(2):
            x = torch.ones(_SIZE)
            del x

    def both() -> None:
        x = torch.ones(_SIZE)
        x.view(2, -1).add_(1).exp()

    assert allocations.highest(twice) == 4 * _SIZE
    assert allocations.highest(both) == 2 * 4 * _SIZE
    x = torch.ones(_SIZE)
    assert allocations.held([x, x[1:], x.double()]) == 3 * 4 * _SIZE


def rows(settings: Settings) -> Iterator[Row]:
    cells = QUICK if settings.quick else CELLS
    known = {} if settings.quick else done()
    for cell, real in real_steps(cells, known, keep=not settings.quick):
        predicted = planned(cell)
        yield {
            "model": cell.model,
            "method": cell.method,
            "dtype": cell.dtype,
            "checkpointing": "yes" if cell.checkpointing else "no",
            "batch": f"{cell.batch} x {cell.length}",
            "predicted": predicted / _MB,
            "measured": real["allocated"] / _MB,
            "predicted / measured": predicted / real["allocated"],
            "process": (real["process"] - real["beside"]) / _MB,
            "estimate-memory": estimated(cell.model, cell.dtype) / _MB,
            "4 x weights": 4 * weights(cell.model) / _MB,
        }


def done() -> dict[Cell, Bytes]:
    return {Cell(**cell): real for _, (cell, real) in records.read(DONE)}


def real_steps(
    cells: Sequence[Cell], known: Mapping[Cell, Bytes], keep: bool
) -> Iterator[tuple[Cell, Bytes]]:
    """What is measured of each cell; `keep`: what is not known yet is written to `DONE`."""
    new = measuring([cell for cell in cells if cell not in known])
    for cell in cells:
        if cell in known:
            yield cell, known[cell]
            continue
        real = next(new)
        if keep:
            DONE.parent.mkdir(exist_ok=True)
            records.writer(DONE)("cell", (asdict(cell), real))
        yield cell, real


def measuring(cells: Sequence[Cell]) -> Iterator[Bytes]:
    """Each cell in a process of its own, one at a time, while the caller plans others."""
    processes = get_context("forkserver")
    processes.set_forkserver_preload([measured.__module__])
    with processes.Pool(1, maxtasksperchild=1) as pool:
        yield from pool.imap(measured, cells)


def planned(cell: Cell) -> int:
    settings = asdict(cell)
    name = settings.pop("model")
    with torch.device("meta"):
        model = built(name)
    return lora.plan(model, **settings).peak_bytes


@cache
def estimated(model: str, dtype: str) -> int:
    """accelerate's command loads a model without a head, and takes the largest of four numbers."""
    with torch.device("meta"):
        size, _ = calculate_maximum_sizes(transformers.AutoModel.from_config(config_of(model)))
    return max(
        estimate_training_usage(size, {"fp32": "float32", "bf16": "float16"}[dtype]).values()
    )


@cache
def weights(model: str) -> int:
    with torch.device("meta"):
        return allocations.held(built(model).parameters())
