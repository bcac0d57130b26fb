"""MRPC on MiniLM with LoRA, anew and from an adapter that was trained on rows of QNLI, by seed."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.glue_runs import (
    QNLI_STEPS,
    SEEDS,
    directory_and_seeds,
    require_data,
    settings_of,
    standard_error,
    train,
    train_source,
)
from benchmarks.registry import Row, Settings

CONDITIONS = {
    "seeds": SEEDS,
    "recipe": "recipes/glue-minilm.yaml, 1 epoch",
    "source": f"a LoRA run of seed 0, {QNLI_STEPS} steps of 32 on rows of QNLI's dev set",
    "head": "new in both: QNLI's labels are other ones",
}


def check(settings: Settings) -> None:
    """The data is there."""
    require_data()


def rows(settings: Settings) -> Iterator[Row]:
    """Accuracy on MRPC's dev set without and with `init_adapter`; the lead is taken by seed."""
    with directory_and_seeds(settings) as (directory, seeds):
        source = train_source(settings.quick, directory)
        starts = {"anew": [], "from QNLI": [f"init_adapter={source}"]}
        scores: dict[str, list[float]] = {start: [] for start in starts}
        for seed in seeds:
            given = [*settings_of("mrpc", seed, settings.quick, directory), "training.epochs=1"]
            for number, (start, more) in enumerate(starts.items()):
                result = train([*given, *more], directory / f"{seed}-{number}")
                scores[start].append(result["metrics"]["accuracy"])
    for start, found in scores.items():
        leads = [a - b for a, b in zip(found, scores["anew"], strict=True)]
        yield {
            "start": start,
            "mean accuracy": statistics.fmean(found),
            "by seed": " ".join(f"{score:.4f}" for score in found),
            "ahead by": statistics.fmean(leads),
            "standard error": standard_error(leads),
        }
