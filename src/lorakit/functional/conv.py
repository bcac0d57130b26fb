"""LoRA on a convolution.

A convolution's weight W (O, I/G, *kernel) is a linear map from K * I/G inputs to O outputs in each
of its G groups, so a rank-R update is a convolution to R channels with the layer's own kernel,
stride, padding, dilation and groups, followed by a 1x1 convolution:

    y = conv(x, W) + s * conv_1x1(conv(drop(x), A), B)
    dW[o] = s * sum over r of B[o, r] A[r]      within o's group

Shapes: A (R, I/G, *kernel), B (O, R/G, 1, ...); R is a multiple of G.

loralib instead multiplies matrices, A (R*k, I*k) and B (O/G*k, R*k), and reads the product's
numbers in W's order: dW = s * (B A).view(W.shape). That fits only where k * k is the number of
kernel positions, and its rank is up to R * k * k. Two-dimensional A and B mean this form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lorakit.functional import linear


def fits_square_form(kernel_size: Sequence[int]) -> bool:
    """Whether loralib's matrix form exists: equal sides and k * k positions (2-d, or k = 1)."""
    k = kernel_size[0]
    return len(set(kernel_size)) == 1 and math.prod(kernel_size) == k * k


def delta(a: Tensor, b: Tensor, s: float, weight_shape: torch.Size, groups: int) -> Tensor:
    """dW in the weight's shape, for either form of A and B."""
    if a.ndim == 2:
        return linear.delta(a, b, s).reshape(weight_shape)
    a_GRK = a.reshape(groups, a.shape[0] // groups, -1)
    b_GOR = b.reshape(groups, b.shape[0] // groups, -1)
    return linear.delta(a_GRK, b_GOR, s).reshape(weight_shape)


def square_as_kernel_form(a: Tensor, b: Tensor, weight_shape: torch.Size) -> tuple[Tensor, Tensor]:
    """loralib's matrices as a kernel-form pair of rank R * k * k with the same dW (G = 1).

    Row o of W, read as k pieces of length I * k, is [B[ok] A, ..., B[ok + k - 1] A]: one row of k
    blocks of B times A on a block diagonal.
    """
    out_channels, k = weight_shape[0], weight_shape[-1]
    a_wide = torch.block_diag(*[a] * k)
    rank = a_wide.shape[0]
    ones = [1] * (len(weight_shape) - 2)
    return a_wide.reshape(rank, *weight_shape[1:]), b.reshape(out_channels, rank, *ones)


def kernel_as_square_form(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """A kernel-form pair as loralib's matrices of rank R * k with the same dW (G = 1).

    Row o of W is k pieces of length I * k, and each is B[o] times the same piece of A: so A is cut
    into these pieces, and B stands k times on a block diagonal.
    """
    k = a.shape[-1]
    a_RkIk = a.reshape(a.shape[0] * k, -1)
    return a_RkIk, torch.kron(b.flatten(1), torch.eye(k, dtype=b.dtype, device=b.device))


def spread_groups(a: Tensor, groups: int) -> Tensor:
    """A (R, I/G, *kernel) as A (R, I, *kernel) for a convolution without groups: zero blocks."""
    blocks = a.chunk(groups)
    width = a.shape[1]
    wide = a.new_zeros(a.shape[0], width * groups, *a.shape[2:])
    height = a.shape[0] // groups
    for g, block in enumerate(blocks):
        wide[g * height : (g + 1) * height, g * width : (g + 1) * width] = block
    return wide


def gather_groups(wide: Tensor, groups: int) -> Tensor | None:
    """The inverse of `spread_groups`; None if there are numbers outside the blocks."""
    height, width = wide.shape[0] // groups, wide.shape[1] // groups
    blocks = [
        wide[g * height : (g + 1) * height, g * width : (g + 1) * width] for g in range(groups)
    ]
    a = torch.cat(blocks)
    return a if torch.equal(spread_groups(a, groups), wide) else None
