"""The reference has every public name, and says what each parameter means.

Public is what `lorakit` and the `__all__` of its rooms name. A parameter is explained where the
docstring has its name between backticks; a field of a dataclass also by the string below it.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest

import lorakit

PAGES = sorted((Path(__file__).resolve().parents[2] / "docs" / "reference").glob("*.md"))
DIRECTIVE = re.compile(r"^\.\. (?:auto\w+|py:data):: (\S+)$", re.MULTILINE)
INSIDE = {"base_checkpoints", "config"}
"""Rooms whose names are for other rooms; `LoraConfig` is a name of `lorakit`."""


def public_names() -> Iterator[str]:
    yield from (f"lorakit.{name}" for name in lorakit.__all__ if name not in lorakit._MODULES)
    for room in pkgutil.iter_modules(lorakit.__path__, "lorakit."):
        names = getattr(importlib.import_module(room.name), "__all__", ())
        if room.ispkg and room.name.removeprefix("lorakit.") not in INSIDE:
            yield from (f"{room.name}.{name}" for name in names)


def resolve(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


NAMES = list(public_names())
IN_REFERENCE = [
    resolve(path) for page in PAGES for path in DIRECTIVE.findall(page.read_text("utf-8"))
]


def parameters(value: Any) -> set[str]:
    """What a call takes, but for what classes of other packages define."""
    call = value.__init__ if inspect.isclass(value) else value
    if dataclasses.is_dataclass(value):
        return {field.name for field in dataclasses.fields(value) if field.init}
    if not inspect.isfunction(call) or not call.__module__.startswith("lorakit"):
        return set()
    return set(inspect.signature(call).parameters) - {"self"}


def explained(value: Any) -> set[str]:
    """The names in backticks in the docstring, and the fields that have strings below them."""
    classes = (
        [c for c in inspect.getmro(value) if c.__module__.startswith("lorakit")]
        if inspect.isclass(value)
        else []
    )
    docstrings = [inspect.getdoc(value) or "", *(c.__doc__ or "" for c in classes)]
    quoted = " ".join(re.findall(r"`([^`]+)`", " ".join(docstrings)))
    return {
        *re.findall(r"\w+", quoted),
        *(name for c in classes for name in fields_with_strings(c)),
    }


def fields_with_strings(cls: type) -> Iterator[str]:
    (node,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(cls))).body
    assert isinstance(node, ast.ClassDef)
    for field, below in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            yield ast.unparse(field.target)


@pytest.mark.parametrize("name", NAMES)
def test_public_name_is_in_the_reference(name: str) -> None:
    value = resolve(name)
    assert any(documented is value for documented in IN_REFERENCE), (
        f"{name} is public and in no page of docs/reference"
    )


@pytest.mark.parametrize("name", NAMES)
def test_each_parameter_is_explained(name: str) -> None:
    value = resolve(name)
    missing = sorted(parameters(value) - explained(value))
    assert missing == [], f"the docstring of {name} does not explain {', '.join(missing)}"


def test_the_fields_that_peft_s_config_lacks_are_named() -> None:
    page = next(page for page in PAGES if page.name == "config.md").read_text("utf-8")
    (named,) = re.findall(r"meanings; ([^;.]+)\sare\slorakit's own", page)
    theirs = {field.name for field in dataclasses.fields(peft.LoraConfig)}
    assert set(re.findall(r"`(\w+)`", named)) == parameters(lorakit.LoraConfig) - theirs


def test_a_parameter_without_a_word_is_found() -> None:
    def scale(x: float, by: float) -> float:
        """`x`, scaled."""
        return x * by

    scale.__module__ = "lorakit.example"
    assert parameters(scale) - explained(scale) == {"by"}
