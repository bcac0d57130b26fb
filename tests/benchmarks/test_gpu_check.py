"""The check of a device: its parts do not depend on one another, and what was measured is kept."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_check, provenance
from benchmarks.gpu import device_tests, records, result_file
from benchmarks.gpu.parts import PARTS, Part

ROW = "; w('row', {'a': 1})"
WRITE = (
    "import sys, os, time; from benchmarks.gpu.records import writer; from pathlib import Path; "
    "w = writer(Path(sys.argv[-1]))"
)


def part(name: str, code: str, seconds: float = 60) -> Part:
    """A part that runs this Python; its last argument is the file for its records."""
    return Part(name, f"Title of {name}", ("-c", WRITE + code), seconds)


def run_parts(folder: Path, *parts: Part, seconds: float = 100) -> dict[str, Any]:
    path = folder / "cpu.json"
    gpu_check.check(parts, "cpu", {}, path, time.monotonic() + seconds)
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["parts"]
    return found


def test_a_part_that_fails_does_not_stop_the_others(tmp_path):
    found = run_parts(
        tmp_path,
        part("fails", ROW + "; raise MemoryError('too little of it')"),
        part("crashes", ROW + "; os.kill(os.getpid(), 11)"),
        part("works", ROW),
    )
    assert [(p["state"], p["rows"]) for p in found.values()] == [
        ("failed", [{"a": 1}]),
        ("failed", [{"a": 1}]),
        ("done", [{"a": 1}]),
    ]
    assert found["fails"]["error"].splitlines()[-1] == "MemoryError: too little of it"
    assert found["crashes"]["exit_status"] == -11


def test_a_part_that_hangs_is_cut_off_with_what_it_has_measured(tmp_path):
    pids = tmp_path / "pid"
    code = (
        f"{ROW}; import subprocess; p = subprocess.Popen([sys.executable, '-c', 'import time; "
        f"time.sleep(99)']); Path({str(pids)!r}).write_text(str(p.pid)); print('waits', flush=True)"
        "; time.sleep(99)"
    )
    found = run_parts(tmp_path, part("hangs", code, seconds=1), part("works", ROW))
    assert found["hangs"]["state"] == "cut off"
    assert found["hangs"]["rows"] == [{"a": 1}]
    assert found["hangs"]["reason"] == "killed after 3 s: its own limit"
    assert found["hangs"]["error"] == "waits"
    assert found["works"]["state"] == "done"
    assert not is_running(int(pids.read_text()))  # what it started ended with it


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_what_the_time_of_the_check_does_not_allow_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "LEAST_SECONDS", 3)
    found = run_parts(tmp_path, part("long", "; time.sleep(99)"), part("last", ROW), seconds=4)
    assert found["long"]["reason"] == "killed after 4 s: the time of the whole check was over"
    assert found["last"] == {
        "title": "Title of last",
        "state": "not started",
        "seconds": 0,
        "rows": [],
        "reason": "the time of the whole check was over",
    }


def test_a_part_that_cannot_measure_says_why(tmp_path):
    found = run_parts(tmp_path, part("needs", "; w('skipped', 'no datasets')"))
    assert (found["needs"]["state"], found["needs"]["reason"]) == ("skipped", "no datasets")


def test_the_result_is_written_after_each_part(tmp_path):
    path = tmp_path / "cpu.json"
    code = f"; import json; w('row', {{'parts': len(json.load(open({str(path)!r}))['parts'])}})"
    found = run_parts(tmp_path, part("first", ROW), part("second", ROW), part("third", code))
    assert found["third"]["rows"] == [{"parts": 2}]
    assert [file.name for file in tmp_path.iterdir()] == ["cpu.json"]


def test_half_a_record_is_left_out(tmp_path):
    path = tmp_path / "records"
    records.writer(path)("row", {"a": 1})
    with path.open("a") as file:
        file.write('{"row": {"a"')
    assert records.read(path) == [("row", {"a": 1})]
    assert records.read(tmp_path / "none") == []


def test_a_kind_of_device_has_one_file():
    device = {"name": "NVIDIA GeForce RTX 4090"}
    assert result_file.name({"hardware": {"device": device}}) == "nvidia-geforce-rtx-4090.json"
    assert result_file.name({"hardware": {"device": "cpu"}}) == "cpu.json"


@pytest.mark.parametrize(
    ("device", "some", "folder"),
    [
        ("cuda", None, result_file.KEPT),
        ("cuda", ["steps"], result_file.OTHERS),
        ("cpu", None, result_file.OTHERS),
    ],
)
def test_only_a_whole_run_replaces_a_kept_result(device, some, folder):
    assert gpu_check.default_folder(device, some) == provenance.ROOT / folder


def test_a_device_that_is_not_there_ends_the_check(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["gpu_check", "--device", "cuda:99", "--output", str(tmp_path)])
    with pytest.raises(SystemExit, match="There is no device cuda:99 here"):
        gpu_check.main()
    assert list(tmp_path.iterdir()) == []


def test_parts_have_names_of_their_own():
    assert len({part.name for part in PARTS}) == len(PARTS)


# --- the tests on a device

CONFTEST = "def pytest_addoption(parser):\n    parser.addoption('--device')\n"
TESTS = """
import os, pytest
def test_passes(request): assert request.config.getoption("--device") == "cpu"
def test_fails(): assert 1 == 2, "one is not two"
def test_skips(): pytest.skip("no GPU")
def test_dies(): os._exit(3)
def test_never(): pass
"""


def part_of_tests(folder: Path) -> Part:
    arguments = ("-m", "benchmarks.gpu.device_tests", str(folder))
    return Part("tests", "Tests", arguments, 60, device_tests.collect)


def test_each_test_is_counted_also_if_the_process_dies(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_one.py").write_text(TESTS)
    (tmp_path / "test_two.py").write_text("import not_there\n")
    found = run_parts(tmp_path, part_of_tests(tmp_path))["tests"]
    assert found["state"] == "failed"
    assert [(row["passed"], row["failed"], row["skipped"]) for row in found["rows"]] == [(0, 1, 0)]
    assert "not_there" in found["failures"][0]["message"]
    (tmp_path / "test_two.py").unlink()
    found = run_parts(tmp_path, part_of_tests(tmp_path))["tests"]
    assert (found["state"], found["exit_status"]) == ("failed", 3)
    assert [(row["passed"], row["failed"], row["skipped"]) for row in found["rows"]] == [(1, 1, 1)]
    assert [failure["test"].partition("::")[2] for failure in found["failures"]] == ["test_fails"]
    assert "one is not two" in found["failures"][0]["message"]
    assert found["skips"] == {"Skipped: no GPU": 1}
    assert [test.partition("::")[2] for test in found["not_ended"]] == ["test_dies"]


def test_a_folder_without_tests_is_said(tmp_path):
    found = run_parts(tmp_path, part_of_tests(tmp_path / "none"))["tests"]
    assert found["state"] == "skipped"
    assert found["reason"] == f"there are no tests in {tmp_path / 'none'}"


# --- the whole of it


@pytest.mark.slow
@pytest.mark.timeout(1800)  # with all of tests/gpu, on a machine that may be shared
def test_the_whole_check_runs_in_small_on_a_cpu(tmp_path, monkeypatch, capsys):
    options = ["--device", "cpu", "--output", str(tmp_path), "--minutes", "30"]
    monkeypatch.setattr("sys.argv", ["gpu_check", *options])
    with pytest.raises(SystemExit) as ended:
        gpu_check.main()
    result = json.loads((tmp_path / "cpu.json").read_text(encoding="utf-8"))
    assert list(result["parts"]) == gpu_check.names()
    for name, found in result["parts"].items():
        assert found["state"] in ("done", "skipped"), (name, found.get("error"))
        assert found["rows"] or found["reason"]
    assert result["small"]
    assert result["provenance"]["hardware"]["device"] == "cpu"
    assert not ended.value.code
    assert "| steps | done |" in capsys.readouterr().out
    assert os.listdir(tmp_path) == ["cpu.json"]
