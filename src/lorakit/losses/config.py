"""Which loss a run minimises, and its settings."""

from __future__ import annotations

from dataclasses import dataclass

from lorakit.errors import require, suggest
from lorakit.losses.registry import LOSSES, WEIGHTS


@dataclass(frozen=True)
class LossConfig:
    """The kind of loss, and the weights of its terms."""

    kind: str = "plain"
    """plain: the model's own loss (cross-entropy, or mean squared error). rdrop, cutoff_token,
    cutoff_feature, cutoff_span, loralib_rdrop, loralib_cutoff: consistency losses of two passes
    over the same examples, with the formulas in `lorakit.losses.divergences`; and what
    `lorakit.losses.register` has added."""
    weight: float | None = None
    """Weight of the divergence between the two passes. None: 1 where the kind has one."""
    copy_weight: float | None = None
    """Weight of the second pass's own loss, for the cutoff_* kinds. None: 1 there."""
    ratio: float | None = None
    """Share of tokens or embedding features that are cut off, above 0 and below 1, for the cutoff
    kinds. None: 0.1 there."""

    def __post_init__(self) -> None:
        known = f"it must be one of {', '.join(LOSSES)}{suggest(self.kind, LOSSES)}"
        require({f"kind is {self.kind!r}; {known}": self.kind in LOSSES})
        used, names = LOSSES[self.kind].settings, (*WEIGHTS, "ratio")
        unused = [n for n in names if n not in used and getattr(self, n) is not None]
        for name, value in used.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        require(
            {
                f"{name} is set, and kind {self.kind} has no such setting; leave it out": False
                for name in unused
            }
            | {
                f"{name} is {value}; it must be 0 or above": (value or 0) >= 0
                for name in WEIGHTS
                for value in [getattr(self, name)]
            }
            | {
                f"ratio is {self.ratio}; it must be above 0 and below 1": (
                    self.ratio is None or 0 < self.ratio < 1
                )
            }
        )

    @property
    def weights(self) -> dict[str, float]:
        """The keyword arguments of the loss' `combine`."""
        return {name: getattr(self, name) for name in LOSSES[self.kind].weights}
