"""`lorakit compare` of a sweep: run, listed, printed again, refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lorakit.recipe.yaml_file import mapping_text
from tests.cli.files import write_csv
from tests.experiments import quick_program
from tests.experiments.quick_program import wait_for
from tests.experiments.sweeps import sweep

ROWS = [("a joy", "good"), ("a bore", "bad"), ("warm and wise", "good"), ("a mess", "bad")] * 8


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep whose runs take no time."""
    quick_program.install(tmp_path, monkeypatch)
    file = tmp_path / "s.yaml"
    file.write_text(mapping_text(sweep(tmp_path / "runs", tasks=["one"])))
    return file


def test_a_sweep_is_run_and_its_directory_prints_the_table_again(run, file: Path) -> None:
    code, out, err = run("compare", file, "--jobs", 2)
    assert code == 0, err
    assert out.splitlines()[0].split("  ")[1:2] == [""]
    assert "one accuracy" in out
    assert "about " in err
    assert "tiny/one/lora seed 1: finished" in err
    assert "[4 of 4 runs]" in err
    assert run("compare", file.parent / "runs") == (0, out, "")
    code, again, err = run("compare", file)
    assert (code, again) == (0, out)
    assert err == f"[4 of 4 runs] 4 finished runs of this sweep in {file.parent}/runs\n"


def test_a_dry_run_lists_the_runs_and_makes_none(run, file: Path) -> None:
    code, out, err = run("compare", file, "--dry-run", "--json")
    assert code == 0, err
    assert [(r["name"], r["state"]) for r in json.loads(out)["runs"]] == [
        ("tiny/one/head seed 0", "to run"), ("tiny/one/head seed 1", "to run"),
        ("tiny/one/lora seed 0", "to run"), ("tiny/one/lora seed 1", "to run"),
    ]  # fmt: skip
    assert not list(file.parent.rglob("result.json"))
    run("compare", file, "--set", "seeds=[0]")
    out = run("compare", file, "--dry-run")[1]
    assert out.splitlines()[-1] == "4 runs, 2 finished, 2 to make"


def test_a_run_that_fails_stands_in_the_table_and_the_exit_code_is_1(
    run, file: Path, monkeypatch
) -> None:
    monkeypatch.setenv("PROGRAM", "if recipe['method'] == 'head': sys.exit('no room')")
    code, out, _ = run("compare", file, "--json")
    assert code == 1
    table = json.loads(out)
    assert [row["cells"][0]["failed"] for row in table["rows"]] == [2, 0]
    assert [failure["error"] for failure in table["failures"]] == ["no room"] * 2
    code, out, _ = run("compare", file.parent / "runs")
    assert code == 1
    assert "failed: tiny/one/head seed 0 and 1 other: no room" in out
    monkeypatch.setenv("PROGRAM", "")
    assert run("compare", file)[0] == 0


def test_ctrl_c_ends_the_runs_leaves_the_tables_and_says_how_to_go_on(
    run, file: Path, monkeypatch
) -> None:
    """As the slow test below, in a process that has imported all, with runs that learn nothing."""
    waits = "try: time.sleep(60)\n    except KeyboardInterrupt: sys.exit(130)"
    monkeypatch.setenv("PROGRAM", f"if recipe['training']['seed']:\n    {waits}")
    said = file.with_name("said")
    child = os.fork()
    if child == 0:
        code, _, err = run("compare", file, "--jobs", 2)
        said.write_text(err)
        os._exit(code)
    wait_for(lambda: len(list(file.parent.rglob("*.begun"))) == 4)
    os.kill(child, signal.SIGINT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    assert said.read_text().endswith("Interrupted; the same command goes on with what is left.\n")
    assert not list(file.parent.rglob("*.lock.json")), "nothing is left running"
    assert not list(file.parent.rglob("*.error"))
    assert "1 to run" in (file.parent / "runs" / "table.html").read_text("utf-8")
    monkeypatch.setenv("PROGRAM", "")
    assert run("compare", file)[0] == 0
    begun = [len(note.read_text()) for note in sorted(file.parent.rglob("*.begun"))]
    assert begun == [1, 2, 1, 2], "what was finished is not made again"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "seeds=[3]"), "--set is for a sweep that is run"),
        (("--jobs", "2"), "--jobs is for a sweep that is run"),
        (("--dry-run",), "--dry-run is for a sweep that is run"),
    ],
)
def test_options_of_running_are_refused_for_what_is_finished(run, file, options, message) -> None:
    run("compare", file)
    for finished in (file.parent / "runs", file.parent / "runs" / "tiny" / "one" / "head"):
        code, _, err = run("compare", finished, *options)
        assert code == 1
        assert message in err


def test_a_sweep_stands_alone(run, file: Path) -> None:
    code, _, err = run("compare", file, file.parent)
    assert code == 1
    assert f"{file} is a sweep, which stands alone" in err


def test_the_shipped_sweeps_are_found_by_name(run) -> None:
    code, _, err = run("compare", "reviews", "--set", "base=nowhere/at-all", "--dry-run")
    assert code == 1
    assert "nowhere/at-all" in err


@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--set", "seeds=[1]"), ("--jobs", "2")])
def test_a_misspelt_sweep_is_named_so_whatever_the_options(run, options) -> None:
    code, _, err = run("compare", "glue-redme", *options)
    assert code == 1
    assert err.startswith("glue-redme is neither a directory nor a sweep (did you mean 'glue-rea")


@pytest.fixture
def real(small_bert: Path, tmp_path: Path) -> Path:
    """A sweep that trains: two methods, two seeds each, a choice for one."""
    data = write_csv(tmp_path / "data.csv", [("text", "label"), *ROWS])
    settings = {"data.train": str(data), "data.task": "classification", "training.epochs": 30}
    settings |= {"data.text": ["text"], "data.label": "label", "training.total_batch": 8}
    methods = {"head": {"training.learning_rate": 0.01}, "lora": None}
    file = tmp_path / "s.yaml"
    rates = {"training.learning_rate": [1e-3, 1e-2]}
    methods["lora"] = {"choose": rates}
    mapping = sweep(
        tmp_path / "runs", base=str(small_bert), tasks=["one"], methods=methods, settings=settings
    )
    file.write_text(mapping_text(mapping))
    return file


def compare(file: Path, **options) -> subprocess.Popen[str]:
    """A process of its own, and what it starts."""
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program += "from lorakit.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, "compare", str(file), "--jobs", "2"],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def states(directory: Path) -> dict[str, int]:
    """The finished runs, and when they were finished."""
    return {str(f): f.stat().st_mtime_ns for f in sorted(directory.rglob("result.json"))}


@pytest.mark.slow
def test_kill_9_at_any_time_loses_and_repeats_nothing(real: Path) -> None:
    finished: dict[str, int] = {}
    for seconds in (8.0, 12.0, 16.0, 20.0):
        process = compare(real)
        time.sleep(seconds)
        process.kill()
        process.communicate()
        found = states(real.parent)
        assert {name: found.get(name) for name in finished} == finished
        finished = found
    process = compare(real)
    _, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    found = states(real.parent)
    assert {name: found[name] for name in finished} == finished
    assert len(found) == 2 + 2 + 2
    for log in real.parent.rglob("seed-*.log"):
        text = log.read_text()
        seen = text.count("is finished already")  # by one that started beside what was orphaned
        assert text.count("test rows after") - seen == 1, "it was trained to its end once"


@pytest.mark.slow
def test_ctrl_c_ends_the_runs_and_says_how_to_go_on(real: Path) -> None:
    process = compare(real)
    notes: list[Path] = []
    deadline = time.monotonic() + 200
    while not notes:  # a run holds its directory
        assert time.monotonic() < deadline
        notes = list(real.parent.glob("runs/*/**/.lorakit.lock.json"))
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "Interrupted; the same command goes on with what is left."
    assert not any(note.exists() for note in notes), "nothing is left running"
    assert not list(real.parent.rglob("*.error"))
    process = compare(real)
    _, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
