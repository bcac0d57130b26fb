"""What a result says of where it comes from and of what it is compared with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from datasets import Dataset

import lorakit
from lorakit.tasks.baseline import Baseline
from lorakit.tasks.classification import Classification
from lorakit.training import result


def test_the_baseline_counts_labels_by_their_names():
    """As CSV, JSON and pandas write one and the same label."""
    table = Dataset.from_dict({"label": ["1", "1.0", " 1 ", "0", "0"]})
    task = Classification(("text",), "label", 8, ("0", "1"))
    assert task.baseline(table, table) == Baseline("majority class", "accuracy", 3 / 5)


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(directory), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(
    ("place", "own"),
    [("src/lorakit", True), (".venv/lib/python3.11/site-packages/lorakit", False)],
)
def test_only_the_commit_of_its_own_checkout_is_told(place, own, tmp_path, monkeypatch):
    package = tmp_path / place
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(lorakit, "__file__", str(package / "__init__.py"))
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert result.own_commit() == (commit if own else None)


def test_without_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(lorakit, "__file__", str(tmp_path / "src/lorakit/__init__.py"))
    assert result.own_commit() is None
