"""nn.MultiheadAttention with a low-rank update of its fused in_proj_weight.

The module stores q, k and v as one parameter (3E, E) and passes it to a function, so there is no
child layer to adapt: reading `in_proj_weight` returns W + scaling * B A instead, differentiable in
A and B, and the parameter of that name stays W. So does its `out_proj` (`merged_on_read`).
"""

from __future__ import annotations

from torch import Tensor, nn

from lorakit.layers.base import AdapterLayer
from lorakit.variants import InProjSite


class MultiheadAttention(AdapterLayer, nn.MultiheadAttention):
    """Attention whose in_proj_weight reads as W + scaling * B A.

    Shapes: W (3E, E), A (r, E), B (3E, r), as PEFT has them. Made by `lorakit.inject` alone; only
    for equal widths of query, key and value, and without dropout, which would need the input.
    """

    torch_class = nn.MultiheadAttention
    weight_name = "in_proj_weight"
    without_weight = (
        "is an nn.MultiheadAttention whose kdim or vdim differs from embed_dim, so it has no "
        "in_proj_weight"
    )
    forward = nn.MultiheadAttention.forward  # type: ignore[assignment]

    @property  # type: ignore[override]
    def in_proj_weight(self) -> Tensor:
        return self.effective_weight()

    @in_proj_weight.setter
    def in_proj_weight(self, value: Tensor) -> None:
        self.__dict__["in_proj_weight"] = value  # of a replica of DataParallel

    @classmethod
    def site_of(cls, module: nn.Module) -> InProjSite:
        weight = module._parameters["in_proj_weight"]
        assert weight is not None
        return InProjSite(weight.shape[1], weight.shape[0])
