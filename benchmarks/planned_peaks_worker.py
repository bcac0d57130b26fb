"""A real training step of a cell of `planned_peaks`, measured in the process that it has alone.

Nothing of `lorakit.planner` is imported: what it predicts is measured by other means.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.allocations import held, highest
from benchmarks.planned_peaks_cells import Cell, built
from lorakit.methods.registry import METHODS
from lorakit.models.dtypes import autocast, compute_in
from lorakit.models.fp32_head import head_modules

_RESET_PEAK = "5"
"""What /proc/PID/clear_refs takes to begin VmHWM anew; see proc_pid_clear_refs(5)."""


def measured(cell: Cell) -> dict[str, int]:
    """Bytes at the peak of a step: those that torch allocates, and those of the process.

    `beside` is what the process has before the step that is no tensor of it. A tiny step comes
    first, so that the optimizer has its state as in all later ones.
    """
    torch.manual_seed(0)
    model = prepared(cell)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, fused=True)

    def step(batch: dict[str, Tensor]) -> None:
        with autocast(torch.device("cpu"), cell.dtype):
            loss = model(**batch).loss
        loss.backward()
        del loss
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    step(inputs(model, 2, 8))
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # gives back what is free, in which the step would else live
    batch = inputs(model, cell.batch, cell.length)
    before = held([*model.parameters(), *model.buffers(), *batch.values(), *state(optimizer)])
    beside = process_bytes("VmRSS") - before
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    allocated = before + highest(lambda: step(batch))
    return {"allocated": allocated, "process": process_bytes("VmHWM"), "beside": beside}


def prepared(cell: Cell) -> Any:
    """The model with random weights, as a training of lorakit prepares it."""
    model = built(cell.model)
    heads = {id(module) for module in head_modules(model)}
    method = METHODS[cell.method]
    names = [name for name, module in model.named_children() if id(module) in heads]
    method.apply(model, method.default_config(), names)
    compute_in(model, cell.dtype)
    if cell.checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model.train()


def inputs(model: Any, rows: int, length: int) -> dict[str, Tensor]:
    """Random tokens, the first row a token shorter; a label for each token, or for each row."""
    ids = torch.randint(model.config.vocab_size, (rows, length))
    mask = torch.ones_like(ids)
    mask[0, -1] = 0
    labels = ids.clone() if hasattr(model, "lm_head") else torch.zeros(rows, dtype=torch.int64)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def state(optimizer: torch.optim.Optimizer) -> Iterable[Tensor]:
    for values in optimizer.state.values():
        yield from (value for value in values.values() if isinstance(value, Tensor))


def process_bytes(name: str) -> int:
    """Of this process, by Linux's name."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(value) * 1024
