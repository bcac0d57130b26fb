"""GLUE's average, over the tasks and metrics of microsoft/LoRA's README."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from lorakit.errors import ConfigError

AVERAGED = ("mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb")
"""The README's rows; WNLI is none of them."""
_HEADLINES = {"cola": "matthews_correlation", "stsb": "pearson"}


def glue_headline(task: str, metrics: Mapping[str, float]) -> tuple[str, float]:
    """The metric of a task that the README shows, and its value.

    Matthews' correlation for CoLA, Pearson's r for STS-B, else accuracy; for MNLI the mean of
    matched and mismatched, where both are given.

    >>> glue_headline("mnli", {"accuracy": 0.5, "mismatched_accuracy": 0.75})
    ('accuracy', 0.625)
    """
    name = glue_metric(task)
    both = [metrics[key] for key in (name, f"mismatched_{name}") if key in metrics]
    if not both:
        raise ConfigError(
            f"The results of {task} lack the metric {name}; they have "
            f"{', '.join(metrics) or 'none'}."
        )
    return name, fmean(both)


def glue_metric(task: str) -> str:
    """The name of that metric."""
    return _HEADLINES.get(task, "accuracy")


def glue_average(metrics: Mapping[str, Mapping[str, float]]) -> float:
    """The mean of the eight tasks' headlines, in the unit they are given in.

    Raises ConfigError that lists the tasks which are missing.
    Source: the table in https://github.com/microsoft/LoRA/blob/main/README.md.
    """
    if missing := [task for task in AVERAGED if task not in metrics]:
        raise ConfigError(
            "GLUE's average needs the results of eight tasks:", [f"{t} is missing" for t in missing]
        )
    return fmean(glue_headline(task, metrics[task])[1] for task in AVERAGED)
