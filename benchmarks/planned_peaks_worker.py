"""A real training step of a cell of `planned_peaks`, measured in the process that it has alone.

Nothing of `lorakit.planner` is imported: what it predicts is measured by other means.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
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

    `beside` is what the process has before the step that is no tensor of it.
    """
    training = Training(cell)
    batch = training.inputs(cell.batch, cell.length)
    before = held([*training.tensors(), *batch.values()])
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # gives back what is free, in which the step would else live
    beside = process_bytes("VmRSS") - before
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    allocated = before + highest(lambda: training.step(batch))
    return {"allocated": allocated, "process": process_bytes("VmHWM"), "beside": beside}


class Training:
    """A model with random weights, prepared as lorakit's training does, after one tiny step.

    So the optimizer has its state, as in all later ones.
    """

    def __init__(self, cell: Cell, device: str = "cpu") -> None:
        torch.manual_seed(0)
        self.device, self.dtype = torch.device(device), cell.dtype
        with self.device:
            self.model = prepared(cell)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, fused=True)
        self.step(self.inputs(2, 8))

    def step(self, batch: dict[str, Tensor]) -> None:
        with autocast(self.device, self.dtype):
            loss = self.model(**batch).loss
        loss.backward()
        del loss
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def inputs(self, rows: int, length: int) -> dict[str, Tensor]:
        """Random tokens, the first row a token shorter; a label for each token, or each row."""
        ids = torch.randint(self.model.config.vocab_size, (rows, length), device=self.device)
        mask = torch.ones_like(ids)
        mask[0, -1] = 0
        each_token = hasattr(self.model, "lm_head")
        labels = ids.clone() if each_token else torch.zeros_like(ids[:, 0])
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    def tensors(self) -> Iterator[Tensor]:
        """All that lives from step to step."""
        yield from (*self.model.parameters(), *self.model.buffers())
        for values in self.optimizer.state.values():
            yield from (value for value in values.values() if isinstance(value, Tensor))


def prepared(cell: Cell) -> Any:
    model = built(cell.model)
    heads = {id(module) for module in head_modules(model)}
    method = METHODS[cell.method]
    names = [name for name, module in model.named_children() if id(module) in heads]
    method.apply(model, method.default_config(), names)
    compute_in(model, cell.dtype)
    if cell.checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model.train()


def process_bytes(name: str) -> int:
    """Of this process, by Linux's name."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(value) * 1024
