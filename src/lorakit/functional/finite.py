"""Whether values are finite: one pass over them, and no copy.

NaN in x  <=>  min(x), max(x) are NaN;    x finite  <=>  both are finite
"""

from __future__ import annotations

import math

from torch import Tensor


def is_finite(x: Tensor) -> bool:
    """Whether no value is NaN or infinite; of integers, and of floats of 8 bits, none is looked at.

    >>> import torch
    >>> is_finite(torch.tensor([0.0, float("inf")]))
    False
    """
    return all(map(math.isfinite, _extremes(x)))


def has_nan(x: Tensor) -> bool:
    """Whether a value is NaN; infinities may be meant, as in masks.

    >>> import torch
    >>> has_nan(torch.tensor([0.0, float("inf")]))
    False
    """
    return any(map(math.isnan, _extremes(x)))


def _extremes(x: Tensor) -> tuple[float, ...]:
    """The smallest and the largest; nothing where there are none, or none is computed with."""
    if not x.is_floating_point() or x.element_size() == 1 or x.is_meta or not x.numel():
        return ()
    return tuple(extreme.item() for extreme in x.detach().aminmax())
