"""Every message that the page on troubleshooting quotes is one that the source still has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import lorakit

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "troubleshooting.md"
QUOTED = re.compile(r"^- `([^`]+)`", re.MULTILINE)
ANYTHING = "…"
"""What stands on the page for a value."""


def quoted(page: str) -> list[str]:
    return [" ".join(message.split()) for message in QUOTED.findall(page)]


def texts(source: str) -> Iterator[str]:
    """The strings of a program, with a mark for each value that is put in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = (p.value if isinstance(p, ast.Constant) else ANYTHING for p in node.values)
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@cache
def messages() -> str:
    files = Path(lorakit.__file__).parent.rglob("*.py")
    return "\n".join(text for file in files for text in texts(file.read_text(encoding="utf-8")))


def is_said(message: str, sources: str) -> bool:
    """Whether one string of the source has these words in this order, with values between them."""
    words = (re.escape(part) for part in message.split(ANYTHING))
    return re.search(f"[^\n]*{ANYTHING}[^\n]*".join(words), sources) is not None


@pytest.mark.parametrize("message", quoted(PAGE.read_text(encoding="utf-8")))
def test_quoted_message_is_in_the_source(message: str) -> None:
    assert is_said(message, messages())


def test_a_message_that_has_changed_is_found() -> None:
    source = "\n".join(texts('f"This {kind} has {n} adapters. " "Add them."'))
    assert is_said("This … has … adapters.", source)
    assert not is_said("This … has … heads.", source)
    assert not is_said("This Linear has … adapters.", source)
