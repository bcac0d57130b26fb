"""Where the tokens of a batch and its virtual tokens lie in the longer sequence.

    B rows, N tokens, V = prefix + infix virtual tokens, T = V + N places

    p p x x x i i y y        places of a row of N = 5 tokens, whose prompt x ends at 3
    0 1       5 6            virtual_BV
        2 3 4     7 8        tokens_BN
        2 3 6     7 8        outputs_BN of a causal model

The prefix stands behind padding on the left, as near to the text as where there is none. A causal
model predicts the first token of a completion where the prompt ends, so the output of the prompt's
last token is then that of the infix's last.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """The places of one batch."""

    prefix: int
    infix: int
    starts_B: Tensor
    """The first token of each row that is no padding."""
    ends_B: Tensor
    """Where each row's prompt ends: the number of tokens before the infix."""
    tokens_BN: Tensor
    virtual_BV: Tensor
    outputs_BN: Tensor

    @property
    def length(self) -> int:
        """The number of places, T."""
        return self.tokens_BN.shape[1] + self.virtual_BV.shape[1]

    @property
    def first_B1(self) -> Tensor:
        """The token behind the prefix."""
        return self.starts_B.clamp(max=self.tokens_BN.shape[1] - 1)[:, None]

    @property
    def last_B1(self) -> Tensor:
        """The token before the infix."""
        return (self.ends_B - 1).clamp(min=0)[:, None]

    def spread(self, tokens: Tensor, virtual: Tensor) -> Tensor:
        """(B, N, ...) and (B, V, ...) as one (B, T, ...), in the dtype of the first."""
        values = torch.cat([virtual.to(tokens.dtype), tokens], 1)
        places = torch.cat([self.virtual_BV, self.tokens_BN], 1)
        return torch.empty_like(values).scatter(1, _as_wide(places, values), values)

    def replace(self, values: Tensor, virtual: Tensor) -> Tensor:
        """(B, T, ...) with (B, V, ...) at the virtual tokens."""
        return values.scatter(1, _as_wide(self.virtual_BV, values), virtual.to(values.dtype))

    def outputs(self, values: Tensor) -> Tensor:
        """Of (B, T, ...) the output of each token, (B, N, ...)."""
        return values.gather(1, _as_wide(self.outputs_BN, values))

    def positions(self, positions_BN: Tensor) -> Tensor:
        """The position ids (B, T), which go on through the virtual tokens."""
        first_B1 = positions_BN.gather(1, self.first_B1)
        last_B1 = positions_BN.gather(1, self.last_B1)
        empty_B1 = (self.ends_B <= self.starts_B)[:, None]
        next_B1 = torch.where(empty_B1, first_B1, last_B1 + 1) + self.prefix
        count = torch.arange(self.prefix + self.infix, device=positions_BN.device)
        virtual_BV = torch.cat([first_B1 + count[: self.prefix], next_B1 + count[: self.infix]], 1)
        columns_N = torch.arange(positions_BN.shape[1], device=positions_BN.device)
        return self.spread(positions_BN + self.tokens_BN - columns_N, virtual_BV)

    def types(self, types_BN: Tensor) -> Tensor:
        """The token types (B, T): a virtual token has that of the token next to it."""
        first_BP = self.first_B1.expand(-1, self.prefix)
        last_BI = self.last_B1.expand(-1, self.infix)
        return self.spread(types_BN, types_BN.gather(1, torch.cat([first_BP, last_BI], 1)))


def layout(
    prefix: int, infix: int, starts_B: Tensor, ends_B: Tensor, length: int, causal: bool
) -> Layout:
    """The places of rows of `length` tokens."""
    count = torch.arange(length, device=ends_B.device)
    starts_B1, ends_B1 = starts_B[:, None], ends_B[:, None]
    tokens = count + prefix * (count >= starts_B1) + infix * (count >= ends_B1)
    first = starts_B1 + torch.arange(prefix, device=ends_B.device)
    between = ends_B1 + prefix + torch.arange(infix, device=ends_B.device)
    begins = causal & (count == ends_B1 - 1)
    return Layout(
        prefix,
        infix,
        starts_B,
        ends_B,
        tokens_BN=tokens,
        virtual_BV=torch.cat([first, between], 1),
        outputs_BN=torch.where(begins, ends_B1 + prefix + infix - 1, tokens),
    )


def real_tokens(mask_BN: Tensor) -> tuple[Tensor, Tensor]:
    """(B,), (B,): where the tokens of the mask begin, and where they end.

    Padding may be on either side; of a row that is nothing else both are at its end.
    """
    real = mask_BN != 0
    length = mask_BN.shape[1]
    starts = real.int().argmax(1)
    ends = length - real.flip(1).int().argmax(1)
    return torch.where(real.any(1), starts, length), torch.where(real.any(1), ends, length)


def _as_wide(places: Tensor, values: Tensor) -> Tensor:
    """Indices of two dimensions as `scatter` and `gather` take them for the values."""
    if values.ndim == 2:
        return places
    return places[..., None].expand(-1, -1, values.shape[-1])
