"""nn.MultiheadAttention with a low-rank update of its fused in_proj_weight.

The module holds q, k and v as one parameter (3E, E) and hands it to a function, so there is no
child to adapt: reading `in_proj_weight` gives W + scaling * B A instead, with its gradient, and the
parameter of that name stays W. Its `out_proj` is an `MergedOnReadLinear`.
"""

from __future__ import annotations

from torch import Tensor, nn

from lorakit.functional import linear
from lorakit.functional.initialise import INITIALISERS
from lorakit.layers.base import LoraLayer


class MultiheadAttention(LoraLayer, nn.MultiheadAttention):
    """Attention whose in_proj_weight reads as W + scaling * B A.

    Shapes: W (3E, E), A (r, E), B (3E, r), as PEFT has them. Made by `lorakit.inject` alone; only
    for equal widths of query, key and value, and without dropout, since the input passes by.
    """

    torch_class = nn.MultiheadAttention

    @property
    def in_proj_weight(self) -> Tensor:  # type: ignore[override]
        return self.effective_weight()

    @property
    def base_weight(self) -> Tensor:
        weight = self._parameters["in_proj_weight"]
        assert weight is not None
        return weight

    @property
    def max_rank(self) -> int:
        return int(self.embed_dim)

    def initial_factors(self) -> tuple[Tensor, Tensor]:
        return INITIALISERS[self.spec.init_lora_weights](self.base_weight.detach(), self.r)

    def delta_weight(self) -> Tensor:
        return linear.delta(self.lora_A, self.lora_B, self.scaling)
