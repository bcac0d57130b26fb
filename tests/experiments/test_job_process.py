"""A job is a process: what it says, what ends it, and who waits for whom."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import closing
from pathlib import Path
from threading import Event, Thread

import pytest

from lorakit import errors
from lorakit.experiments.job_process import run_job
from lorakit.experiments.jobs import Job, Outcome, Outcomes
from lorakit.experiments.local_runs import local_runs
from lorakit.locks import exclusive
from tests.experiments import quick_program
from tests.experiments.quick_program import wait_for
from tests.experiments.sweeps import Runs, run, sweep, tiny_base


@pytest.fixture(autouse=True)
def quick_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick_program.install(tmp_path, monkeypatch)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    directory = tmp_path / "runs" / "seed-0"
    directory.parent.mkdir()
    found = Job("a run", "a kind", directory)
    recipe = {"output": str(directory), "method": "lora", "base": "b", "training": {"seed": 0}}
    found.recipe.write_text(json.dumps(recipe))
    return found


def ended(job: Job, program: str, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    monkeypatch.setenv("PROGRAM", program)
    return run_job(job, {"OMP_NUM_THREADS": "3"}, Event())


def test_a_job_that_ends_well_has_a_result_and_a_log(job: Job, monkeypatch) -> None:
    outcome = ended(job, "print('said', file=sys.stderr)", monkeypatch)
    assert outcome.error is None
    assert outcome.seconds > 0
    assert job.is_finished
    assert job.log.read_text().split() == ["threads", "3", "said"]
    assert not job.error.exists()


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("sys.exit('The data has no rows:\\n  - none')", "The data has no rows:\n  - none"),
        ("raise MemoryError('no room')", "MemoryError: no room"),
        (
            "os.kill(os.getpid(), 9)",
            "The process was ended by SIGKILL, as the system does where memory runs out.",
        ),
        ("os.kill(os.getpid(), 15)", "The process was ended by SIGTERM."),
        ("os._exit(3)", "The process ended with the exit code 3 and no result."),
        ("os._exit(0)", "The process ended with the exit code 0 and no result."),
    ],
)
def test_a_job_that_fails_says_why(job: Job, monkeypatch, program: str, error: str) -> None:
    assert ended(job, program, monkeypatch).error == error
    assert job.error.read_text() == error
    assert ended(job, "", monkeypatch).error is None
    assert not job.error.exists(), "it has not failed any more"


def test_a_finished_job_is_not_begun_again(job: Job, monkeypatch) -> None:
    ended(job, "", monkeypatch)
    assert ended(job, "sys.exit('again')", monkeypatch).error is None


def test_a_job_that_another_process_makes_is_waited_for(job: Job, monkeypatch) -> None:
    """An earlier call was killed, and what it had started goes on."""
    ended(job, "", monkeypatch)
    result = job.directory / "result.json"
    result.rename(result.with_suffix(".kept"))
    outcomes: list[Outcome] = []
    with exclusive(job.directory):
        waiting = Thread(target=lambda: outcomes.append(run_job(job, {}, Event())))
        waiting.start()
        time.sleep(0.3)
        assert not outcomes
        result.with_suffix(".kept").rename(result)
    waiting.join(10)
    assert [outcome.error for outcome in outcomes] == [None]
    assert job.directory.with_name("seed-0.begun").read_text() == "x", "it was begun once"


def test_a_job_whose_directory_is_taken_while_it_starts_waits_as_well(
    job: Job, monkeypatch
) -> None:
    """An orphan that was still importing when it was looked for."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    taken = job.directory.with_name("taken")
    monkeypatch.setenv("BEFORE", f"while not os.path.exists({str(taken)!r}): time.sleep(0.01)")
    outcomes: list[Outcome] = []
    running = Thread(target=lambda: outcomes.append(run_job(job, {}, Event())))
    running.start()
    wait_for(lambda: job.log.exists() and "threads" in job.log.read_text())
    with exclusive(job.directory):
        taken.touch()
        wait_for(lambda: job.log.exists() and "is being written" in job.log.read_text())
        assert not outcomes
    running.join(10)
    assert [outcome.error for outcome in outcomes] == [None]
    assert job.is_finished
    assert not job.error.exists()


def test_a_job_is_interrupted_and_has_not_failed(job: Job, monkeypatch) -> None:
    monkeypatch.setenv("PROGRAM", "try: time.sleep(60)\nexcept KeyboardInterrupt: os._exit(130)")
    stop, outcomes = Event(), list[Outcome]()
    running = Thread(target=lambda: outcomes.append(run_job(job, {"OMP_NUM_THREADS": "1"}, stop)))
    running.start()
    wait_for(lambda: job.directory.with_name("seed-0.begun").exists())
    stop.set()
    running.join(10)
    assert outcomes, "it waits for nothing else"
    assert not job.error.exists()


def test_what_is_left_is_not_begun_when_nobody_wants_the_rest(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PROGRAM", "time.sleep(0.3)")
    with pytest.raises(_EnoughError):
        run(sweep(tmp_path), _stopping)
    assert 1 <= len(list(tmp_path.rglob("*.begun"))) < 8
    run(sweep(tmp_path), local_runs(2))
    assert len(list(tmp_path.rglob("result.json"))) == 8
    assert not list(tmp_path.rglob("*.error"))


def test_cores_are_divided(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("lorakit.experiments.local_runs.cores", lambda: 6)
    run(sweep(tmp_path, tasks=["one"]), local_runs(2))
    assert {log.read_text() for log in tmp_path.rglob("*.log")} == {"threads 3\n"}


@pytest.mark.parametrize("whom", ["the sweep", "the sweep and its runs"])
def test_kill_9_loses_nothing_and_repeats_no_finished_run(tmp_path, monkeypatch, whom) -> None:
    monkeypatch.setenv("PROGRAM", "time.sleep(0.2)")
    mapping = sweep(tmp_path, seeds=[0, 1, 2])
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        run(mapping, local_runs(2))
        os._exit(0)
    wait_for(lambda: len(list(tmp_path.rglob("result.json"))) >= 2)
    running = [int(json.loads(note.read_text())["pid"]) for note in tmp_path.rglob("*.lock.json")]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if whom == "the sweep and its runs":
        for process in {*running} - {child}:
            _kill(process)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("result.json")}
    table = run(mapping, local_runs(2))
    assert [cell.seeds for row in table.rows for cell in row.cells] == [(0, 1, 2)] * 4
    assert {file: file.stat().st_mtime_ns for file in before} == before
    begun = {file: len(file.read_text()) for file in tmp_path.rglob("*.begun")}
    assert len(begun) == 12
    again = [file for file, times in begun.items() if times > 1]
    assert len(again) <= (0 if whom == "the sweep" else 2), "but for what was killed"
    last = Runs()
    assert run(mapping, last) == table
    assert last.names == []


def test_a_disk_that_fills_up_midway_leaves_what_is_finished(tmp_path, monkeypatch, mount) -> None:
    monkeypatch.setenv("PROGRAM", "(output / 'adapter').write_bytes(bytes(1 << 20))")
    output = tmp_path / "runs"
    output.mkdir()
    mount(output, "size=4m")
    mapping = sweep(output, base=str(tiny_base(tmp_path)))
    with pytest.raises(errors.SaveError) as found:
        run(mapping, local_runs(1))
    assert "No space left on device" in str(found.value)
    assert "run the same command again" in str(found.value)
    before = {file: file.stat().st_mtime_ns for file in output.rglob("result.json")}
    assert 1 <= len(before) < 8
    mount(output, "remount,size=64m")
    assert run(mapping, local_runs(1)).failures == ()
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert len(list(output.rglob("result.json"))) == 8


class _EnoughError(Exception):
    pass


def _stopping(jobs, started) -> Outcomes:
    """Fails after the first job."""
    with closing(local_runs(1)(jobs, started)) as outcomes:
        yield next(outcomes)
        raise _EnoughError


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return
    wait_for(lambda: not Path(f"/proc/{process}").exists() or _is_zombie(process))


def _is_zombie(process: int) -> bool:
    return ") Z " in Path(f"/proc/{process}/stat").read_text()
