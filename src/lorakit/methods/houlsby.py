"""Houlsby's adapters: one after the attention, one after the MLP (arXiv 1902.00751)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from lorakit.errors import require
from lorakit.layers.bottleneck import AdaptedOutput
from lorakit.methods.additive import Additive
from lorakit.methods.blocks import Block
from lorakit.methods.bottleneck import BottleneckConfig, adapter_at, blocks
from lorakit.methods.layouts import layout_of
from lorakit.methods.sublayers import sublayer
from lorakit.surgery.additions import Addition


@dataclass(frozen=True)
class HoulsbyConfig(BottleneckConfig):
    """Houlsby's adapters."""

    activation: str = "swish"
    """The nonlinearity in an adapter: relu, gelu, gelu_new, silu (or swish) or tanh."""
    attention_output: str | None = None
    """The module of a layer whose output is added to the residual stream after the attention.
    None: that of a known layout."""
    mlp_output: str | None = None
    """The same after the MLP. None: that of a known layout."""

    def __post_init__(self) -> None:
        super().__post_init__()
        both, name = (self.attention_output, self.mlp_output), self.mlp_output
        require(
            {
                "attention_output and mlp_output are one module, "
                f"{name!r}; it can have one adapter": name is None or len(set(both)) == 2
            }
        )


class Houlsby(Additive[HoulsbyConfig]):
    """Every sublayer's output h becomes h + W_up f(W_down h + b_down) + b_up.

    h is what the attention or the MLP adds to the residual stream, after its dropout and before the
    sum; 2 L (2 d r + r + d) parameters for L layers of width d and a bottleneck of r. Norms stay
    frozen, as in the LoRA paper's repository, which also has the swish.
    """

    name = "houlsby"
    title = "adapters (Houlsby)"
    config_type = HoulsbyConfig

    def additions(self, model: nn.Module, config: HoulsbyConfig) -> Sequence[Addition]:
        return [
            adapter_at(sublayer(model, block, setting, name), config, AdaptedOutput)
            for block in blocks(model, config)
            for setting, name in _outputs(block, config).items()
        ]


def _outputs(block: Block, config: HoulsbyConfig) -> dict[str, str | None]:
    """The names of what the two sublayers of a block give, by the settings that give them."""
    layout = layout_of(block.module)
    known = (layout.attention, layout.mlp) if layout is not None else (None, None)
    return {
        "attention_output": config.attention_output or known[0],
        "mlp_output": config.mlp_output or known[1],
    }
