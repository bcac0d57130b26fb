"""Tensor parallel: a device keeps columns or rows of the weights in a block; all see all tokens.

As Megatron-LM (Shoeybi et al., arXiv 1909.08053): the first product of the attention and of the MLP
is cut in its outputs, so what lies between is too, and the second in its inputs. Block inputs,
norms, residual sums and dropouts are whole on every device (Korthikanti et al., arXiv 2205.05198,
section 4.1), and so is here what nothing is known of, and what the backward makes for a moment.
Logits are cut and then gathered, and so are their gradients the other way.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from torch import Tensor, nn

from lorakit.planner.devices.division import Division, Formula, Sharing, divided
from lorakit.planner.devices.tp_plans import COLUMNS, CUTS, GATHERED, ROWS, styles, tp_plan
from lorakit.planner.recording import Block
from lorakit.planner.timeline import Point

_MEGATRON = "Megatron-LM, Shoeybi et al., arXiv 1909.08053, section 3"


def tp(model: nn.Module, sharing: Sharing) -> Division:
    """Weights cut as transformers' `tp_plan` of the model says, or as Megatron-LM does."""
    named, devices = styles(model), sharing.devices
    inside = _inside(model, named)
    gathered = sum(
        math.prod(_local_shape(named, devices, f"{name}.weight", module.weight)[:-1])
        * module.weight.element_size()
        for name, module in model.named_modules()
        if named.get(name) in GATHERED
    )

    def local_bytes(block: Block) -> int:
        return math.ceil(block.nbytes / devices) if inside.get(block.module) else block.nbytes

    def communication(point: Point) -> int:
        return gathered * sharing.tokens if point.phase in ("forward", "backward") else 0

    return Division(
        formulas=(
            Formula(
                "weights, gradients and optimizer state: 1 / n of the outputs or inputs of "
                "attention, MLP and embedding, and of what LoRA adds on that side; the rest whole",
                f"transformers' tp_plan; {_MEGATRON}",
            ),
            Formula(
                "activations: 1 / n of those inside attention and MLP, the rest whole",
                "Korthikanti et al., arXiv 2205.05198, section 4.1",
            ),
            Formula(
                "communication: 1 / n of the logits, or of their gradients, from which all are "
                "gathered; other sums are made in place",
                "transformers' tp_plan, colwise_gather_output",
            ),
        ),
        local_shape=partial(_local_shape, named, devices),
        local_bytes=local_bytes,
        communication=communication,
    )


def tp_problems(model: Any, devices: int) -> list[str]:
    """Why this model cannot be cut for this number of devices."""
    config = model.config.get_text_config()
    if not tp_plan(model):
        return [
            f"parallel is tp, and no tensor parallel plan of {type(model).__name__} is known: "
            "plan fsdp"
        ]
    heads = {
        name: count
        for name in ("num_attention_heads", "num_key_value_heads")
        if isinstance(count := getattr(config, name, None), int)
    }
    return [
        f"parallel is tp for {devices} devices, which {name} {count} is not divisible by"
        for name, count in heads.items()
        if count % devices
    ]


def _local_shape(named: dict[str, str], devices: int, name: str, parameter: Tensor) -> list[int]:
    module, _, leaf = name.rpartition(".")
    if name in named:  # a parameter with a style of its own, as those of experts
        cut = CUTS.get(named[name], {}).get("weight")
    else:
        cut = CUTS.get(named.get(module, ""), {}).get(leaf)
    return list(parameter.shape) if cut is None else divided(parameter.shape, cut, devices)


def _inside(model: nn.Module, named: dict[str, str]) -> dict[str, bool]:
    """Of each module: whether its forward computes with a part of the heads or of the MLP."""
    # The attention and the MLP; a block that calls its products itself does more than these.
    parents = {
        name.rpartition(".")[0] for name, _ in model.named_modules() if named.get(name) in COLUMNS
    }
    parents = {name for name in parents if name and not name.rpartition(".")[2].isdecimal()}
    found: dict[str, bool] = {}
    for name, module in model.named_modules():
        style = named.get(name, "")
        if style in COLUMNS or name in parents:
            found[name] = True
        elif style in ROWS or isinstance(module, nn.Dropout):
            found[name] = False
        else:
            found[name] = found.get(name.rpartition(".")[0], False)
    return found
