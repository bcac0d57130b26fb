"""The singular values of an update, and what follows from them alone.

    error of rank k    e_k = ||dW - dW_k|| / ||dW||, e_k^2 = sum over i > k of sigma_i^2 / ||dW||^2
    effective rank     exp(-sum p_i log p_i), p_i = sigma_i / sum of sigma
    stable rank        ||dW||^2 / sigma_1^2

||.|| is Frobenius' norm. dW_k, the k largest singular values with their directions, is the nearest
matrix of rank k.

Sources: Eckart and Young, Psychometrika 1936; Roy and Vetterli, "The effective rank", EUSIPCO 2007;
Rudelson and Vershynin, arXiv math/0503442, section 1, for the stable rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ERRORS = (0.1, 0.05, 0.01)
"""The errors that the least sufficient rank is given for."""


@dataclass(frozen=True)
class Spectrum:
    """Singular values and what they say; everything of an update of zero is zero."""

    norm: float
    """||dW||_F."""
    effective_rank: float
    """exp of the entropy of the singular values, each over their sum."""
    stable_rank: float
    """||dW||_F^2 over the largest singular value squared."""
    sufficient_ranks: dict[float, int]
    """The least rank whose error is at most each of `ERRORS`."""
    singular_values: tuple[float, ...]
    """The largest first."""
    truncation_errors: tuple[float, ...]
    """e_k of each rank k, from 0 to the whole."""

    def error_at(self, rank: int) -> float:
        """e_k, which is 0 from the whole rank on."""
        return self.truncation_errors[min(rank, len(self.truncation_errors) - 1)]


def spectrum_of(values_K: Tensor) -> Spectrum:
    """The spectrum of singular values in descending order.

    >>> found = spectrum_of(torch.tensor([4.0, 3.0, 0.0]))
    >>> found.norm, found.truncation_errors, found.sufficient_ranks
    (5.0, (1.0, 0.6, 0.0, 0.0), {0.1: 2, 0.05: 2, 0.01: 2})
    """
    squares = values_K.double().square()
    tails = torch.cat([squares.flip(0).cumsum(0).flip(0), squares.new_zeros(1)])
    whole = float(tails[0])
    errors = (tails / whole).sqrt().tolist() if whole else [0.0] * len(tails)
    return Spectrum(
        norm=whole**0.5,
        effective_rank=_effective_rank(values_K.double()),
        stable_rank=whole / float(squares[0]) if whole else 0.0,
        sufficient_ranks={most: sufficient_rank(errors, most) for most in ERRORS},
        singular_values=tuple(values_K.tolist()),
        truncation_errors=tuple(errors),
    )


def sufficient_rank(errors: Sequence[float], most: float) -> int:
    """The least rank whose error, by rank from 0, is at most `most`.

    >>> sufficient_rank([1.0, 0.3, 0.1, 0.0], most=0.1)
    2
    """
    return next(rank for rank, error in enumerate(errors) if error <= most)


def _effective_rank(values_K: Tensor) -> float:
    whole = values_K.sum()
    if not whole:
        return 0.0
    return float(torch.special.entr(values_K / whole).sum().exp())
