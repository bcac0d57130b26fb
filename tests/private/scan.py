"""Where Python code uses names that are private to another library."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

READ_BY_NAME = ("getattr", "setattr", "hasattr", "delattr", "attrgetter")


def own_names(trees: Collection[ast.AST]) -> set[str]:
    """The private names that these files define: functions, classes, variables, attributes."""
    found = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Dict):  # the body of a class that `type` makes
            found |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
    return {name for name in found if isinstance(name, str) and is_private(name)}


def uses(tree: ast.AST, own: Collection[str], listed: Collection[str]) -> Iterator[tuple[int, str]]:
    """(line, name) of each private name that is listed, or that is not one of the file's own."""
    for node in ast.walk(tree):
        for name in _names(node):
            if name in listed or (is_private(name) and name not in own):
                yield node.lineno, name
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name in listed:
                    yield method.lineno, method.name


def _names(node: ast.AST) -> Iterator[str]:
    """What a node reads of something else: an attribute, an import, a getattr."""
    if isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("lorakit"):
        yield from (*(node.module or "").split("."), *(alias.name for alias in node.names))
    elif isinstance(node, ast.Import):
        yield from (part for alias in node.names for part in alias.name.split("."))
    elif isinstance(node, ast.Call) and _called(node.func) in READ_BY_NAME:
        yield from (
            a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)
        )


def _called(function: ast.expr) -> str | None:
    return getattr(function, "id", None) or getattr(function, "attr", None)


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))
