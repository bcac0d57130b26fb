"""`lorakit compare --html`, and the page of a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.experiments.sweeps import Runs, sweep
from tests.experiments.sweeps import run as run_sweep


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The directory of a sweep of which every run has a result."""
    output = tmp_path / "sweep"
    run_sweep(sweep(output), Runs())
    return output


def test_sweep_has_a_page_in_its_directory(run, finished, tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(sweep(finished)))
    code, _, err = run("compare", file)
    assert code == 0, err
    page = (finished / "table.html").read_text("utf-8")
    assert "<title>Methods compared on one, two</title>" in page
    assert "lorakit compare" in page


def test_page_of_finished_runs_is_written_where_it_is_asked_for(run, finished, tmp_path):
    page = tmp_path / "page.html"
    for source in (finished, finished / "tiny" / "one" / "lora"):
        assert run("compare", source, "--html", page, "--overwrite")[0] == 0
        assert "50.0" in page.read_text("utf-8")


def test_page_that_exists_is_kept(run, finished, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("mine")
    code, _, err = run("compare", finished, "--html", page)
    assert code == 1
    assert "--overwrite" in err
    assert page.read_text() == "mine"


def test_dry_run_has_no_page(run, finished, tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(sweep(finished)))
    code, _, err = run("compare", file, "--dry-run", "--html", tmp_path / "page.html")
    assert code == 1
    assert "--html" in err
    assert not (tmp_path / "page.html").exists()


def test_interrupted_sweep_has_a_page_of_what_is_there(run, tmp_path, monkeypatch):
    output, page = tmp_path / "sweep", tmp_path / "page.html"
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(sweep(output)))
    interrupted = Runs(most=1)
    monkeypatch.setattr("lorakit.experiments.local_runs.local_runs", lambda at_once: interrupted)
    code, _, err = run("compare", file, "--html", page)
    assert code == 130
    assert err.splitlines()[-1] == "Interrupted; the same command goes on with what is left."
    for place in (output / "table.html", page):
        assert "1 to run" in place.read_text("utf-8")
