"""Heads of different heights on one model: each as a part of the tallest.

A head of n logits is the first n rows of one of more, whose other rows are 0 and read by nobody.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lorakit.checkpoint import AdapterBundle
from lorakit.models.heads import output_layer


def with_head_of(bundle: AdapterBundle, height: int | None) -> AdapterBundle:
    """The bundle with the last layer of its head filled up to this many logits."""
    if height is None:
        return bundle
    layer = {name: _filled(bundle.trained[name], height) for name in output_layer(bundle.trained)}
    return replace(bundle, trained={**bundle.trained, **layer}) if layer else bundle


def _filled(tensor: Tensor, height: int) -> Tensor:
    missing = height - tensor.shape[0]
    return (
        tensor
        if missing <= 0
        else torch.cat([tensor, tensor.new_zeros(missing, *tensor.shape[1:])])
    )
