"""The tokens at which a model stops, from all who know of one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lorakit.models.stop_tokens import stop_ids


@pytest.mark.parametrize(
    ("own", "tokenizers", "more", "expected"),
    [
        (7, 3, [5], [5, 3, 7]),
        ([7, 8], 3, [], [3, 7, 8]),
        ([3, 5], 3, [5, 5], [5, 3]),
        (None, 3, [], [3]),
        (7, None, [], [7]),
        (0, None, [0], [0]),
        (None, None, [], None),
    ],
)
def test_stop_ids_are_each_one_once(
    own: int | list[int] | None, tokenizers: int | None, more: list[int], expected: list[int] | None
) -> None:
    config = SimpleNamespace(eos_token_id=own)
    assert stop_ids(config, SimpleNamespace(eos_token_id=tokenizers), more) == expected
