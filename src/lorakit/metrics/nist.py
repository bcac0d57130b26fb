"""NIST (Doddington 2002) as the two tools of tuetschek/e2e-metrics give it.

    NIST    = penalty · sum over n = 1..5 of  (information of the n-grams in common) / (n-grams)
    info(w) = log2( count(w without its last word) / count(w) )      counted in all references
    penalty = exp( ln(0.5) · (ln(min(1, c/r)) / ln(1.5))² )          0.5 where c is two thirds of r

Tokens are mteval's (13a), without case. c is the length of all texts. The tools differ in r, the
length of all references on average: mteval-v13a divides by the number of references of the whole
set, its Python port (`measure_scores.py -p`) by that of each text. nltk's `corpus_nist` takes the
best reference of each text alone, and gives neither number.
Source: https://github.com/tuetschek/e2e-metrics, the formulas of `metrics/pymteval.py`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from lorakit.metrics.optional import imported

_LONGEST = 5

Tokens = Sequence[str]
Ngrams = Counter[tuple[str, ...]]


def nist(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """As `measure_scores.py -p`, which microsoft/LoRA calls; blank references do not count."""
    texts, groups = _tokenized(predictions, references)
    length = sum(sum(map(len, group)) / len(group) for group in groups)
    return _nist(texts, groups, length)


def nist_mteval(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """As mteval-v13a in e2e-metrics; blank references do not count."""
    texts, groups = _tokenized(predictions, references)
    lengths = [len(reference) for group in groups for reference in group]
    return _nist(texts, groups, len(groups) * sum(lengths) / len(lengths))


def _tokenized(
    predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[list[Tokens], list[list[Tokens]]]:
    tokenize = imported("sacrebleu.tokenizers.tokenizer_13a").Tokenizer13a()

    def tokens(text: str) -> Tokens:
        split: list[str] = tokenize(text).lower().split()
        return split

    groups = [[tokens(text) for text in group if text.strip()] for group in references]
    return [tokens(text) for text in predictions], groups


def _nist(texts: Sequence[Tokens], groups: Sequence[Sequence[Tokens]], length: float) -> float:
    seen = _counted(reference for group in groups for reference in group)
    total = 0.0
    for n in range(1, _LONGEST + 1):
        count, information = 0, 0.0
        for text, group in zip(texts, groups, strict=True):
            there: Ngrams = Counter()
            for reference in group:
                there |= _ngrams(reference, n)
            own = _ngrams(text, n)
            count += own.total()
            common = (own & there).items()
            information += sum(k * math.log2(seen[w[:-1]] / seen[w]) for w, k in common)
        total += information / count if count else 0.0
    return total * _penalty(sum(map(len, texts)) / length)


def _counted(references: Iterable[Tokens]) -> Ngrams:
    """How often each n-gram stands in the references; the empty one once a word."""
    counts: Ngrams = Counter()
    for reference in references:
        counts[()] += len(reference)
        for n in range(1, _LONGEST + 1):
            counts.update(_ngrams(reference, n))
    return counts


def _ngrams(tokens: Tokens, n: int) -> Ngrams:
    return Counter(zip(*(tokens[start:] for start in range(n)), strict=False))


def _penalty(ratio: float) -> float:
    if ratio <= 0:
        return 0.0
    return math.pow(0.5, (math.log(min(1.0, ratio)) / math.log(1.5)) ** 2)
