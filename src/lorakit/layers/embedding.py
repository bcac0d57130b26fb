"""nn.Embedding with a low-rank update; loralib's `Embedding`."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lorakit.functional import embedding
from lorakit.functional.initialise import embedding_factors
from lorakit.functional.linear import add_scaled
from lorakit.layers.base import LoraLayer
from lorakit.layers.spec import AdapterSpec


class Embedding(LoraLayer, nn.Embedding):
    """y = W[id] + scaling * A[:, id]^T B^T, with W frozen where r > 0.

    Shapes: W (num_embeddings, dim), A (r, num_embeddings), B (dim, r). A starts at zero and B at
    N(0, 1). `max_norm` shortens the rows in the result and never writes to W or A; with
    `sparse=True` only a trainable W (r = 0) gets a sparse gradient. Dropout, which loralib does not
    have, drops the update of whole tokens.

    Raises ConfigError for a negative rank or a dropout outside [0, 1).
    Source: loralib's Embedding, https://github.com/microsoft/LoRA/blob/c4593f0/loralib/layers.py.

    >>> Embedding(1000, 64, r=4).lora_A.shape
    torch.Size([4, 1000])
    """

    torch_class = nn.Embedding

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        r: int = 0,
        lora_alpha: float = 1,
        merge_weights: bool = True,
        *,
        lora_dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        spec = AdapterSpec(r, lora_alpha, lora_dropout, merge_weights)
        nn.Embedding.__init__(self, num_embeddings, embedding_dim, **kwargs)
        self.attach(spec)
        if r:
            self.to(self.weight.dtype)

    def reset_parameters(self) -> None:
        """Draw the weight, A and B anew."""
        nn.Embedding.reset_parameters(self)
        if "lora_A" in self._parameters:
            self.reset_lora_parameters()

    @property
    def base_weight(self) -> Tensor:
        return self.weight

    @property
    def max_rank(self) -> int:
        return min(self.num_embeddings, self.embedding_dim)

    def initial_factors(self) -> tuple[Tensor, Tensor]:
        return embedding_factors(self.weight.detach(), self.r, self.spec.init_lora_weights)

    def delta_weight(self) -> Tensor:
        return embedding.delta(self.lora_A, self.lora_B, self.scaling)

    def base_or_merged_weight(self) -> Tensor | None:
        """As for every layer, but rows that are shortened one by one cannot be merged before."""
        return (
            None if self.active and self.max_norm is not None else super().base_or_merged_weight()
        )

    def forward(self, input: Tensor) -> Tensor:
        if self.r == 0:
            return nn.Embedding.forward(self, input)
        weight = self.base_or_merged_weight()
        if weight is not None:
            return self._rows(input, weight)
        update = embedding.low_rank(
            input,
            self.lora_A,
            self.lora_B,
            self.padding_idx,
            self.scale_grad_by_freq,
            self.dropout_now,
        )
        y = self._rows(input, self.weight)
        return add_scaled(y, update.to(y.dtype), self.scaling)

    def _rows(self, ids: Tensor, weight: Tensor) -> Tensor:
        rows = F.embedding(
            ids,
            weight,
            self.padding_idx,
            scale_grad_by_freq=self.scale_grad_by_freq,
            sparse=self.sparse,
        )
        if self.max_norm is None:
            return rows
        return embedding.shorten(rows, self.max_norm, self.norm_type)
