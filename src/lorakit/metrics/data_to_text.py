"""The scores of generated texts, as each corpus' official scripts give them.

| task | metrics | as |
| --- | --- | --- |
| e2e | BLEU, NIST, METEOR, ROUGE-L, CIDEr | tuetschek/e2e-metrics |
| webnlg, dart | BLEU, METEOR, TER, chrF++ of prepared texts | WebNLG 2017's scripts |
| data_to_text | BLEU, METEOR, TER, chrF++ of texts as they are | WebNLG/GenerationEval |

Prepared: in lower case, with spaces around everything that is no letter, digit or underscore.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from lorakit.errors import ConfigError, suggest
from lorakit.metrics import caption, ptb
from lorakit.metrics.bleu import mteval_bleu, multi_bleu, multi_bleu_detok
from lorakit.metrics.chrf import chrf_plus_plus
from lorakit.metrics.java import missing_java
from lorakit.metrics.meteor import Meteor
from lorakit.metrics.nist import nist, nist_mteval
from lorakit.metrics.optional import package_directory
from lorakit.metrics.ter import ter
from lorakit.text import plural

Texts = Sequence[str]
References = Sequence[Sequence[str]]
Metric = Callable[[Texts, References], float]
Meter = Callable[[Texts, References], caption.Segmented]

VIEWS = ("all", "unseen", "seen", "six")
"""What metrics are of: all texts, parts of them, and all with six references at most."""
_TRANSLATED = ("bleu", "meteor", "ter", "chrf++")
_NAMES = {"e2e": ("bleu", "nist", "nist_mteval", "meteor", "rouge_l", "cider")}
"""Of each task's metrics, where they are not those above."""
_SIX = ("webnlg", "dart")  # decoded with --ref_num 6 there


def score(
    task: str,
    predictions: Texts,
    references: References,
    seen: Sequence[bool | None] | None = None,
) -> dict[str, float]:
    """The task's metrics, for one text and a group of references for each input.

    With `seen`, also for the inputs whose category is in the training set (`bleu_seen`), and for
    the others (`bleu_unseen`). For triples with more than six references to an input, also with
    the first six of each (`bleu_six`), which is all that microsoft/LoRA's scripts pass on. Without
    Java METEOR is left out: `missing_java` says what to do.
    Raises ConfigError for an unknown task and texts that do not match their references.
    """
    check_task(task)
    check(predictions, references, seen)
    with _meteor() as meteor:
        return {
            name + suffix: value
            for suffix, (texts, groups) in _views(task, predictions, references, seen).items()
            for name, value in SUITES[task](texts, groups, meteor).items()
        }


def names_of(task: str) -> tuple[str, ...]:
    """All metrics that a corpus may have, those of views too.

    >>> names_of("dart")[:5]
    ('bleu', 'meteor', 'ter', 'chrf++', 'bleu_unseen')
    """
    names = _NAMES.get(task, _TRANSLATED)
    return (*names, *(f"{name}_{view}" for view in VIEWS[1:] for name in names))


def check_task(task: str) -> None:
    """Raise ConfigError unless the task has metrics, MissingDependencyError without packages."""
    if task not in SUITES:
        raise ConfigError(
            f"There are no metrics for the task {task!r}{suggest(task, SUITES)}; the tasks are "
            f"{', '.join(SUITES)}."
        )
    for package in ("pycocoevalcap", "rapidfuzz", "sacrebleu"):
        package_directory(package)


def check(
    predictions: Texts, references: References, seen: Sequence[bool | None] | None = None
) -> None:
    """Raise ConfigError unless every text has a reference that is not blank."""
    problems, wanted = [], plural(len(references), "text")
    if len(predictions) != len(references):
        problems.append(f"{plural(len(predictions), 'text')}, but references for {wanted}")
    if seen is not None and len(seen) != len(references):
        problems.append(f"{plural(len(seen), 'value')} of 'seen', but references for {wanted}")
    if not references:
        problems.append("there are no references")
    blank = [
        str(row)
        for row, group in enumerate(references, start=1)
        if not any(text.strip() for text in group)
    ]
    if blank:
        more = ", ..." if len(blank) > 10 else ""
        problems.append(
            f"no reference for {plural(len(blank), 'text')}: {', '.join(blank[:10])}{more}"
        )
    if problems:
        raise ConfigError("These texts cannot be scored:", problems)


def columns(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The metrics by what they are of, in the order of `VIEWS`.

    >>> columns({"bleu": 0.6593, "bleu_seen": 0.7})
    {'all': {'bleu': 0.6593}, 'seen': {'bleu': 0.7}}
    """
    found: dict[str, dict[str, float]] = {view: {} for view in VIEWS}
    for name, value in metrics.items():
        metric, _, view = name.rpartition("_")
        view, metric = (view, metric) if view in VIEWS and metric else ("all", name)
        found[view][metric] = value
    return {view: of for view, of in found.items() if of}


def lines(metrics: Mapping[str, float]) -> list[str]:
    """A table of metrics for people: a row a metric, and a column for each of what they are of.

    >>> lines({"bleu": 0.6593, "bleu_seen": 0.7})
    ['metric      all    seen', 'bleu     0.6593  0.7000']
    """
    table = columns(metrics)
    names = list(table["all"])
    width = max(map(len, [*names, "metric"]))
    head = "".join(f"{view:>8}" for view in table)
    rows = [
        f"{name:{width}} " + "".join(f"{values[name]:>8.4f}" for values in table.values())
        for name in names
    ]
    return [f"{'metric':{width}} {head}", *rows]


def prepared(text: str) -> str:
    r"""In lower case, with spaces around every `\W`; the same for a text that is prepared already.

    >>> prepared("Madrid-Barajas' runway is 4,349.")
    "madrid - barajas ' runway is 4 , 349 ."
    """
    return " ".join(" ".join(re.split(r"(\W)", text.lower())).split())


def _views(
    task: str, predictions: Texts, references: References, seen: Sequence[bool | None] | None
) -> dict[str, tuple[list[str], list[Sequence[str]]]]:
    """Texts and references to score, by the suffix of their metrics; none is empty."""

    def of(rows: Iterable[int]) -> tuple[list[str], list[Sequence[str]]]:
        chosen = list(rows)
        return [predictions[row] for row in chosen], [references[row] for row in chosen]

    everything = range(len(predictions))
    views = {"": of(everything)}
    if seen is not None:
        views["_seen"] = of(row for row in everything if seen[row])
        views["_unseen"] = of(row for row in everything if seen[row] is False)
    kept = [[text for text in group if text.strip()] for group in references]
    if task in _SIX and max(map(len, kept)) > 6:
        views["_six"] = list(predictions), [group[:6] for group in kept]
    return {suffix: view for suffix, view in views.items() if view[0]}


def _e2e(predictions: Texts, references: References, meteor: Meter | None) -> dict[str, float]:
    flat = [text for group in references for text in group if text.strip()]
    tokens = iter(ptb.tokenized([*predictions, *flat]))
    texts = [next(tokens) for _ in predictions]
    groups = [[next(tokens) for text in group if text.strip()] for group in references]
    return {
        "bleu": mteval_bleu(predictions, references),
        "nist": nist(predictions, references),
        "nist_mteval": nist_mteval(predictions, references),
        **({"meteor": meteor(texts, groups).score} if meteor else {}),
        "rouge_l": caption.rouge_l(texts, groups).score,
        "cider": caption.cider(texts, groups).score,
    }


def _prepared(predictions: Texts, references: References, meteor: Meter | None) -> dict[str, float]:
    texts = [prepared(text) for text in predictions]
    groups = [[prepared(text) for text in group] for group in references]
    return _translated(multi_bleu, texts, groups, meteor)


def _as_is(predictions: Texts, references: References, meteor: Meter | None) -> dict[str, float]:
    return _translated(multi_bleu_detok, predictions, references, meteor)


def _translated(
    bleu: Metric, predictions: Texts, references: References, meteor: Meter | None
) -> dict[str, float]:
    return {
        "bleu": bleu(predictions, references),
        **({"meteor": meteor(predictions, references).score} if meteor else {}),
        "ter": ter(predictions, references),
        "chrf++": chrf_plus_plus(predictions, references),
    }


SUITES: dict[str, Callable[[Texts, References, Meter | None], dict[str, float]]] = {
    "e2e": _e2e,
    "webnlg": _prepared,
    "dart": _prepared,
    "data_to_text": _as_is,
}


@contextmanager
def _meteor() -> Iterator[Meter | None]:
    """METEOR's program for all groups, or None without Java."""
    if missing_java():
        yield None
    else:
        with Meteor() as meteor:
            yield meteor
