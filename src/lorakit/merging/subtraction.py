"""`lorakit.subtract`: a checkpoint without an adapter that was merged into it, file to file.

The original is not found to the bit: W + dW was rounded when it was merged, and W' - dW is rounded
again. What either loses is at most half a unit in the last place of W's dtype.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from lorakit.algebra import Deviation
from lorakit.base_checkpoints import Bar, untold
from lorakit.checkpoint import AdapterBundle
from lorakit.errors import LorakitWarning
from lorakit.merging.adapters import open_adapters
from lorakit.merging.files import merge_files
from lorakit.merging.report import MergedFiles


@dataclass(frozen=True)
class Subtraction:
    """What was taken off, and what rounding kept from being taken off."""

    bundle: AdapterBundle
    """The adapter."""
    error: Deviation
    """||round(W - dW) - (W - dW)|| / ||dW||: what rounding left of the update, by module."""
    report: MergedFiles
    """What was written."""

    def __str__(self) -> str:
        left = f"rounding left {self.error.whole:.2g} of the update, and merging as much before"
        return f"{self.report}\n{left}"


def subtract(
    base_dir: str | Path,
    adapter: str | Path,
    output: str | Path,
    *,
    lora_alpha: float | None = None,
    revision: str | None = None,
    subfolder: str | None = None,
    max_shard_size: int | None = None,
    overwrite: bool = False,
    bar: Bar = untold,
) -> Subtraction:
    """Write the model of `base_dir` without the update of `adapter` into `output`.

        W' = round(W - dW)

    `adapter` had been merged into that model (a directory or hub id), which therefore no longer has
    the weights that its fingerprint is of; where it has them, it is written with a LorakitWarning.
    Everything else is as for a merge: `lora_alpha`, `revision`, `subfolder`, `max_shard_size`,
    `overwrite` and `bar` are those of `lorakit.merging.merge_files`.

    Raises what merging raises; TargetError that lists what no subtraction takes back: DoRA, and
    heads, biases and rows of tokens, which had replaced the base's own.
    """
    (opened,) = open_adapters([(adapter, -1.0)], lora_alpha, revision, subfolder)
    report = merge_files(
        [(adapter, -1.0)],
        base_dir,
        output,
        lora_alpha=lora_alpha,
        check_base=False,
        revision=revision,
        subfolder=subfolder,
        max_shard_size=max_shard_size,
        overwrite=overwrite,
        bar=bar,
    )
    if report.base_verified:
        warnings.warn(
            f"{base_dir} has the weights that {adapter} was trained on, so it does not seem to be "
            f"merged into it: {output} is that base with the update taken off once.",
            LorakitWarning,
            stacklevel=2,
        )
    error = Deviation(report.total_rounding, report.rounding)
    return Subtraction(opened.bundle, error, report)
