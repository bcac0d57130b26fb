"""Tokens without Java against Stanford's, on the texts of E2E and by rule."""

from __future__ import annotations

import pytest

from lorakit.errors import MissingDependencyError
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


@pytest.mark.slow
@needs_java
def test_all_but_seven_references_of_e2e_have_stanfords_tokens(official):
    texts = official.e2e_references()
    stanford = ptb.stanford_tokens(texts)
    different = sum(ptb.simple_tokens(a) != b for a, b in zip(texts, stanford, strict=True))
    assert (len(texts), different) == (51_426, 7)


@needs_java
def test_stanfords_tokens_stay_with_their_texts():
    texts = ["", "a\x0bpub", "café\u2028£5", "\n", "end"]
    assert ptb.stanford_tokens(texts) == ["", "a pub", "café # 5", "", "end"]


def test_without_java_the_simple_tokens_are_taken(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert ptb.tokenized(["A pub."]) == ["a pub"]


def test_a_tokenizer_that_fails_is_an_error(monkeypatch, tmp_path):
    program = tmp_path / "java"
    program.write_text("#!/bin/sh\necho no memory >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(ptb, "java", lambda: str(program))
    with pytest.raises(MissingDependencyError, match="tokenizer failed: no memory"):
        ptb.stanford_tokens(["A pub."])
