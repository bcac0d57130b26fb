"""From the difference of two weights to the adapter that is nearest to it.

dW = W' - W,    s B A = the first R singular values and vectors of dW
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lorakit.algebra.approximation import from_matrices
from lorakit.algebra.outcome import Approximation
from lorakit.algebra.size import Size
from lorakit.variants import AdapterSpec, ModuleAdapter, Site


def extract_adapter(difference: Tensor, site: Site, size: Size) -> Approximation:
    """The adapter of this size for a change of the weight, in float32 and at scale 1.

    Its rank is at most the site's highest. A large weight's singular vectors are found in a random
    subspace (`functional.svd.leading`); the error is measured on the difference itself.
    """
    if size.rank is not None:
        size = replace(size, rank=min(size.rank, site.max_rank))
    form = ModuleAdapter(AdapterSpec(site.max_rank, lora_alpha=site.max_rank), {}, site)
    matrices = [matrix for _, matrix in site.parts(difference)]
    return from_matrices(form, matrices, size, torch.float32)
