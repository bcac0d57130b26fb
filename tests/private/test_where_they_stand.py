"""No file but those of lorakit.private uses a private name of torch or transformers."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import lorakit
from lorakit.private import torch_names, transformers_names
from tests.private.scan import own_names, uses

PACKAGE = Path(lorakit.__file__).parent
ROOM = PACKAGE / "private"
LISTED = (
    torch_names.NAMES.keys() | transformers_names.NAMES.keys() | transformers_names.MARKS.keys()
)


def test_private_names_stand_in_the_private_room_and_nn_modules_where_it_is_extended():
    trees = {
        path: ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent != ROOM
    }
    own = own_names(trees.values()) | torch_names.MODULE_SURFACE.keys()
    found = [
        f"{path.relative_to(PACKAGE)}:{line} uses {name}"
        for path, tree in trees.items()
        for line, name in uses(tree, own, LISTED)
    ]
    assert not found, (
        "Find a documented name that does the same, or write the use into lorakit/private with a "
        "line in NAMES:\n" + "\n".join(found)
    )


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("torch._C._functorch.peek()", "_functorch"),
        ("from torch._subclasses.fake_tensor import Mode", "_subclasses"),
        ("from torch.nn.modules.conv import _ConvNd", "_ConvNd"),
        ("import torch._dynamo", "_dynamo"),
        ("getattr(model, '_is_stateful', False)", "_is_stateful"),
        ("tensor._version", "_version"),
        ("getattr(model, 'all_tied_weights_keys', {})", "all_tied_weights_keys"),
        ("class T(Trainer):\n    def _save(self): ...", "_save"),
        ("class T(Trainer):\n    def _own(self): super()._save_checkpoint()", "_save_checkpoint"),
    ],
)
def test_the_scan_sees_each_kind_of_use(code, name):
    tree = ast.parse(code)
    assert name in [found for _, found in uses(tree, own_names([tree]), LISTED)]


def test_the_scan_passes_by_what_is_a_files_own():
    tree = ast.parse("class A:\n    _b = 1\n    def _c(self): return self._b, self._c, __name__")
    assert list(uses(tree, own_names([tree]), LISTED)) == []
