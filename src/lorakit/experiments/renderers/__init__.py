"""A table in the forms in which it is kept: one file each, the value in, text out."""

from collections.abc import Callable

from lorakit.experiments.renderers import csv, json, latex, markdown, text
from lorakit.experiments.table import Table

RENDERERS: dict[str, Callable[[Table], str]] = {
    "txt": text.render,
    "md": markdown.render,
    "csv": csv.render,
    "tex": latex.render,
    "json": json.render,
}
"""By the ending of the file."""

__all__ = ["RENDERERS"]
