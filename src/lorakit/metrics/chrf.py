"""chrF++ (Popović, W17-4770) as WebNLG/GenerationEval gives it, computed by sacrebleu.

The F-score with beta 2, averaged over n-grams of 1 to 6 characters and 1 to 2 words, whose counts
are summed over all texts; of several references the best one counts.
Source: https://github.com/WebNLG/GenerationEval, `metrics/chrF.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from lorakit.metrics.bleu import streams
from lorakit.metrics.optional import imported


def chrf_plus_plus(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """0 to 1; blank references do not count.

    >>> chrf_plus_plus(["a pub by the river"], [["a pub by the river", "a pub"]])
    1.0
    """
    kept = [[text if text.strip() else None for text in group] for group in references]
    chrf = imported("sacrebleu.metrics").CHRF(word_order=2, eps_smoothing=True)
    return float(chrf.corpus_score(predictions, streams(kept)).score) / 100
