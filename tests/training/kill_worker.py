"""Starts a run again and again, kills each at a random moment, and lets it continue.

The process that imports everything never trains: each run is a fork of it, so a kill costs no new
import. Prints one line of JSON: for each kill, whether it hit a run that was going on, the newest
checkpoint then, and whether the weights were those of the uninterrupted run.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from safetensors.torch import load_file

from lorakit.runs.checkpoints import complete_checkpoints
from lorakit.training import train
from tests.training import tiny


def start(base: Path, data: Path, output: Path) -> int:
    """The id of a process that runs the recipe."""
    child = os.fork()
    if child:
        return child
    try:
        training = {"epochs": 8, "evaluations": 16}
        train(tiny.recipe(base, data, output, training=training), lambda text: None)
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)


def finish(child: int) -> None:
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"a run failed with {status}")


def main(base: Path, data: Path, directory: Path, kills: int) -> None:
    began = time.monotonic()
    finish(start(base, data, directory / "whole"))
    duration = time.monotonic() - began
    expected = weights(directory / "whole")
    draw = random.Random()
    outcomes = []
    while len(outcomes) < kills:
        output = directory / f"killed-{len(outcomes)}-{draw.random()}"
        child = start(base, data, output)
        time.sleep(draw.uniform(0.05, 0.95) * duration)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            continue  # it had ended before: no kill
        found = complete_checkpoints(output / "checkpoints")
        finish(start(base, data, output))
        newest = found[-1].name if found else None
        equal = weights(output) == expected
        outcomes.append({"killed": True, "newest": newest, "equal": equal})
    print(json.dumps(outcomes))


def weights(output: Path) -> dict[str, list[float]]:
    """The values, as float32 says them; the file's header lists its entries in any order."""
    tensors = load_file(output / "adapter/adapter_model.safetensors")
    return {name: value.flatten().tolist() for name, value in tensors.items()}


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), int(sys.argv[4]))
