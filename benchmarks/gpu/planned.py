"""The peak of a training step as `lorakit.plan` predicts it, beside that of the device."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch

from benchmarks.gpu import shapes
from benchmarks.planned_peaks import planned
from benchmarks.planned_peaks_cells import Cell
from benchmarks.planned_peaks_worker import Training
from benchmarks.registry import Row, Settings, Unavailable

CELLS = [
    Cell(model, method, "bf16", checkpointing, 8, 256)
    for model, method, checkpointing in product(
        ("RoBERTa-base", "SmolLM2-135M"), ("lora", "full"), (False, True)
    )
]
CONDITIONS = {
    "step": "forward, the model's loss, backward, clipping and AdamW (fused), after a tiny one; "
    "8 x 256 random tokens, bf16, random weights, the method's defaults",
    "predicted": "`lorakit.plan(...).peak_bytes` in MiB; the kernels are those of a CPU",
    "measured": "torch.accelerator.max_memory_allocated in MiB: with what cuBLAS works in",
}


def check(settings: Settings) -> None:
    if settings.device == "cpu":
        raise Unavailable("torch counts the memory of accelerators only")


def rows(settings: Settings) -> Iterator[Row]:
    for cell in CELLS:
        shapes.free_memory(settings.device)
        yield row(settings, cell)


def row(settings: Settings, cell: Cell) -> Row:
    predicted, measured = planned(cell), peak(settings, cell)
    return {
        "model": cell.model,
        "method": cell.method,
        "checkpointing": "yes" if cell.checkpointing else "no",
        "predicted": predicted / 2**20,
        "measured": measured / 2**20,
        "predicted / measured": predicted / measured,
    }


def peak(settings: Settings, cell: Cell) -> int:
    training = Training(cell, settings.device)
    batch = training.inputs(cell.batch, cell.length)
    torch.accelerator.reset_peak_memory_stats()
    training.step(batch)
    return torch.accelerator.max_memory_allocated()
