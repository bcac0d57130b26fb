"""The settings of an adapted layer, as attributes under loralib's names."""

from __future__ import annotations

from dataclasses import replace

from lorakit.config import alpha_for
from lorakit.layers.merged_weight import MergedWeight
from lorakit.variants import AdapterSpec


class AdapterSettings(MergedWeight):
    """The part of an adapted layer that shows its spec, and lets what may change be set."""

    @property
    def r(self) -> int:
        """The rank. Read-only, since it is the shape of A and B; see `lorakit.inject`."""
        return self.spec.r

    @property
    def lora_alpha(self) -> float:
        """Numerator of the scaling; setting it updates `scaling`."""
        return self.spec.lora_alpha

    @lora_alpha.setter
    def lora_alpha(self, value: float) -> None:
        self.spec = replace(self.spec, lora_alpha=value)
        self.scaling = self.spec.scaling

    @property
    def scaled_spec(self) -> AdapterSpec:
        """`spec`, with the `lora_alpha` that gives a `scaling` that was set by itself.

        Raises ConfigError for a scaling that is not finite.
        """
        if not self.r or self.scaling == self.spec.scaling:
            return self.spec
        alpha = alpha_for(self.scaling, self.r, self.spec.use_rslora)
        return replace(self.spec, lora_alpha=alpha)

    @property
    def lora_dropout(self) -> float:
        """Probability with which an input of A is zeroed in training."""
        return self.spec.lora_dropout

    @lora_dropout.setter
    def lora_dropout(self, value: float) -> None:
        self.spec = replace(self.spec, lora_dropout=value)

    @property
    def merge_weights(self) -> bool:
        """Whether the merged weight may be cached in eval mode."""
        return self.spec.merge_weights

    @merge_weights.setter
    def merge_weights(self, value: bool) -> None:
        self.spec = replace(self.spec, merge_weights=value)
        if not value:
            self.drop_cache()
