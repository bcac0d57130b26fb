"""DoRA: the rows of W' have the directions of those of W + s * B A, and the norms m.

`lora_magnitude_vector` is m (O,). It starts as the row norms of W + s * B A, so the output starts
as W's own. Dropout is on the low-rank branch alone. The mathematics is `functional.dora`'s.

Source: DoRA, arXiv 2402.09353, equation 5; the norm is a constant in backward (section 4.3).
"""

from __future__ import annotations

from torch import Tensor

from lorakit.functional import dora
from lorakit.variants.base import Host, Tensors, Variant
from lorakit.variants.site import LinearSite, Shape, Site

MAGNITUDE = "lora_magnitude_vector"


class DoRA(Variant):
    """LoRA for the direction of each row of W, a trainable vector for its norm."""

    name = "dora"
    title = "DoRA"
    tensor_names = ("lora_A", "lora_B", MAGNITUDE)
    needs_weight = True
    scales_rows = True
    takes_dropout = True

    def refusal(self, site: Site) -> str | None:
        if site.slices is not None:
            return (
                "is adapted in slices, which use_dora does not support; list it in target_modules "
                "to adapt the whole weight"
            )
        if type(site) is not LinearSite:
            return f"{site.description}; use_dora only supports nn.Linear and GPT-2's Conv1D"
        return None

    def shapes(self, site: Site, r: int) -> dict[str, Shape]:
        a, b = site.factor_shapes(r)
        return {"lora_A": a, "lora_B": b, MAGNITUDE: (site.out_features,)}

    def derived(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> dict[str, Tensor]:
        a, b = tensors["lora_A"], tensors["lora_B"]
        return {MAGNITUDE: dora.row_norms(weight, a, b, s, _is_transposed(site))}

    def delta(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> Tensor:
        a, b, m = (tensors[name] for name in self.tensor_names)
        return dora.delta(weight, a, b, m, s, _is_transposed(site))

    def row_offset(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> Tensor:
        a, b, m = (tensors[name] for name in self.tensor_names)
        return dora.magnitude_offset(weight, a, b, m, s, _is_transposed(site))

    def block(
        self, site: Site, tensors: Tensors, start: int, stop: int
    ) -> tuple[Site, dict[str, Tensor]] | None:
        """Of a weight stored (out, in), whose rows are those with a norm."""
        a, b, m = (tensors[name] for name in self.tensor_names)
        found = None if _is_transposed(site) else site.block(a, b, start, stop)
        if found is None:
            return None
        there, (a, b) = found
        return there, {"lora_A": a, "lora_B": b, MAGNITUDE: m[start:stop]}

    def forward(self, host: Host, x: Tensor, tensors: Tensors, s: float, dropout: float) -> Tensor:
        u = host.adapted(x, tensors["lora_A"], tensors["lora_B"], s, dropout)
        d = self.row_offset(host.site, host.base_weight, tensors, s)
        return dora.apply_magnitude(u, host.base_bias, d)


def _is_transposed(site: Site) -> bool:
    assert isinstance(site, LinearSite)
    return site.transposed
