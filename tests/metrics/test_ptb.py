"""Tokens without Java against Stanford's, on the texts of E2E and by rule."""

from __future__ import annotations

import pytest

from lorakit.metrics import ptb
from tests.metrics.conftest import needs_java


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("It isn't family-friendly, sorry!", "it is n't family-friendly sorry"),
        (
            "The owner's pub (cheap) costs £20-25.",
            "the owner 's pub -lrb- cheap -rrb- costs # 20-25",
        ),
        (
            "Near St. James... in the U.S. it's 5.5 of 10",
            "near st. james in the u.s. it 's 5.5 of 10",
        ),
        ("", ""),
        ("...", ""),
    ],
)
def test_simple_tokens_by_rule(text, tokens):
    assert ptb.simple_tokens(text) == tokens


def test_simple_tokens_are_stanfords_on_e2e(official):
    rows = official.segments()
    texts = [text for row in rows for text in (row["hyp"], *row["refs"])]
    tokens = [text for row in rows for text in (row["hyp_ptb"], *row["refs_ptb"])]
    assert [ptb.simple_tokens(text) for text in texts] == tokens


@needs_java
def test_stanfords_tokens_are_the_official_ones(official):
    rows = official.segments()[:100]
    texts = [text for row in rows for text in (row["hyp"], *row["refs"])]
    tokens = [text for row in rows for text in (row["hyp_ptb"], *row["refs_ptb"])]
    assert ptb.stanford_tokens(texts) == tokens


@needs_java
def test_stanfords_tokens_stay_with_their_texts():
    texts = ["", "a\x0bpub", "café\u2028£5", "\n", "end"]
    assert ptb.stanford_tokens(texts) == ["", "a pub", "café # 5", "", "end"]


def test_without_java_the_simple_tokens_are_taken(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert ptb.tokenized(["A pub."]) == ["a pub"]
