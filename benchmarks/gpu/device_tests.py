"""The tests in tests/gpu, on the device."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.gpu.records import Record, Write, writer

FOLDER = "tests/gpu"
OPTIONS = ("-p", "no:cacheprovider", "-W", "default", "--timeout=60")
NO_TESTS = 5
"""pytest's exit status if it found none."""
MOST_CHARACTERS = 600
"""Kept of the message of a failure."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--device", required=True)
    parser.add_argument("--quick", action="store_true", help="has no meaning here")
    parser.add_argument("--records", type=Path, required=True)
    arguments = parser.parse_args()
    sys.exit(run(arguments.folder, arguments.device, writer(arguments.records)))


def run(folder: str, device: str, write: Write) -> int:
    """pytest's exit status; each test is recorded when it begins and when it ends."""
    if missing := [name for name in ("pytest", "pytest_timeout") if not find_spec(name)]:
        write("skipped", f"not installed: {', '.join(missing)}")
        return 0
    if not Path(folder).is_dir():
        write("skipped", f"there are no tests in {folder}")
        return 0
    import pytest

    code = pytest.main([folder, "--device", device, *OPTIONS], plugins=[Recorder(write)])
    if code == NO_TESTS:
        write("skipped", f"pytest found no tests in {folder}")
        return 0
    return int(code)


class Recorder:
    """A plugin of pytest."""

    def __init__(self, write: Write) -> None:
        self.write = write

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.write("begun", nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A test that passes is known after its call; one that does not, wherever it stops."""
        if report.when == "call" or report.outcome != "passed":
            self.record(report, report.duration)

    def pytest_collectreport(self, report: Any) -> None:
        """A file that cannot be imported counts as a test that failed."""
        if report.outcome != "passed":
            self.record(report, 0.0)

    def record(self, report: Any, seconds: float) -> None:
        test = {"test": report.nodeid, "outcome": report.outcome, "seconds": round(seconds, 3)}
        self.write("test", {**test, "message": message_of(report)})


def message_of(report: Any) -> str:
    """The reason of a skip, the last words of a failure."""
    if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    crash = getattr(report.longrepr, "reprcrash", None)
    text = "" if report.longrepr is None else str(crash.message if crash else report.longrepr)
    return text[:MOST_CHARACTERS]


def collect(records: list[Record]) -> dict[str, Any]:
    """Counts by file, the tests that failed, why others were skipped, which one never ended."""
    tests = [value for name, value in records if name == "test"]
    ended = {test["test"] for test in tests}
    files = dict.fromkeys(test["test"].partition("::")[0] for test in tests)
    return {
        "rows": [row(file, tests) for file in files],
        "failures": [
            {"test": test["test"], "message": test["message"]}
            for test in tests
            if test["outcome"] == "failed"
        ],
        "skips": dict(Counter(t["message"] for t in tests if t["outcome"] == "skipped")),
        "not_ended": [value for name, value in records if name == "begun" and value not in ended],
    }


def row(file: str, tests: list[Any]) -> dict[str, Any]:
    here = [test for test in tests if test["test"].partition("::")[0] == file]
    counts = Counter(test["outcome"] for test in here)
    outcomes = {outcome: counts[outcome] for outcome in ("passed", "failed", "skipped")}
    return {"file": file, **outcomes, "seconds": round(sum(t["seconds"] for t in here), 1)}


if __name__ == "__main__":
    main()
