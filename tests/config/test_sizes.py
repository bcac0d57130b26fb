"""Sizes in bytes, as every setting and flag takes them."""

from __future__ import annotations

from typing import Any

import pytest

from lorakit.config.sizes import size_of
from lorakit.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (17, 17),
        ("4096", 4096),
        ("16B", 16),
        ("0B", 0),
        ("1.5 kB", 1500),
        ("16gb", 16 * 10**9),
        ("2GB", 2 * 10**9),
        ("2GiB", 2**31),
        ("2gib", 2**31),
        (" 3 TIB ", 3 * 2**40),
    ],
)
def test_sizes_are_read(value: int | str, size: int) -> None:
    assert size_of("budget", value) == size


@pytest.mark.parametrize(
    "wrong",
    ["x", "", "2 gigs", "2 apples", "GiB", "iB", "-2GiB", "1e3", "9" * 400, -1, True, 1.5, None],
)
def test_what_is_no_size_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"budget=.* is no number of bytes; .* kB, MB, GB"):
        size_of("budget", wrong)
