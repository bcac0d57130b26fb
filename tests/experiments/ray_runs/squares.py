"""A driver that has two nodes square numbers: `python squares.py ADDRESS DIRECTORY`.

A call notes its start in the directory and waits there for the file `go`. Prints a line for each
answer.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

from lorakit.experiments.ray_runs.cluster import Share
from lorakit.experiments.ray_runs.connection import connected


def square(argument: tuple[int, str]) -> Iterator[int | None]:
    number, place = argument
    (Path(place) / f"start-{number}-{uuid4().hex}").touch()
    yield None
    while not (Path(place) / "go").exists():
        time.sleep(0.05)
    if number < 0:
        raise ValueError(f"{number} is negative")
    yield number * number


def greeting(name: str) -> str:
    return os.environ[name]


def unknown_elsewhere(place: Path) -> Callable[[object], object]:
    """A function of a module that only this process can import."""
    (place / "only_here.py").write_text("def function(argument): return argument")
    sys.path.append(str(place))
    function: Callable[[object], object] = importlib.import_module("only_here").function
    return function


def say(*values: object) -> None:
    print(*values, file=sys.__stdout__, flush=True)  # sys.stdout is left to Ray


def main(address: str, place: str) -> None:
    with connected(address, Share(), {"GREETING": "hello"}) as cluster:
        say(cluster.at_once)
        say(*cluster.ask(cluster.nodes, greeting, "GREETING").values())
        say(*cluster.ask(cluster.nodes[:1], unknown_elsewhere(Path(place)), None).values())
        work = {number: (number, place) for number in (-1, 2, 3, 4)}
        for number, answer in cluster.run(square, work):
            say(number, answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
