"""A page's parts say what is wrong with them."""

from __future__ import annotations

import pytest

from lorakit.errors import ConfigError
from lorakit.pages import Note, Table


def test_table_names_every_row_of_another_length() -> None:
    with pytest.raises(ConfigError, match="2 columns") as raised:
        Table("Scores", ["method", "score"], [["lora", "1", "2"], ["full", "1"], ["head"]])
    assert len(raised.value.problems) == 2
    assert "row 3 has 1: head" in str(raised.value)


def test_link_that_would_run_something_is_refused() -> None:
    with pytest.raises(ConfigError, match="javascript"):
        Note("The paper.", "javascript:alert(1)")
