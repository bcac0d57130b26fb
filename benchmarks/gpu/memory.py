"""Peak memory of a whole training step with AdamW, beside PEFT and full fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor, nn

from benchmarks.gpu import shapes, steps
from benchmarks.inputs import Model
from benchmarks.registry import Row, Settings, Unavailable

CONDITIONS = {
    "models, adapter, tokens": "as for the training steps",
    "peak": "torch.accelerator.max_memory_allocated in MiB during one step, after two others: "
    "weights, forward, backward, AdamW (foreach)",
    "base": "the weights alone, in MiB",
    "floor": "forward and backward of the frozen model, without an optimizer",
    "full": "every parameter trains, with AdamW's moments in bfloat16",
}


def check(settings: Settings) -> None:
    if settings.device == "cpu":
        raise Unavailable("torch counts the memory of accelerators only")
    steps.require_peft()


def rows(settings: Settings) -> Iterator[Row]:
    for count, model in product(shapes.tokens(settings), shapes.models(settings)):
        shapes.free_memory(settings.device)
        yield from cells(settings, model, count)


def cells(settings: Settings, model: Model, count: int) -> Iterator[Row]:
    """One model at a time is adapted; full fine-tuning comes last, since it moves the weights."""
    base, ids = shapes.build(settings, model), shapes.batch(settings, model, count)
    found: list[Row] = []
    weights = torch.accelerator.memory_allocated()
    for (label, targets), dropout in product(model.targets.items(), shapes.DROPOUTS):
        row: Row = {"model": model.name, "tokens": count, "targets": label, "dropout": dropout}
        for library in reversed(steps.LIBRARIES):
            adapted = steps.adapt(library, base, targets, dropout)
            row[library] = peak(settings, adapted, ids)
            del adapted
        found.append(row)
    common: Row = {"floor": peak(settings, shapes.floor(base, model), ids)}
    common["base"] = weights / 2**20
    common["full"] = peak(settings, base.requires_grad_(), ids)
    for row in found:
        ratio = float(row["peft"]) / float(row["lorakit"])
        yield {**row, **common, "peft / lorakit": ratio}


def peak(settings: Settings, model: nn.Module, ids: Tensor) -> float:
    """MiB, without what is left of the model before."""
    shapes.free_memory(settings.device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained) if trained else None
    for turn in range(3):
        if turn == 2:
            torch.accelerator.reset_peak_memory_stats()
        hidden = model(input_ids=ids).last_hidden_state
        hidden.backward(torch.ones_like(hidden))
        del hidden
        if optimizer:
            optimizer.step()
            optimizer.zero_grad()
    return torch.accelerator.max_memory_allocated() / 2**20
