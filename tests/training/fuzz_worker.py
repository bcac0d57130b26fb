"""Disturbs runs in one way, again and again, and lets the same command go on.

The process that imports everything never trains: each run is a fork of it, so a kill costs no new
import. Prints one line of JSON with what came of each case. A run ends with 0, with 1 and an error
of lorakit, or with 2 and anything else.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from lorakit.errors import LorakitError
from lorakit.recipe.schema import Recipe
from lorakit.runs.checkpoints import complete_checkpoints
from lorakit.training import train
from tests.runs.damage import DAMAGES, stray
from tests.training import tiny

Outcome = dict[str, Any]
KILLED = -signal.SIGKILL


@dataclass
class Fuzzer:
    """What every case uses."""

    base: Path
    data: Path
    directory: Path
    draw: random.Random
    long: bool
    """Whether runs have 48 steps and 16 checkpoints, in place of 12 and 4."""

    def __post_init__(self) -> None:
        began = time.monotonic()
        self.end(self.start(self.directory / "whole"))
        self.seconds = time.monotonic() - began
        self.expected = tiny.adapter_of(self.directory / "whole")

    def recipe(self, output: Path) -> Recipe:
        training = {"epochs": 8, "evaluations": 16} if self.long else {}
        return tiny.recipe(self.base, self.data, output, training=training)

    def start(self, output: Path, first: Callable[[], Any] = lambda: None) -> int:
        """The id of a process that does something and then runs the recipe."""
        child = os.fork()
        if child:
            return child
        try:
            first()
            train(self.recipe(output), self.say)
            os._exit(0)
        except LorakitError as error:
            self.say(str(error))
            os._exit(1)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(2)

    def say(self, text: str) -> None:
        file = self.directory / f"said-{os.getpid()}"
        with suppress(OSError), file.open("a") as opened:  # this file may not grow either
            opened.write(text + "\n")

    def said(self, child: int) -> str:
        file = self.directory / f"said-{child}"
        return file.read_text() if file.exists() else ""

    def end(self, child: int) -> int:
        """How the process ended."""
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def wait(self, least: float = 0.05) -> None:
        time.sleep(self.draw.uniform(least, 0.95) * self.seconds)

    def goes_on(self, output: Path) -> Outcome:
        """The same command again, and whether it ends with the weights of a run left in peace."""
        child = self.start(output)
        code = self.end(child)
        found = tiny.adapter_of(output) if code == 0 else {}
        equal = found.keys() == self.expected.keys() and all(
            torch.equal(found[name], self.expected[name]) for name in found
        )
        return {"then": code, "equal": equal, "said": self.said(child)}


def kill(fuzzer: Fuzzer, output: Path, case: int) -> Outcome | None:
    """At a random moment."""
    child = fuzzer.start(output)
    fuzzer.wait()
    os.kill(child, signal.SIGKILL)
    if fuzzer.end(child) != KILLED:
        return None  # it had ended before: no kill
    found = complete_checkpoints(output / "checkpoints")
    return {"newest": found[-1].name if found else None, **fuzzer.goes_on(output)}


def damage(fuzzer: Fuzzer, output: Path, case: int) -> Outcome:
    """A kill between two steps, and then a checkpoint that is not as it was written."""
    step = fuzzer.draw.randrange(7, 12)

    def killed_at_step() -> None:
        tiny.do_at_step(pytest.MonkeyPatch(), step, lambda: os.kill(os.getpid(), signal.SIGKILL))

    assert fuzzer.end(fuzzer.start(output, killed_at_step)) == KILLED
    *_, earlier, newest = complete_checkpoints(output / "checkpoints")
    kind = [*DAMAGES][case % len(DAMAGES)]
    DAMAGES[kind](newest, earlier)
    stray(output / "checkpoints")
    outcome = fuzzer.goes_on(output)
    told = f"{newest} is not used" in outcome["said"] or kind == "gone"
    return {"kind": kind, "told": told, **outcome}


def two_at_once(fuzzer: Fuzzer, output: Path, case: int) -> Outcome:
    """The second begins at a random moment of the first, which is killed in half of the cases."""
    first = fuzzer.start(output)
    fuzzer.wait(0)
    second = fuzzer.start(output)
    if case % 2:
        time.sleep(fuzzer.draw.uniform(0, 0.5) * fuzzer.seconds)
        os.kill(first, signal.SIGKILL)
    codes = [fuzzer.end(first), fuzzer.end(second)]
    said = {first: fuzzer.said(second), second: fuzzer.said(first)}
    refused = [f"is being written by process {pid} on " in text for pid, text in said.items()]
    return {"codes": codes, "refused": any(refused), **fuzzer.goes_on(output)}


def full_disk(fuzzer: Fuzzer, output: Path, case: int) -> Outcome:
    """No file may grow beyond some size."""
    size = int(2 ** fuzzer.draw.uniform(5, 15.3))

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    child = fuzzer.start(output, limited)
    code = fuzzer.end(child)
    return {"size": size, "code": code, **fuzzer.goes_on(output)}


def deleted(fuzzer: Fuzzer, output: Path, case: int) -> Outcome:
    """The output goes at a random moment."""
    child = fuzzer.start(output)
    fuzzer.wait()
    shutil.rmtree(output, ignore_errors=True)
    code = fuzzer.end(child)
    while output.exists():
        shutil.rmtree(output, ignore_errors=True)
    return {"code": code, **fuzzer.goes_on(output)}


CASES = {one.__name__: one for one in (kill, damage, two_at_once, full_disk, deleted)}


def main(base: Path, data: Path, directory: Path, kind: str, count: int) -> None:
    fuzzer = Fuzzer(base, data, directory, random.Random(), kind == "kill")
    outcomes: list[Outcome] = []
    while len(outcomes) < count:
        output = directory / f"run-{fuzzer.draw.random()}"
        outcome = CASES[kind](fuzzer, output, len(outcomes))
        outcomes += [outcome] if outcome is not None else []
    print(json.dumps(outcomes))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(Path, sys.argv[1:4]), sys.argv[4], int(sys.argv[5]))
