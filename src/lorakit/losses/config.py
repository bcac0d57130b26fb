"""Which loss a run minimises, and what it can be told."""

from __future__ import annotations

from dataclasses import dataclass

from lorakit.errors import require, suggest
from lorakit.losses.registry import LOSSES, WEIGHTS


@dataclass(frozen=True)
class LossConfig:
    """A second pass over the same examples, and what it adds to the loss."""

    kind: str = "plain"
    """plain is the model's own loss; the others stand in `lorakit.losses.LOSSES`."""
    weight: float | None = None
    """Of the distance between the two passes; 1 if it is not said."""
    copy_weight: float | None = None
    """Of the second pass's own loss, for the three kinds of cutoff; 1 if it is not said."""
    ratio: float | None = None
    """The share of tokens or features that a cutoff takes away; 0.1 if it is not said."""

    def __post_init__(self) -> None:
        known = f"it must be one of {', '.join(LOSSES)}{suggest(self.kind, LOSSES)}"
        require({f"kind is {self.kind!r}; {known}": self.kind in LOSSES})
        used, names = LOSSES[self.kind].settings, (*WEIGHTS, "ratio")
        unused = [n for n in names if n not in used and getattr(self, n) is not None]
        for name, value in used.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        require(
            {f"{name} is set, and kind {self.kind} does not use it": False for name in unused}
            | {f"{name} must not be negative": (getattr(self, name) or 0) >= 0 for name in WEIGHTS}
            | {"ratio must be in (0, 1)": self.ratio is None or 0 < self.ratio < 1}
        )

    @property
    def weights(self) -> dict[str, float]:
        """The arguments of the loss' `combine`."""
        return {name: getattr(self, name) for name in LOSSES[self.kind].weights}
