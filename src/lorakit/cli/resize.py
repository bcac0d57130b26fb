"""`lorakit resize RUN|ADAPTER --output DIR --rank R|--energy SHARE`."""

from __future__ import annotations

from functools import partial

from lorakit.cli import options
from lorakit.cli.byte_bar import byte_bar
from lorakit.cli.derived_options import Energy, Output, Overwrite, Rank
from lorakit.cli.output import Json, show


def resize(
    source: options.Source,
    output: Output,
    rank: Rank = None,
    energy: Energy = None,
    overwrite: Overwrite = False,
    lora_alpha: options.Alpha = None,
    revision: options.Revision = None,
    subfolder: options.Subfolder = None,
    json: Json = False,
) -> None:
    """Give an adapter another rank, or each module the rank that a share of its norm takes.

    A higher rank is the same function, filled up with zeros; a lower one is the best there is, and
    the error is printed: that of the update of each module, and of all together.

    Example: `lorakit resize runs/reviews --rank 4 --output ./small`

    Example: `lorakit resize runs/reviews --energy 0.99 --output ./small`
    """
    from lorakit.algebra import resize as resized
    from lorakit.derivation.derived import open_source, require_free, write_derived

    require_free(output, overwrite)
    found = open_source(source, lora_alpha, revision, subfolder)
    outcome = resized(found.bundle, rank, energy, partial(byte_bar, what="resizing"))
    show(write_derived(outcome, [found.directory], output), json)
