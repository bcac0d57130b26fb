"""ROUGE-L and CIDEr as tuetschek/e2e-metrics gives them, computed by pycocoevalcap.

Both read texts as Penn Treebank tokens without case and punctuation (`ptb`).

    ROUGE-L = (1 + b²) P R / (R + b² P), b = 1.2        P, R: longest common subsequence over the
                                                        length of the text, of the reference; the
                                                        best of each (Lin, W04-1013)
    CIDEr   = 10 · mean cosine of the TF-IDF vectors of 1- to 4-grams, clipped, with a Gaussian
              penalty on lengths, averaged over the references (CIDEr-D; Vedantam et al.,
              arXiv 1411.5726)

A document of IDF is the set of one text's references, so with one text alone CIDEr is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorakit.metrics.optional import imported


@dataclass(frozen=True)
class Segmented:
    """A metric of all texts and of each."""

    score: float
    segments: list[float]


def rouge_l(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Segmented:
    """0 to 1, of tokens with spaces between them."""
    return _computed(imported("pycocoevalcap.rouge.rouge").Rouge(), predictions, references)


def cider(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Segmented:
    """0 to 10, of tokens with spaces between them; 0 if no reference has a token."""
    if not any(reference.strip() for group in references for reference in group):
        return Segmented(0.0, [0.0] * len(predictions))
    return _computed(imported("pycocoevalcap.cider.cider").Cider(), predictions, references)


def _computed(
    scorer: object, predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> Segmented:
    truth = {row: list(group) for row, group in enumerate(references)}
    texts = {row: [text] for row, text in enumerate(predictions)}
    score, segments = scorer.compute_score(truth, texts)  # type: ignore[attr-defined]
    return Segmented(float(score), [float(value) for value in segments])
