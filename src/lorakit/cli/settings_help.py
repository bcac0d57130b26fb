"""The help of a command that takes settings of a recipe: its options, then every setting."""

from __future__ import annotations

from typing import Any

from rich.box import ROUNDED
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand

from lorakit.cli.settings import SECTIONS, Section, settings_of


class CommandWithSettings(TyperCommand):
    """A command whose `--help` ends with the settings of recipes."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        console = Console()
        for section in SECTIONS:
            console.print(_panel(section))


def _panel(section: Section) -> Panel:
    """A line for each setting: name, what it is, default."""
    rows = Table(box=None, show_header=False, pad_edge=False, expand=True)
    rows.add_column(style="bold cyan", no_wrap=True)
    rows.add_column(ratio=1)
    for setting in settings_of(section):
        default = (f" [default: {setting.default}]", "dim") if setting.default else ""
        rows.add_row(setting.name, Text.assemble(setting.about, default))
    title = f"Settings: {section.name}" if section.name else "Settings"
    return Panel(rows, title=title, title_align="left", border_style="dim", box=ROUNDED)
