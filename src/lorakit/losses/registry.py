"""The table of losses: what each `loss.kind` of a recipe computes, and its settings.

A consistency loss runs a step's examples through the model twice, the second time as its view
augments them, and combines the logits of both. `register` adds one from outside of the package:

    def margin(z1, z2, y, weight):
        return task_loss(z1, y) + weight * (z1 - z2).abs().mean()

    register(Loss("margin", margin, weights={"weight": 0.5}))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lorakit.errors import require
from lorakit.losses.augmentations import (
    View,
    same,
    unknown_tokens,
    without_features,
    without_span,
    without_tokens,
)
from lorakit.losses.divergences import cutoff, loralib, rdrop
from lorakit.tasks.base import SEQUENCE_CLASSIFICATION, Task

Combine = Callable[..., Tensor]
"""(z1, z2, y, **weights) -> the mean loss of the examples; `divergences` says what they are."""

WEIGHTS = ("weight", "copy_weight")
"""The weights of a loss' terms that a recipe can set."""


def for_any_tokenizer(view: View) -> Callable[[Any], View]:
    """A `Loss.view` that does not depend on the tokenizer."""
    return lambda tokenizer: view


_SAME = for_any_tokenizer(same)


@dataclass(frozen=True)
class Loss:
    """One kind of loss."""

    name: str
    """What `loss.kind` of a recipe calls it."""
    combine: Combine | None = None
    """`(z1, z2, y, **weights) -> loss`. None: the model's own loss, of one pass."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """The arguments of `combine` that a recipe can set, with their defaults."""
    ratio: float | None = None
    """The default of loss.ratio, which the view gets; None: the loss has no such setting."""
    view: Callable[[Any], View] = _SAME
    """tokenizer -> the augmentation of the second pass; raises ConfigError if there is none."""
    edits_embeddings: bool = False
    """Whether the view changes the output of the model's embeddings."""

    def __post_init__(self) -> None:
        settable = " and ".join(WEIGHTS)
        require(
            {
                f"a recipe has the weights {settable}, and not {name!r}": name in WEIGHTS
                for name in self.weights
            },
            f"The loss {self.name!r} is invalid:",
        )

    @property
    def settings(self) -> dict[str, float]:
        """The loss' settings in a recipe, with their defaults."""
        return {**self.weights, **({} if self.ratio is None else {"ratio": self.ratio})}

    def problem_with(self, task: type[Task], name: str) -> str | None:
        """Why the loss cannot be used for a task; None if it can."""
        auto_class: Any = task.auto_class  # of the class itself where all its instances share it
        one_row = auto_class == SEQUENCE_CLASSIFICATION
        if self.combine is None or (one_row and task.learns != "a set of labels"):
            return None
        return (
            f"loss.kind is {self.name}, which needs a sequence classification model (one row of "
            f"logits for each example) of one class or number, and the task {name} has none; use "
            "plain"
        )


_CUTOFF = {"weight": 1.0, "copy_weight": 1.0}
_WEIGHT = {"weight": 1.0}


def _cutoff(name: str, view: View) -> Loss:
    return Loss(name, cutoff, _CUTOFF, 0.1, for_any_tokenizer(view), edits_embeddings=True)


LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        Loss("plain"),
        Loss("rdrop", rdrop, _WEIGHT),
        _cutoff("cutoff_token", without_tokens),
        _cutoff("cutoff_feature", without_features),
        _cutoff("cutoff_span", without_span),
        Loss("loralib_rdrop", loralib, _WEIGHT),
        Loss("loralib_cutoff", loralib, _WEIGHT, 0.1, unknown_tokens),
    )
}
"""By name; the defaults are those of the authors' code."""


def register(loss: Loss) -> None:
    """Add `loss` as a kind of loss; raises ConfigError if its name is taken."""
    require(
        {f"a loss {loss.name!r} is registered already": loss.name not in LOSSES},
        f"The loss {loss.name!r} cannot be registered:",
    )
    LOSSES[loss.name] = loss
