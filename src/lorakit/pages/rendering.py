"""A page as one HTML file that needs nothing else.

Texts are escaped by the template engine. The browser is told to load nothing and to run the one
script that stands in the file (Content-Security-Policy), so no name in a table can do either.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorakit.files import atomic_write_text
from lorakit.pages.content import Cell, Column, Figure, Listing, Page, Part, Section, Table
from lorakit.pages.figures.palette import DARK, LIGHT, SERIES
from lorakit.pages.figures.panel import Key, Panel
from lorakit.pages.figures.svg import with_prefix

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"
_MACROS = {str: "paragraph", Table: "table", Figure: "figure", Listing: "listing"}


def render(page: Page) -> str:
    """The HTML of `page`; equal pages give equal text."""
    from markupsafe import Markup

    script = (_TEMPLATES / "sort.js").read_text("utf-8")
    text = (
        _environment()
        .get_template("page.html")
        .render(
            page=page,
            sections=list(_numbered(page.sections)),
            colours={
                "light": _declarations(LIGHT),
                "dark": _declarations(DARK),
                "series": len(SERIES),
            },
            style=Markup((_TEMPLATES / "page.css").read_text("utf-8")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )
    return text.encode("utf-8", "replace").decode()  # paths may have bytes that are no letters


def write_page(page: Page, path: Path) -> None:
    """Write `page` to `path` as a whole file, or nothing."""
    atomic_write_text(path, render(page), newline="\n")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(groups=_groups, keys=_keys, prefixed=_prefixed)
    return environment


def _numbered(sections: Sequence[Section]) -> Iterator[dict[str, Any]]:
    """Each section with its parts, and their numbers among those of their kind."""
    counts: Counter[type] = Counter()
    for section in sections:
        parts = []
        for part in section.parts:
            counts[type(part)] += 1
            parts.append(_part(part) | {"number": counts[type(part)]})
        yield {"title": section.title, "parts": parts}


def _part(part: Part) -> dict[str, Any]:
    """A part with the macro of parts.html that writes it."""
    value = _filled(part) if isinstance(part, Table) else part
    return {"macro": _MACROS[type(part)], "value": value}


def _filled(table: Table) -> dict[str, Any]:
    """A table whose strings are columns and cells, and which of its columns hold numbers."""
    rows = [[Cell(cell) if isinstance(cell, str) else cell for cell in row] for row in table.rows]
    return {
        "caption": table.caption,
        "columns": [Column(c) if isinstance(c, str) else c for c in table.columns],
        "rows": rows,
        "numeric": {at for row in rows for at, cell in enumerate(row) if cell.value is not None},
        "legend": table.legend,
    }


def _groups(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """The heads above the columns' own, each with how many columns it spans."""
    return [(name, len(list(of))) for name, of in groupby(columns, lambda column: column.group)]


def _keys(panels: Sequence[Panel]) -> list[Key]:
    """The legend of several panels, each series once."""
    return list(dict.fromkeys(key for panel in panels for key in panel.keys))


def _prefixed(panel: Panel, prefix: str) -> Markup:
    """The drawing, as it is, with names that no other on the page has."""
    from markupsafe import Markup

    return Markup(with_prefix(panel.svg, prefix))


def _declarations(colours: Mapping[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())
