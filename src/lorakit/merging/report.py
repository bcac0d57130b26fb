"""What a merge reports: where everything came from, and how much of each update survived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorakit.checkpoint.bundle import unknown_text
from lorakit.checkpoint.fingerprint import verdict
from lorakit.checkpoint.renaming import renaming_text
from lorakit.text import plural, table

_LISTED = 12
"""Layers in the printed table, those that lost most; JSON has all of them."""


@dataclass(frozen=True)
class MergedFiles:
    """The report of `merge_files`."""

    output: str
    """The directory."""
    base: str
    """As it was named."""
    adapters: Sequence[tuple[str, float]]
    """Each with its weight."""
    model_class: str
    """transformers' name of it."""
    folded_layers: int
    """How many weights adapters have changed."""
    worst_rounding: float
    """The largest of `rounding`."""
    total_rounding: float
    """That of all layers together."""
    rounding: Mapping[str, float]
    """||round(W + dW) - W - dW|| / ||dW|| by layer: the share of its update that was lost."""
    base_verified: bool | None
    """Whether the base is that of the training; None: unknown."""
    bytes: int
    """Of the weights."""
    shards: Sequence[str]
    """The files with weights."""
    tokenizer: str | None
    """Where its tokenizer is from; None: neither the adapter nor the base has one."""
    untied: Sequence[str]
    """Weights that are one in the base and several here, as the config now says."""
    left_out: Sequence[str]
    """Weights of the base that the merged model does not have, such as another head."""
    renamed: Mapping[str, str]
    """Weights whose prefix is not the one that they have in the base."""
    renamed_modules: Mapping[str, str]
    """Modules whose name in the adapter's file is another one, which is the value."""
    unknown_settings: Mapping[str, Any]
    """Those in the adapter's file that lorakit does not know; they could mean another function."""
    added_mean: float
    """What a regression adds to the model's output, whose head has no bias."""

    def __str__(self) -> str:
        return "\n".join([*self._what(), *self._remarks(), "", *self._fidelity()])

    def _what(self) -> list[str]:
        named = ", ".join(f"{name} x {weight:g}" for name, weight in self.adapters)
        return [
            f"{self.output}: {self.model_class}, {self.bytes / 1e6:,.1f} MB in "
            f"{plural(len(self.shards), 'file')}, {self.folded_layers} layers folded",
            f"adapters: {named}",
            f"base: {self.base} ({verdict(self.base_verified, self.folded_layers > 0)})",
            f"tokenizer: {self.tokenizer or 'none'}",
        ]

    def _remarks(self) -> list[str]:
        lines = []
        if self.untied:
            lines.append(f"untied, as they differ now: {', '.join(self.untied)}")
        if self.left_out:
            lines.append(f"left out, as {self.model_class} has none: {_some(self.left_out)}")
        if self.renamed:
            old, new = next(iter(self.renamed.items()))
            lines.append(f"named as {self.model_class} does: {new} was {old}, and so on")
        if self.renamed_modules:
            lines.append(renaming_text(self.renamed_modules))
        if self.unknown_settings:
            lines.append(unknown_text(self.unknown_settings))
        if self.added_mean:
            lines.append(f"the number is the model's logit + {self.added_mean}")
        return lines

    def _fidelity(self) -> list[str]:
        worst = sorted(self.rounding.items(), key=lambda item: -item[1])
        lines = [f"rounding error: at most {self.worst_rounding:.2g} of a layer's update"]
        if worst:
            rows = [(name, f"{1 - lost:.2%}") for name, lost in worst[:_LISTED]]
            lines += table([("layer", "update kept"), *rows])
        if more := len(worst) - _LISTED:
            lines += [f"and {plural(more, 'layer')} that kept more"] if more > 0 else []
        return lines


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
