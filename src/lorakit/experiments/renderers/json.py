"""A table as JSON: the fields of `Table`, with nothing rounded."""

from __future__ import annotations

import dataclasses

from lorakit.experiments.table import Table
from lorakit.text import to_json


def render(table: Table) -> str:
    """The object."""
    return to_json(dataclasses.asdict(table), indent=2)
