"""Where a sweep runs: options of this machine and of a Ray cluster, which do not mix."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lorakit.cli.machines import Machines
from lorakit.errors import ConfigError
from lorakit.recipe.yaml_file import mapping_text
from tests.experiments.sweeps import sweep


def test_jobs_are_for_this_machine_and_cores_for_a_cluster() -> None:
    with pytest.raises(ConfigError, match="leave --jobs or --ray out"):
        Machines(jobs=2, ray="auto", cores=None, runs_per_gpu=None)
    with pytest.raises(ConfigError, match="--cores, --runs-per-gpu needs --ray"):
        Machines(jobs=None, ray=None, cores=2, runs_per_gpu=2)


def test_jobs_are_run_on_this_machine() -> None:
    with Machines(jobs=3, ray=None, cores=None, runs_per_gpu=None).executor() as (_, at_once):
        assert at_once == 3


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    file = tmp_path / "sweep.yaml"
    file.write_text(mapping_text(sweep(tmp_path / "runs")))
    return file


def test_an_address_without_ray_is_one_message(run, sweep_file: Path) -> None:
    code, out, err = run("compare", sweep_file, "--ray", "127.0.0.1:1")
    assert (code, out) == (1, "")
    assert err.startswith("No Ray cluster answers at '127.0.0.1:1': [Errno 111] Connection refused")
    assert len(err.splitlines()) == 1
    assert not (sweep_file.parent / "runs" / "sweep.yaml").exists(), "nothing was begun"


def test_a_missing_package_is_one_message_that_names_the_extra(
    run, sweep_file: Path, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = run("compare", sweep_file, "--ray", "auto")
    assert (code, err) == (
        1,
        "Runs on a Ray cluster need the package ray: pip install 'lorakit[ray]'\n",
    )


def test_finished_runs_take_no_cluster(run, tmp_path: Path) -> None:
    code, _, err = run("compare", tmp_path, "--ray", "auto")
    assert code == 1
    assert "--ray is for a sweep that is run, and these are finished runs" in err
