"""BLEU (Papineni et al., P02-1040) as three scorers give it, computed by sacrebleu.

    BLEU = min(1, exp(1 - r/c)) · (p1 p2 p3 p4)^(1/4)

c is the length of all texts, r of the references that are closest to them in length (the shorter of
two), p the share of n-grams that are in a reference; nothing is smoothed. The scorers differ in
tokens, in case and in what a blank reference is.
"""

from __future__ import annotations

from collections.abc import Sequence

from lorakit.metrics.optional import imported


def mteval_bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """0 to 1, as mteval-v13a and its Python port in tuetschek/e2e-metrics: no case, 13a tokens.

    Blank references do not count.

    >>> round(mteval_bleu(["The Mill is a pub."], [["the mill is a pub .", ""]]), 9)
    1.0
    """
    kept = [[text if text.strip() else None for text in group] for group in references]
    return _bleu(predictions, kept, tokenize="13a", lowercase=True) / 100


def multi_bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """0 to 100, as Moses' `multi-bleu.perl -lc`: no case, tokens stand between spaces.

    A blank reference is one of length 0, so it takes part in the choice of r.
    """
    return _bleu(predictions, _with_empty(references), tokenize="none", lowercase=True)


def multi_bleu_detok(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """0 to 100, as Moses' `multi-bleu-detok.perl` in WebNLG/GenerationEval: with case, 13a tokens.

    A blank reference is one of length 0.
    """
    return _bleu(predictions, _with_empty(references), tokenize="13a", lowercase=False)


def _with_empty(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    # sacrebleu leaves out what is "", and counts no tokens in " ".
    return [[text if text.strip() else " " for text in group] for group in references]


def _bleu(
    predictions: Sequence[str],
    references: Sequence[Sequence[str | None]],
    tokenize: str,
    lowercase: bool,
) -> float:
    bleu = imported("sacrebleu.metrics").BLEU(
        lowercase=lowercase, tokenize=tokenize, smooth_method="none", force=True
    )
    return float(bleu.corpus_score(predictions, streams(references)).score)


def streams(references: Sequence[Sequence[str | None]]) -> list[list[str | None]]:
    """One list for the first references, one for the second, ...; None where there is none.

    >>> streams([["a", "b"], ["c"]])
    [['a', 'c'], ['b', None]]
    """
    longest = max(map(len, references))
    padded = [[*group, *[None] * (longest - len(group))] for group in references]
    return [list(stream) for stream in zip(*padded, strict=True)]
