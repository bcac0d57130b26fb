"""How many runs there are at a time on this machine, where nobody says it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lorakit.experiments import local_runs
from lorakit.training import memory


@pytest.mark.parametrize(
    ("machine", "container", "expected"),
    [
        (64, None, 8),
        (64, 9, 2),
        (64, 1, 1),
        (13, 64, 3),
        (0, None, 1),
    ],
)
def test_runs_are_as_many_as_cores_and_free_memory_allow(
    monkeypatch: pytest.MonkeyPatch, machine: int, container: int | None, expected: int
) -> None:
    """In GB: of the machine, and of the container where it has a limit."""
    room = None if container is None else container * 10**9
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(local_runs, "cores", lambda: 8)
    monkeypatch.setattr(memory, "container_room", lambda: room)
    free = SimpleNamespace(available=machine * 10**9)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: free)
    assert local_runs.default_at_once() == expected


def test_an_accelerator_is_filled_by_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    assert local_runs.default_at_once() == 1
