"""Test and measure lorakit on one accelerator: `python -m benchmarks.gpu_check`, or make gpu-check.

Each part is a process of its own with a time limit, so a crash, a hang or too little memory in one
does not stop the others. The result file is written again after each of them.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from benchmarks.gpu import processes, records, result_file
from benchmarks.gpu.parts import PARTS, Part
from benchmarks.provenance import ROOT
from benchmarks.tables import markdown

LEAST_SECONDS = 10
"""A part is not started with less: it would not get beyond its imports."""


def main() -> None:
    arguments = parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Terminated."))  # ends the part that runs
    chosen = [part for part in PARTS if part.name in (arguments.part or names())]
    folder = arguments.output or default_folder(arguments.device, arguments.part)
    deadline = monotonic() + 60 * arguments.minutes
    provenance = describe(arguments.device)
    path = folder / result_file.name(provenance)
    result = check(chosen, arguments.device, provenance, path, deadline)
    print(f"\n{markdown(result_file.summary(result))}\n\n{path}")
    bad = (result_file.FAILED, result_file.CUT_OFF, result_file.NOT_STARTED)
    sys.exit(any(part["state"] in bad for part in result["parts"].values()))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__)
    made.add_argument("--device", default="cuda", help="any of torch's; cpu: in small (cuda)")
    made.add_argument("--output", type=Path, metavar="DIR", help="where the result file goes")
    made.add_argument("--part", nargs="+", choices=names(), metavar="NAME",
                      help=f"some of {', '.join(names())}")  # fmt: skip
    made.add_argument("--minutes", type=float, default=8, help="of all parts together (8)")
    return made


def names() -> list[str]:
    return [part.name for part in PARTS]


def default_folder(device: str, some: Sequence[str] | None) -> Path:
    """A run that is small or not whole never replaces a whole one's result."""
    whole = device != "cpu" and not some
    return ROOT / (result_file.KEPT if whole else result_file.OTHERS)


def describe(device: str) -> dict[str, Any]:
    """Where the numbers come from; exits if the device does not answer."""
    with tempfile.TemporaryDirectory() as temporary:
        log = Path(temporary) / "log"
        command = [sys.executable, "-m", "benchmarks.provenance", device]
        ended = processes.run(command, 60, log, ROOT)
        if ended.code != 0:
            sys.exit(ended.last_lines or f"{device} did not answer.")
        found: dict[str, Any] = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    return {**found, "command": " ".join(["python -m benchmarks.gpu_check", *sys.argv[1:]])}


def check(
    chosen: Sequence[Part], device: str, provenance: dict[str, Any], path: Path, deadline: float
) -> dict[str, Any]:
    """Run the parts in their order, and keep what is known so far after each."""
    found: dict[str, Any] = {}
    result = {"check": "gpu", "small": device == "cpu", "provenance": provenance, "parts": found}
    for part in chosen:
        left = deadline - monotonic()
        if left < LEAST_SECONDS:
            found[part.name] = result_file.not_started(part)
        else:
            found[part.name] = measure(part, device, left)
        said = found[part.name]
        print(f"{part.name}: {said['state']}, {said['seconds']:.0f} s", flush=True)
        result_file.write(path, result)
    return result


def measure(part: Part, device: str, left: float) -> dict[str, Any]:
    """One part, in its process, within its own limit and the seconds left for all."""
    limit, whose = min((part.limit(device), "its own limit"), (left, result_file.TIME_OVER))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        command = part.command(device, quick=device == "cpu", records=folder / "records")
        ended = processes.run(command, limit, folder / "log", ROOT)
        said = records.read(folder / "records")
    return result_file.outcome(part, ended, f"killed after {limit:.0f} s: {whose}", said)


if __name__ == "__main__":
    main()
