"""No number of a merged checkpoint is NaN, and no sum leaves the range of its type."""

from __future__ import annotations

import torch
from torch import Tensor

from lorakit.errors import FormatError, MismatchError
from lorakit.functional.finite import has_nan, is_finite

COMPUTED = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""The types that weights are added in, and rounded to."""


def require_finite_base(rows: Tensor, name: str, strictly: bool) -> None:
    """Raise FormatError for rows of the base with NaN, and `strictly` also for infinite ones.

    Buffers may hold an infinity on purpose, as masks do.
    """
    if not is_finite(rows) if strictly else has_nan(rows):
        what = "NaN or infinite" if strictly else "NaN"
        raise FormatError(f"{name} of the base checkpoint contains {what} values.")


def require_finite_sum(rows: Tensor, name: str) -> None:
    """Raise MismatchError for a sum that is infinite in the type of the base."""
    if not is_finite(rows):
        kind = str(rows.dtype).removeprefix("torch.")
        raise MismatchError(
            f"{name} has merged values that {kind} cannot hold; merge into a base in float32 or "
            "bfloat16, or with a smaller weight."
        )
