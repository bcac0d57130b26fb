"""BitFit: the biases alone are trained (Ben Zaken et al., arXiv 2106.10199)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from lorakit.config import is_bias
from lorakit.injection.selection.architectures import backbone
from lorakit.methods.saved_modules import MethodConfig
from lorakit.methods.selective import Selective


class BitFit(Selective[MethodConfig]):
    """Every bias of the backbone is trained, those of its norms included.

    RoBERTa-base has 102,144 of them. What PEFT's LoRA trains with `bias="all"`, without A and B.
    """

    name = "bitfit"
    title = "BitFit"
    config_type = MethodConfig
    rate = 1.5
    needs = "biases"

    def names(self, model: nn.Module, config: MethodConfig) -> Sequence[str]:
        body = backbone(model)
        start = f"{body}." if body is not None else ""
        return [
            name
            for name, _ in model.named_parameters()
            if name.startswith(start) and is_bias(name.rpartition(".")[2])
        ]
