"""Losses of two passes over the same examples: the task's own, and a distance between the passes.

z1, z2 are the logits (B, C) of the two passes, y the labels (B,), p = softmax(z). Every loss is a
mean over the B examples, so micro-batches of a step add up by their numbers of examples. Where a
model has one output (regression), the task's loss is the squared error and every distance is

    D = mean((z1 - z2)^2)

`registry` maps each `kind` to its function; `augmentations` has the inputs of the second pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def rdrop(z1: Tensor, z2: Tensor, y: Tensor, weight: float) -> Tensor:
    """R-drop: two passes with dropout drawn anew have to agree.

        L = CE(z1, y) + CE(z2, y) + weight * D,    D = 1/2 (KL(p1 || p2) + KL(p2 || p1))

    Source: Liang et al. 2021, arXiv 2106.14448, section 2.
    """
    return task_loss(z1, y) + task_loss(z2, y) + weight * _distance(z1, z2, _symmetric_divergence)


def cutoff(z1: Tensor, z2: Tensor, y: Tensor, weight: float, copy_weight: float) -> Tensor:
    """Cutoff: the second pass sees the examples with a part cut off.

        L = CE(z1, y) + copy_weight * CE(z2, y) + weight * D
        D = 1/2 (KL(m || p1) + KL(m || p2)),    m = (p1 + p2) / 2

    D is what the authors' code computes and calls the Jensen-Shannon divergence, whose own
    definition has the arguments of both KL exchanged.

    Source: Shen et al. 2020, arXiv 2009.13818, section 3; the code of dinghanshen/Cutoff, `js_div`
    in transformers/trainer.py.
    """
    return (
        task_loss(z1, y)
        + copy_weight * task_loss(z2, y)
        + weight * _distance(z1, z2, _divergence_from_mean)
    )


def loralib(z1: Tensor, z2: Tensor, y: Tensor, weight: float) -> Tensor:
    """What microsoft/LoRA's DeBERTa example computes for its cutoff and its R-drop alike.

        L = CE(z1, y) + CE(z2, y) + weight * D
        D = 1/(2C) (KL(q || p1) + KL(q || p2)),    q = softmax((z1 + z2) / 2)

    The mean is that of the logits, and the KL are averaged over the classes too. For passes that
    are near each other D is 4C times smaller than R-drop's. With one output the original fails.

    Source: microsoft/LoRA, examples/NLU, modeling_deberta_v2.py at c4593f0,
    `DebertaV2ForSequenceClassification.forward`.
    """
    return task_loss(z1, y) + task_loss(z2, y) + weight * _distance(z1, z2, _divergence_by_class)


def task_loss(z: Tensor, y: Tensor) -> Tensor:
    """Cross entropy of logits `z` and labels `y`; the squared error where there is one output."""
    if z.shape[-1] == 1:
        return F.mse_loss(z.squeeze(-1), y.to(z.dtype))
    return F.cross_entropy(z, y)


def _distance(z1: Tensor, z2: Tensor, divergence: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    return F.mse_loss(z1, z2) if z1.shape[-1] == 1 else divergence(z1, z2)


def _symmetric_divergence(z1: Tensor, z2: Tensor) -> Tensor:
    log_p1, log_p2 = z1.log_softmax(-1), z2.log_softmax(-1)
    return (_kl(log_p1, log_p2) + _kl(log_p2, log_p1)) / 2


def _divergence_from_mean(z1: Tensor, z2: Tensor) -> Tensor:
    log_p1, log_p2 = z1.log_softmax(-1), z2.log_softmax(-1)
    log_m = log_p1.logaddexp(log_p2).log_softmax(-1)  # its softmax is (p1 + p2) / 2
    return (_kl(log_m, log_p1) + _kl(log_m, log_p2)) / 2


def _divergence_by_class(z1: Tensor, z2: Tensor) -> Tensor:
    log_q = ((z1 + z2) / 2).log_softmax(-1)
    both = _kl(log_q, z1.log_softmax(-1)) + _kl(log_q, z2.log_softmax(-1))
    return both / (2 * z1.shape[-1])


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q), the mean over the examples."""
    return F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
