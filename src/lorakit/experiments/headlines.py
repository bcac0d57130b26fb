"""Which metrics of a task stand in a table, and how they are written there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from lorakit.errors import suggest
from lorakit.metrics.data_to_text import VIEWS
from lorakit.metrics.glue import glue_headline
from lorakit.tasks.glue.benchmark import GLUE
from lorakit.tasks.registry import task_spec

_LOSS = "loss"
"""What every run is measured by."""
_FIRST = (
    "overall_f1",
    "accuracy",
    "f1_micro",
    "matthews_correlation",
    "pearson",
    "bleu",
    "perplexity",
)
"""The first of these that a task has is its headline, where the table below has none."""
_HEADLINES = {
    "e2e": ("bleu", "nist", "meteor", "rouge_l", "cider"),
    "webnlg": ("bleu_unseen", "bleu_seen", "bleu"),
    "dart": ("bleu", "meteor", "ter"),
    "data_to_text": ("bleu", "meteor", "ter", "chrf++"),
}
"""As the tables of the paper and of microsoft/LoRA's README have them."""
_PER_CENT = ("webnlg", "dart", "data_to_text")
"""The tasks whose BLEU is from 0 to 100, as Moses' scripts print it."""
_VIEWS = {"unseen": "U", "seen": "S", "six": "six references"}


@dataclass(frozen=True)
class ShownMetric:
    """How a metric is written."""

    title: str
    scale: float = 100.0
    """What a value is multiplied by."""
    decimals: int = 1
    lower_is_better: bool = False

    def text(self, value: float) -> str:
        """The value as a table has it."""
        return f"{value * self.scale:.{self.decimals}f}"

    def with_spread(self, value: float, spread: float | None, plus_minus: str = "±") -> str:
        """The value with its spread behind it, if there is one."""
        behind = "" if spread is None else f" {plus_minus} {self.text(spread)}"
        return self.text(value) + behind


_SHOWN = {
    "accuracy": ShownMetric("accuracy"),
    "mismatched_accuracy": ShownMetric("accuracy, mismatched"),
    "glue": ShownMetric("GLUE"),
    "f1": ShownMetric("F1"),
    "overall_f1": ShownMetric("F1"),
    "f1_binary": ShownMetric("F1"),
    "f1_micro": ShownMetric("micro F1"),
    "f1_macro": ShownMetric("macro F1"),
    "overall_precision": ShownMetric("precision"),
    "overall_recall": ShownMetric("recall"),
    "token_accuracy": ShownMetric("accuracy of tokens"),
    "matthews_correlation": ShownMetric("Matthews corr."),
    "pearson": ShownMetric("Pearson r"),
    "spearman": ShownMetric("Spearman r"),
    "bleu": ShownMetric("BLEU"),
    "nist": ShownMetric("NIST", 1, 2),
    "nist_mteval": ShownMetric("NIST by mteval", 1, 2),
    "meteor": ShownMetric("METEOR"),
    "rouge_l": ShownMetric("ROUGE-L"),
    "cider": ShownMetric("CIDEr", 1, 2),
    "ter": ShownMetric("TER", lower_is_better=True),
    "chrf++": ShownMetric("chrF++"),
    "perplexity": ShownMetric("perplexity", 1, 2, lower_is_better=True),
    "loss": ShownMetric("loss", 1, 3, lower_is_better=True),
    "mse": ShownMetric("mean squared error", 1, 3, lower_is_better=True),
}
_OF_TYPES = {"f1": "F1", "precision": "precision", "recall": "recall"}
"""Of the entities of one type, whose name stands behind."""


def shown_metric(name: str) -> ShownMetric:
    """How it is written; one that no table knows, by its name and as it is.

    >>> shown_metric("accuracy").text(0.8571), shown_metric("bleu_unseen").title
    ('85.7', 'BLEU U')
    """
    metric, _, view = name.rpartition("_")
    if view in VIEWS and metric in _SHOWN:
        of = _SHOWN[metric]
        return ShownMetric(
            f"{of.title} {_VIEWS.get(view, view)}", of.scale, of.decimals, of.lower_is_better
        )
    kind, _, of_type = name.partition("_")
    if kind in _OF_TYPES and name not in _SHOWN:
        return ShownMetric(f"{_OF_TYPES[kind]} {of_type}")
    return _SHOWN.get(name, ShownMetric(name, 1, 3))


def metric_problem(task: str, metric: str) -> str | None:
    """Why a run of the task has no such metric; None if it has, or if that is not known."""
    known = task_spec(task).metrics
    if not known or metric == _LOSS or any(fnmatchcase(metric, name) for name in known):
        return None
    return f"{metric!r}{suggest(metric, known)}; the task {task} has {', '.join((*known, _LOSS))}"


def headlines(
    task: str, metrics: Mapping[str, float], wanted: tuple[str, ...] = ()
) -> dict[str, float]:
    """The metrics of a result that a table shows: those wanted, or the task's, if it has them.

    BLEU is a share of 1, also where a corpus' own script gives it in per cent.
    """
    if task in GLUE and not wanted:
        return dict([glue_headline(task, metrics)])
    names = (
        wanted
        or _HEADLINES.get(task)
        or (next((n for n in _FIRST if n in metrics), next(iter(metrics))),)
    )
    return {
        name: metrics[name] / (100 if task in _PER_CENT and name.startswith("bleu") else 1)
        for name in names
        if name in metrics
    }
