"""The Python lines that `train` prints, run as a user pastes them."""

from __future__ import annotations

from typing import Any


def run_lines(printed: str, tool: str = "lorakit") -> dict[str, Any]:
    """The names after the lines "In Python", or with PEFT's lines in place of the last one."""
    lines = _paragraph(printed, "In Python:\n")
    if tool == "peft":
        lines = lines[:-1] + _paragraph(printed, "In PEFT, instead of the last line:\n")
    names: dict[str, Any] = {}
    exec("\n".join(line.strip() for line in lines), names)
    return names


def _paragraph(printed: str, title: str) -> list[str]:
    return printed.partition(title)[2].partition("\n\n")[0].splitlines()
