"""nn.Linear and GPT-2's Conv1D with DoRA: LoRA turns each row of W, `lora_magnitude_vector` is how
long it is. The mathematics is `functional.dora`'s.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.functional import dora, linear
from lorakit.layers.linear import Linear, MergedOnReadLinear
from lorakit.layers.spec import AdapterSpec


class DoraLinear(Linear):
    """y = x W'^T + b with the rows of W' along those of W + scaling * B A, as long as m says.

    Shapes as in `Linear`; m, the `lora_magnitude_vector`, is (out,). It starts as the row norms of
    W + scaling * B A, so the output starts as W's own. Dropout is on the low-rank branch alone.
    Made by `lorakit.inject` with `LoraConfig(use_dora=True)`.

    Source: DoRA, arXiv 2402.09353, equation 5; the norm is a constant in backward (section 4.3).
    """

    tensor_names = ("lora_A", "lora_B", "lora_magnitude_vector")
    lora_magnitude_vector: nn.Parameter

    def attach(self, spec: AdapterSpec, factors: tuple[Tensor, ...] | None = None) -> None:
        super().attach(replace(spec, use_dora=True), factors)

    def initial_tensors(self) -> tuple[Tensor, ...]:
        a, b = self.initial_factors()
        return a, b, self._row_norms(a, b)

    def _row_norms(self, a: Tensor, b: Tensor) -> Tensor:
        return dora.row_norms(self.base_weight, a, b, self.scaling, self.fan_in_fan_out)

    def delta_weight(self) -> Tensor:
        a, b, m = self.adapter_tensors()
        return dora.delta(self.base_weight, a, b, m, self.scaling, self.fan_in_fan_out)

    def expose(self) -> None:
        self.__class__ = MergedOnReadDoraLinear

    def forward(self, input: Tensor) -> Tensor:
        weight = self.base_or_merged_weight()
        if weight is not None:
            return linear.project(input, weight, self.bias, self.fan_in_fan_out)
        return dora.dora_linear(
            input,
            self.base_weight,
            self.bias,
            self.lora_A,
            self.lora_B,
            self.lora_magnitude_vector,
            self.scaling,
            self.dropout_now,
            self.fan_in_fan_out,
        )

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """A base that is loaded without an m gives its row norms to an m that is still W's own."""
        keeps = f"{prefix}lora_magnitude_vector" in state_dict or not self._is_at_its_start()
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if not keeps:
            with torch.no_grad():
                norms = self._row_norms(self.lora_A, self.lora_B)
                self.lora_magnitude_vector.copy_(norms)

    def _is_at_its_start(self) -> bool:
        """Whether m is the row norms of W + scaling * B A; what to_empty leaves may be NaN."""
        if self.r == 0 or self.base_weight.is_meta or self.lora_magnitude_vector.is_meta:
            return False
        norms = self._row_norms(self.lora_A, self.lora_B).to(self.lora_magnitude_vector.dtype)
        return torch.allclose(self.lora_magnitude_vector, norms, equal_nan=True)


class MergedOnReadDoraLinear(DoraLinear, MergedOnReadLinear):
    """The same with a `weight` that reads as W'; the parameter of that name stays W."""
