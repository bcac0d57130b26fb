"""Which loss a run minimises, and what it can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lorakit.errors import require

LossKind = Literal[
    "plain",
    "rdrop",
    "cutoff_token",
    "cutoff_feature",
    "cutoff_span",
    "loralib_rdrop",
    "loralib_cutoff",
]

_CUTOFF = {"weight": 1.0, "copy_weight": 1.0, "ratio": 0.1}
_LOSS_DEFAULTS: dict[str, dict[str, float]] = {
    "plain": {},
    "rdrop": {"weight": 1.0},
    "cutoff_token": _CUTOFF,
    "cutoff_feature": _CUTOFF,
    "cutoff_span": _CUTOFF,
    "loralib_rdrop": {"weight": 1.0},
    "loralib_cutoff": {"weight": 1.0, "ratio": 0.1},
}
"""What each kind of loss can be told, with the values of its authors' code."""


@dataclass(frozen=True)
class LossConfig:
    """A second pass over the same examples, and what it adds to the loss."""

    kind: LossKind = "plain"
    """plain is the model's own loss; the others stand in `lorakit.losses.divergences`."""
    weight: float | None = None
    """Of the distance between the two passes; 1 if it is not said."""
    copy_weight: float | None = None
    """Of the second pass's own loss, for the three kinds of cutoff; 1 if it is not said."""
    ratio: float | None = None
    """The share of tokens or features that a cutoff takes away; 0.1 if it is not said."""

    def __post_init__(self) -> None:
        used, names = _LOSS_DEFAULTS[self.kind], ("weight", "copy_weight", "ratio")
        unused = [n for n in names if n not in used and getattr(self, n) is not None]
        for name, value in used.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        require(
            {f"{name} is set, and kind {self.kind} does not use it": False for name in unused}
            | {
                f"{name} must not be negative": (getattr(self, name) or 0) >= 0
                for name in ("weight", "copy_weight")
            }
            | {"ratio must be in (0, 1)": self.ratio is None or 0 < self.ratio < 1}
        )
