"""Training steps through torch.compile, over the same model frozen and compiled."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

from torch import nn

from benchmarks import inputs, peers
from benchmarks import training_step as steps
from benchmarks.compilation import compiled_step
from benchmarks.registry import Row, Settings
from benchmarks.rounds import over
from lorakit.timing import Times, interleave

SECONDS = 240.0
LIBRARIES = ("lorakit", "peft")
CONDITIONS = {
    "tokens": "512, in rows of 128 without padding",
    "base": "bfloat16, random weights; A and B are float32",
    "adapter, step, floor, full": "those of training_step",
    "torch.compile": "the whole model with its defaults; every step has the same shape",
    "compiling, s": "the first compiled step, with what inductor's cache on the machine has",
    "seconds of timing, about": SECONDS,
}


def check(settings: Settings) -> None:
    steps.check(settings)


def rows(settings: Settings) -> Iterator[Row]:
    model = inputs.SMALL[-1] if settings.quick else inputs.COMPILED
    base, ids = steps.base_and_batch(settings, model, "bfloat16")
    runs, seconds = {}, {}
    for name, candidate in candidates(settings, base, model).items():
        runs[name] = steps.step(deepcopy(candidate), ids)
        backend = "aot_eager" if settings.quick else "inductor"  # in small without its minutes
        runs[f"{name}, compiled"], seconds[name] = compiled_step(candidate, ids, backend)
    times = interleave(runs, settings.device, 0.5 if settings.quick else SECONDS, least=3)
    for name, taken in seconds.items():
        yield {"model": model.name, "candidate": name, "compiling, s": taken, **ratios(times, name)}


def candidates(settings: Settings, base: nn.Module, model: inputs.Model) -> dict[str, nn.Module]:
    found = {"floor": steps.frozen(base, steps.first(base, model.query_value)), "full": base}
    for label, targets in model.targets.items():
        for library in filter(peers.INSTALLED.__contains__, LIBRARIES):
            found[f"{library}, {label}"] = steps.adapt(library, base, targets, settings.seed)
    return found


def ratios(times: Times, name: str) -> Row:
    """Of the compiled step: over the compiled floor, its own eager step and lorakit's."""
    compiled, label = f"{name}, compiled", name.partition(", ")[2]
    lorakit = f"lorakit, {label or 'all linear'}"
    return {
        "over the compiled floor": over(times, compiled, "floor, compiled"),
        "over its eager step": over(times, compiled, name),
        "over lorakit's eager step": over(times, compiled, lorakit),
        "rounds": len(times[compiled]),
    }
