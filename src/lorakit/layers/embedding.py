"""nn.Embedding with a low-rank update; loralib's `Embedding`."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lorakit.functional import embedding
from lorakit.functional.token_rows import Rows, look_up
from lorakit.layers.base import AdapterLayer
from lorakit.variants import AdapterSpec, EmbeddingSite


class Embedding(AdapterLayer, nn.Embedding):
    """y = W[id] + scaling * A[:, id]^T B^T, with W frozen where r > 0.

    Shapes: W (num_embeddings, dim), A (r, num_embeddings), B (dim, r). A starts at zero and B at
    N(0, 1). `max_norm` rescales the rows of the output and never writes to W or A; with
    `sparse=True` only a trainable W (r = 0) gets a sparse gradient. `lora_dropout`, which loralib
    does not have, is the probability of dropping the update of a token.

    `num_embeddings`, `embedding_dim` (dim) and `kwargs` are nn.Embedding's; `r=0` is a plain,
    trainable one. `scaling` is `lora_alpha / r`, and `merge_weights` as for `Linear`.

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
        """Reinitialise the weight, A and B."""
        nn.Embedding.reset_parameters(self)
        self.reset_lora_parameters()

    @classmethod
    def site_of(cls, module: nn.Module) -> EmbeddingSite:
        weight = module._parameters["weight"]
        assert weight is not None
        return EmbeddingSite(weight.shape[0], weight.shape[1])

    def base_or_merged_weight(self) -> Tensor | None:
        """As for every layer, but never a merged weight with `max_norm`, which rescales W first."""
        if self.active and self.max_norm is not None:
            return None
        return super().base_or_merged_weight()

    def plain(self, input: Tensor, weight: Tensor) -> Tensor:
        if self.r == 0:
            return nn.Embedding.forward(self, input)
        rows = F.embedding(
            input,
            weight,
            self.padding_idx,
            scale_grad_by_freq=self.scale_grad_by_freq,
            sparse=self.sparse,
        )
        if self.max_norm is None:
            return rows
        return embedding.renorm(rows, self.max_norm, self.norm_type)

    def low_rank(self, input: Tensor, a: Tensor, b: Tensor, dropout: float) -> Tensor:
        frequencies = self.scale_grad_by_freq
        return embedding.low_rank(input, a, b, self.padding_idx, frequencies, dropout)

    def with_rows(self, input: Tensor, rows: Rows, values: Tensor) -> Tensor:
        if self.max_norm is not None:
            values = embedding.renorm(values, self.max_norm, self.norm_type)
        y = self.plain(input, self.base_weight)
        return look_up(input, y, rows, values, self.padding_idx, self.scale_grad_by_freq)
