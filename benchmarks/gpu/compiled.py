"""Training steps with torch.compile: over the compiled floor, over the eager step, and the wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from statistics import median

from torch import nn

from benchmarks.compilation import compiled_step
from benchmarks.gpu import shapes, steps
from benchmarks.inputs import Model
from benchmarks.registry import Row, Settings
from benchmarks.rounds import over
from benchmarks.training_step import step
from lorakit.timing import Times, interleave

SECONDS = 2.5
CONDITIONS = {
    "models, adapter, full": "as for the training steps, dropout 0",
    "floor": "the model frozen but for a bias of its first q and v: a hook would cut the graph",
    "torch.compile": "of the whole model with its defaults, the same shapes in every step",
    "compiling, s": "the first call of the compiled step, with what inductor's cache already has",
    "over the compiled floor": "within a round, as all ratios; the floor's row is the floor over "
    "itself",
    "seconds for each candidate, about": SECONDS,
}

Make = Callable[[], nn.Module]


def check(settings: Settings) -> None:
    steps.require_peft()


def rows(settings: Settings) -> Iterator[Row]:
    """A row when its candidate is compiled and timed: compiling is slow, and may be cut off."""
    count = shapes.tokens(settings)[0]
    for model in reversed(shapes.models(settings)[-1:] if settings.quick else shapes.MODELS):
        base, ids = shapes.build(settings, model), shapes.batch(settings, model, count)
        floors = {"floor": step(shapes.biased_floor(base, model), ids)}
        for (name, targets), make in candidates(settings, base, model).items():
            translated, seconds = compiled_step(make(), ids, backend(settings))
            floors.setdefault("compiled floor", translated)  # the first candidate
            runs = {**floors, "eager": step(make(), ids), "compiled": translated}
            times = interleave(runs, settings.device, 0.2 if settings.quick else SECONDS, least=3)
            cell: Row = {"model": model.name, "tokens": count, "targets": targets}
            yield {**cell, "candidate": name, "compiling, s": seconds, **ratios(times)}
            del translated, runs
            shapes.free_memory(settings.device)
        del base, floors


def backend(settings: Settings) -> str:
    """In small without a compiler of C++, which takes a minute for each candidate."""
    return "aot_eager" if settings.quick else "inductor"


def candidates(settings: Settings, base: nn.Module, model: Model) -> dict[tuple[str, str], Make]:
    """How each is made, by its name and targets, the floor first; then in order of worth."""

    def adapted(library: str, targets: tuple[str, ...]) -> Make:
        return lambda: steps.adapt(library, base, targets, 0.0)

    found: dict[tuple[str, str], Make] = {("floor", ""): lambda: shapes.biased_floor(base, model)}
    for label, targets in reversed(model.targets.items()):
        for library in reversed(steps.LIBRARIES):
            found[library, label] = adapted(library, targets)
        found.setdefault(("full", ""), lambda: deepcopy(base).requires_grad_())
    return dict(list(found.items())[:3]) if settings.quick else found


def ratios(times: Times) -> Row:
    return {
        "over the compiled floor": over(times, "compiled", "compiled floor"),
        "over its eager step": over(times, "compiled", "eager"),
        "eager, over the floor": over(times, "eager", "floor"),
        "compiled, ms": median(times["compiled"]) * 1e3,
    }
