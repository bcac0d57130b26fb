"""The room that control groups leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorakit.training import memory
from lorakit.training.container_memory import container_room

V1_NO_LIMIT = 9223372036854771712
V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def group(folder: Path, names, limit: object, used: int, cached: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, used), strict=False):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {cached}\n")


@pytest.fixture
def room(tmp_path):
    own = tmp_path / "own"

    def read(lines: str) -> int | None:
        own.write_text(lines)
        return container_room(own, tmp_path)

    return read


def test_version_2_has_its_limit_less_what_is_used_and_not_cached(room, tmp_path):
    group(tmp_path, V2, 1000, 300, 100)
    assert room("0::/\n") == 800


def test_narrowest_of_the_groups_around_counts(room, tmp_path):
    group(tmp_path / "a.slice", V2, 500, 450, 0)
    group(tmp_path / "a.slice" / "b.scope", V2, "max", 300, 0)
    assert room("0::/a.slice/b.scope\n") == 50


def test_version_1_has_the_memory_controllers_limit(room, tmp_path):
    group(tmp_path / "memory", V1, 1000, 400, 100)
    assert room("4:cpu,cpuacct:/\n3:memory:/docker/hidden-from-inside\n") == 700


@pytest.mark.parametrize("lines", ["0::/\n", "3:memory:/\n", ""])
def test_no_limit(room, tmp_path, lines):
    group(tmp_path, V2, "max", 300, 0)
    assert room(lines) is None


def test_machine_without_control_groups_has_no_limit(tmp_path):
    assert container_room(tmp_path / "none", tmp_path) is None


@pytest.mark.parametrize(("left", "expected"), [(None, 5000), (800, 800), (V1_NO_LIMIT, 5000)])
def test_available_memory_is_the_containers_where_it_is_lower(monkeypatch, left, expected):
    monkeypatch.setattr(memory.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(memory, "container_room", lambda: left)
    monkeypatch.setattr(
        memory.psutil, "virtual_memory", lambda: type("Free", (), {"available": 5000})
    )
    assert memory.available_memory() == expected
