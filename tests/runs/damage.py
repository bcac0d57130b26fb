"""Ways in which a checkpoint can be other than it was written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from lorakit.runs.checkpoints import COMPLETE, STATE, mark_complete

Damage = Callable[[Path, Path], None]
"""Does something to a checkpoint, given an earlier one."""

FILES = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", STATE)


def delete(name: str) -> Damage:
    return lambda checkpoint, earlier: (checkpoint / name).unlink()


def empty(name: str) -> Damage:
    return lambda checkpoint, earlier: (checkpoint / name).write_bytes(b"")


def cut(name: str) -> Damage:
    def damage(checkpoint: Path, earlier: Path) -> None:
        content = (checkpoint / name).read_bytes()
        (checkpoint / name).write_bytes(content[: len(content) // 2])

    return damage


def flip(name: str) -> Damage:
    """One bit in the middle."""

    def damage(checkpoint: Path, earlier: Path) -> None:
        content = bytearray((checkpoint / name).read_bytes())
        content[len(content) // 2] ^= 1
        (checkpoint / name).write_bytes(content)

    return damage


def from_earlier(name: str) -> Damage:
    def damage(checkpoint: Path, earlier: Path) -> None:
        shutil.copy(earlier / name, checkpoint / name)

    return damage


def as_directory(name: str) -> Damage:
    def damage(checkpoint: Path, earlier: Path) -> None:
        (checkpoint / name).unlink()
        (checkpoint / name).mkdir()

    return damage


def marked(text: str) -> Damage:
    return lambda checkpoint, earlier: (checkpoint / COMPLETE).write_text(text)


def renamed(checkpoint: Path, earlier: Path) -> None:
    """The earlier one under the name of the later."""
    shutil.rmtree(checkpoint)
    shutil.copytree(earlier, checkpoint)


def newer_state(checkpoint: Path, earlier: Path) -> None:
    """A field that this version of transformers does not know, and a mark that fits."""
    state = json.loads((checkpoint / STATE).read_text())
    (checkpoint / STATE).write_text(json.dumps({**state, "energy": 1}))
    remark(checkpoint)


def remark(checkpoint: Path) -> None:
    (checkpoint / COMPLETE).unlink()
    mark_complete(checkpoint, 1.0)


def added(checkpoint: Path, earlier: Path) -> None:
    (checkpoint / "model.safetensors").write_bytes(b"")


def gone(checkpoint: Path, earlier: Path) -> None:
    shutil.rmtree(checkpoint)


def a_file(checkpoint: Path, earlier: Path) -> None:
    shutil.rmtree(checkpoint)
    checkpoint.write_text("")


DAMAGES: dict[str, Damage] = {
    f"{kind.__name__} {name}": kind(name)
    for kind in (delete, empty, cut, flip, from_earlier, as_directory)
    for name in FILES
}
DAMAGES |= {f"{kind.__name__} {COMPLETE}": kind(COMPLETE) for kind in (delete, cut, from_earlier)}
MARKS = ("", "{", "[]", "null", "1", '{"seconds": 1.0}', '{"seconds": "x", "files": {}}',
         '{"seconds": 1.0, "files": {}}', '{"seconds": 1.0, "files": [1]}', "[" * 99999,
         '{"seconds": 1' + "0" * 400 + ', "files": {}}')  # fmt: skip
DAMAGES |= {f"marked {i}": marked(text) for i, text in enumerate(MARKS)}
DAMAGES |= {one.__name__: one for one in (renamed, newer_state, added, gone, a_file)}


def stray(run: Path) -> None:
    """What others leave in the directory of checkpoints; none of it is one."""
    for name in (
        "checkpoint-foo",
        "checkpoint-",
        "checkpoint--1",
        "checkpoint-9.bak",
        "checkpoint-²",
    ):
        (run / name).mkdir()
        (run / name / COMPLETE).write_text("{}")
    (run / "checkpoint-77").write_text("")
    (run / "checkpoint-78").mkdir()
