"""METEOR against the official scores, and a program that ends or is not there."""

from __future__ import annotations

import pytest

from lorakit.errors import MissingDependencyError
from lorakit.metrics import meteor as module
from lorakit.metrics.meteor import Meteor
from tests.metrics.conftest import needs_java


def test_without_java_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingDependencyError, match=r"METEOR.*`java`.*install a runtime"):
        Meteor()


def test_a_program_that_ends_is_an_error(monkeypatch, tmp_path):
    program = tmp_path / "java"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(module, "java", lambda: str(program))
    with Meteor() as meteor, pytest.raises(MissingDependencyError, match="Java process ended"):
        meteor(["a"], [["a"]])


@pytest.mark.slow
@pytest.mark.timeout(900)
@needs_java
def test_official_scores_and_edges(official):
    rows = official.segments()
    with Meteor() as meteor:
        found = meteor([row["hyp_ptb"] for row in rows], [row["refs_ptb"] for row in rows])
        assert round(found.score, 4) == 0.4483
        assert found.segments == pytest.approx([row["meteor"] for row in rows], abs=5.1e-7)
        names = [f"ref{i}_all-cat" for i in range(3)]
        webnlg = meteor(*official.files("webnlg2017", "hyp_bart-large_all-cat", names))
        assert webnlg.score == pytest.approx(0.42968135727745266, abs=1e-12)
        edges = meteor(["", "a ||| pub\nhere", "a pub"], [["x"], ["a pub here"], ["", "a pub"]])
        assert edges.segments[0] == 0
        assert edges.segments[1] == edges.segments[2] == 1
