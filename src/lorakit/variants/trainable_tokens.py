"""Trainable tokens: some rows of W, an embedding or the head tied to it, have values of their own.

`trainable_tokens_delta` is (N, D): not a difference, but what stands in these rows; PEFT's name. It
starts as the rows themselves. There is no scale. The mathematics is `functional.token_rows`'.

Source: PEFT's TrainableTokensLayer,
https://github.com/huggingface/peft/blob/v0.21.2/src/peft/tuners/trainable_tokens/layer.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from lorakit.functional import token_rows
from lorakit.functional.initialise import adapter_dtype
from lorakit.functional.merge import rounding_loss
from lorakit.functional.token_rows import Rows
from lorakit.variants.base import Host, Tensors, Variant
from lorakit.variants.site import Pair, RowsSite, Shape, Site, Sited
from lorakit.variants.spec import AdapterSpec

VALUES = "trainable_tokens_delta"


class TrainableTokens(Variant):
    """Values of their own for the rows that the site names."""

    name = "trainable_tokens"
    title = "trainable tokens"
    tensor_names = (VALUES,)
    needs_weight = True
    is_worth_merging = False

    def refusal(self, site: Site) -> str | None:
        if isinstance(site, RowsSite):
            return None
        return f"{site.description}, and no rows are named; set trainable_token_indices"

    def shapes(self, site: Site, r: int) -> dict[str, Shape]:
        return {VALUES: (r, site.in_features)}

    def initial(self, site: Site, weight: Tensor, spec: AdapterSpec) -> dict[str, Tensor]:
        return self.derived(site, weight, {}, spec.scaling)

    def derived(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> dict[str, Tensor]:
        start = weight[token_rows.index(_rows(site), weight.device)]
        return {VALUES: start.to(adapter_dtype(weight.dtype))}

    def delta(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> Tensor:
        return token_rows.delta(weight, _rows(site), tensors[VALUES])

    def block(
        self, site: Site, tensors: Tensors, start: int, stop: int
    ) -> tuple[Site, dict[str, Tensor]] | None:
        held = [n for n, row in enumerate(_rows(site)) if start <= row < stop]
        rows = tuple(_rows(site)[n] - start for n in held)
        there = RowsSite(site.in_features, stop - start, rows=rows)
        return there, {VALUES: tensors[VALUES][held]}

    def factors(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> Iterator[Pair]:
        offsets_ND = token_rows.offset(weight, _rows(site), tensors[VALUES])
        places = token_rows.index(_rows(site), weight.device)
        one_hot_NV = offsets_ND.new_zeros(len(places), weight.shape[0])
        yield offsets_ND, one_hot_NV.scatter_(1, places.unsqueeze(1), 1.0).t()

    def merged(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> Tensor:
        return token_rows.replace(weight, _rows(site), tensors[VALUES])

    def rounding_loss(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> float:
        places = token_rows.index(_rows(site), weight.device)
        return rounding_loss(
            weight[places], token_rows.offset(weight, _rows(site), tensors[VALUES])
        )

    def forward(self, host: Host, x: Tensor, tensors: Tensors, s: float, dropout: float) -> Tensor:
        return host.with_rows(x, _rows(host.site), tensors[VALUES])


def rows_spec(rows: Rows, merge_weights: bool = True) -> AdapterSpec:
    """The settings of an adapter of these rows; their number stands for the rank."""
    count, name = len(rows), TrainableTokens.name
    return AdapterSpec(count, lora_alpha=count, merge_weights=merge_weights, variant=name)


def rows_of(adapters: Mapping[str, Sited]) -> dict[str, Rows]:
    """The rows of each adapter that is one of rows, by name."""
    sites = {name: adapter.site for name, adapter in adapters.items()}
    return {name: site.rows for name, site in sites.items() if isinstance(site, RowsSite)}


def _rows(site: Site) -> Rows:
    assert isinstance(site, RowsSite)
    return site.rows
