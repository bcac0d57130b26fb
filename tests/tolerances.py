"""How far apart two correct results may be, per dtype: `assert_close(x, y, **TOLERANCES[dtype])`.

Two correct programs that add the same n products in another order differ by about sqrt(n) roundings
of the dtype, eps each: 2.2e-16, 1.2e-7, 9.8e-4 and 7.8e-3. `rtol` stands for that where the result
is as large as its terms, `atol` where terms of size one cancel.
"""

from __future__ import annotations

import torch

TOLERANCES: dict[torch.dtype, dict[str, float]] = {
    # A wrong formula is wrong here by many orders of magnitude: the dtype for comparing maths.
    torch.float64: {"rtol": 1e-10, "atol": 1e-12},
    # Sums of up to some thousand terms: 32 roundings.
    torch.float32: {"rtol": 4e-6, "atol": 1e-5},
    # The last rounding of the result, and one that a fused path does not do.
    torch.float16: {"rtol": 2e-3, "atol": 2e-3},
    torch.bfloat16: {"rtol": 1.6e-2, "atol": 1.6e-2},
}

TF32: dict[str, float] = {"rtol": 4e-3, "atol": 4e-3}
"""float32 numbers, multiplied after all but 10 bits of both were cut off: four times 2^-10."""

MODEL: dict[str, float] = {"rtol": 1e-5, "atol": 1e-5}
"""Outputs of a whole float32 network: each layer carries on the differences of those before it."""

EXACT: dict[str, float] = {"rtol": 0.0, "atol": 0.0}
"""The same operations on the same numbers: base weights, files read back, a disabled adapter."""
