"""What a private name says of itself, there or gone."""

from __future__ import annotations

import pytest
import torch

from lorakit.errors import MissingDependencyError
from lorakit.private.names import PrivateName


def name(path: str) -> PrivateName:
    return PrivateName(path, since="1.0", why="it is faster", without="it is slower")


@pytest.mark.parametrize("path", ["torch:Tensor._gone", "torch._gone:x", "no_such_library:_x"])
def test_a_name_that_is_gone_is_something_else(path):
    assert name(path).find("else") == "else"
    assert name(path).find() is None


def test_a_name_that_is_there_is_found():
    assert name("torch:nn.Module._apply").find("else") is torch.nn.Module._apply


def test_the_error_names_library_version_name_and_reason():
    error = name("torch:Tensor._gone").missing()
    assert isinstance(error, MissingDependencyError)
    assert str(error).startswith(f"torch {torch.__version__} has no torch.Tensor._gone, which")
    assert "it is faster" in str(error)
    assert "constraints.txt" in str(error)
    assert str(name("no_such_library:_x").missing()).startswith("no_such_library (not installed)")
