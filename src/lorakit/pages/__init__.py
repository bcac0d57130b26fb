"""One self-contained HTML page from a value: text, tables, figures, notes, provenance."""

from lorakit.pages.content import Cell, Column, Figure, Listing, Note, Page, Section, Table, number
from lorakit.pages.machine import provenance
from lorakit.pages.rendering import render, write_page

__all__ = [
    "Cell",
    "Column",
    "Figure",
    "Listing",
    "Note",
    "Page",
    "Section",
    "Table",
    "number",
    "provenance",
    "render",
    "write_page",
]
