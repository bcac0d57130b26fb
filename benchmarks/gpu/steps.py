"""Forward and backward of adapted transformers in bfloat16, over the same model frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import product
from statistics import median

from torch import nn

from benchmarks import peers, training_step
from benchmarks.gpu import shapes
from benchmarks.inputs import Model
from benchmarks.registry import Row, Settings, Unavailable
from benchmarks.rounds import over
from lorakit.timing import Times, interleave

SECONDS = 8.0
LIBRARIES = ("peft", "lorakit")
CONDITIONS = {
    "models": "random bfloat16 weights, no dropout of their own, no head and no loss",
    "adapter": f"r {peers.RANK}, alpha {peers.ALPHA}; A and B are float32, the default of both",
    "tokens": f"of a step, in rows of {shapes.LENGTH} without padding",
    "step": "forward and backward; no optimizer",
    "floor": "the model frozen, its first q and v outputs needing a gradient",
    "floor again": "the floor as a candidate of its own: what differs from 1 there is noise",
    "full": "every parameter trains",
    "seconds for each model and number of tokens, about": SECONDS,
}


def check(settings: Settings) -> None:
    """On small models PEFT and lorakit agree in output and every gradient."""
    require_peft()
    training_step.check(settings)


def require_peft() -> None:
    """For parts that take their candidates from here, and leave the comparison to this one."""
    if "peft" not in peers.INSTALLED:
        raise Unavailable("peft is not installed")


def rows(settings: Settings) -> Iterator[Row]:
    """All cells of one model and number of tokens share their rounds, and so their floor."""
    models = shapes.models(settings)
    bases = {model.name: shapes.build(settings, model) for model in models}
    for count, model in product(shapes.tokens(settings), models):
        steps = candidates(settings, model, bases[model.name], count)
        times = interleave(steps, settings.device, 0.3 if settings.quick else SECONDS, least=3)
        for targets, dropout in product(model.targets, shapes.DROPOUTS):
            row: Row = {"model": model.name, "tokens": count, "targets": targets}
            yield {**row, "dropout": dropout, **ratios(times, targets, dropout)}
        del steps
        shapes.free_memory(settings.device)


def candidates(
    settings: Settings, model: Model, base: nn.Module, count: int
) -> dict[str, Callable[[], object]]:
    floor = shapes.floor(base, model)
    steps = {"floor": floor, "floor again": floor, "full": deepcopy(base).requires_grad_()}
    for (label, targets), dropout in product(model.targets.items(), shapes.DROPOUTS):
        for library in LIBRARIES:
            steps[named(library, label, dropout)] = adapt(library, base, targets, dropout)
    ids = shapes.batch(settings, model, count)
    return {name: training_step.step(candidate, ids) for name, candidate in steps.items()}


def adapt(library: str, base: nn.Module, targets: tuple[str, ...], dropout: float) -> nn.Module:
    """The base's weights, which are frozen by this, with adapters."""
    adapter = peers.Adapter(targets, dropout=dropout)
    model = peers.INSTALLED[library](shapes.share(base), adapter).model
    peers.set_factors(model, seed=0)
    return model


def named(library: str, targets: str, dropout: float) -> str:
    return f"{library}, {targets}, dropout {dropout:g}"


def ratios(times: Times, targets: str, dropout: float) -> Row:
    names = {library: named(library, targets, dropout) for library in reversed(LIBRARIES)}
    names |= {name: name for name in ("full", "floor again")}
    row: Row = {column: over(times, name, "floor") for column, name in names.items()}
    row["peft / lorakit"] = over(times, names["peft"], names["lorakit"])
    return {**row, "floor, ms": median(times["floor"]) * 1e3, "rounds": len(times["floor"])}
