"""Checks and arithmetic for the values of a config."""

from __future__ import annotations

import sys


def scaling(r: int, lora_alpha: float, use_rslora: bool) -> float:
    """`lora_alpha / r`, or `lora_alpha / sqrt(r)` for rsLoRA (arXiv 2312.03732, section 3.2)."""
    return lora_alpha / (r**0.5 if use_rslora else r)


def alpha_for(scale: float, r: int, use_rslora: bool) -> float:
    """The `lora_alpha` that gives `scale` at rank `r`; a whole number stays one."""
    alpha = float(scale * (r**0.5 if use_rslora else r))
    return int(alpha) if alpha.is_integer() else alpha


def is_bias(leaf: str) -> bool:
    """Whether a parameter of this name is a bias vector.

    Such are `bias`, attention's `in_proj_bias` and `bias_k`, an LSTM's `bias_ih_l0`. The tables of
    relative positions (Swin's `relative_position_bias_table`) are not.
    """
    return leaf == "bias" or leaf.startswith("bias_") or leaf.endswith("_bias")


def is_number(value: object) -> bool:
    """Whether this is a number that a float can hold, and not a boolean."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max


def is_index(value: object) -> bool:
    return is_whole(value, 0)


def is_whole(value: object, least: int) -> bool:
    """Whether this is an integer of at least `least`, and not a boolean."""
    return type(value) is int and value >= least


def is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)
