"""`lorakit score`."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Two texts with their references, on a machine without Java: METEOR takes half a minute."""
    monkeypatch.setenv("PATH", "")
    texts, references = tmp_path / "texts.txt", tmp_path / "references.txt"
    texts.write_text("A pub by the river.\nA cheap place to eat.\n")
    references.write_text("A pub by the river.\nA pub.\n\nA cheap place to eat.\n\n")
    return ("--task", "e2e", "--predictions", texts, "--references", references)


def test_score_prints_a_table_and_says_what_is_missing(run, files):
    code, out, error = run("score", *files)
    assert (code, error) == (0, "")
    assert out.splitlines()[:3] == ["e2e, 2 texts", "metric           all", "bleu          1.0000"]
    assert "METEOR is not computed: Java is missing" in out


def test_score_prints_json(run, files):
    code, out, _ = run("score", *files, "--json")
    report = json.loads(out)
    assert code == 0
    assert (report["task"], report["texts"], len(report["notes"])) == ("e2e", 2, 1)
    assert report["metrics"]["bleu"] == pytest.approx(1)
    assert "meteor" not in report["metrics"]


def test_score_refuses_texts_that_do_not_match(run, files):
    files[3].write_text("A pub by the river.\n")
    code, out, error = run("score", *files)
    assert (code, out) == (1, "")
    assert "1 text, but references for 2 texts" in error


def test_score_refuses_an_unknown_task_before_it_reads(run):
    code, _, error = run("score", "--task", "e2", "--predictions", "nowhere.txt")
    assert code == 1
    assert "did you mean 'e2e'?" in error
