"""What the process's container may still take: control groups' limits, which psutil leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_OWN, _MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class _Version:
    """Where a version of Linux' control groups says what."""

    controller: str
    """In the lines of /proc/self/cgroup."""
    folder: str
    limit: str
    used: str
    cached: str
    """In memory.stat: the pages of files that are given back when room is needed."""


_VERSIONS = (
    _Version("", "", "memory.max", "memory.current", "inactive_file"),
    _Version(
        "memory",
        "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def container_room(own: Path = _OWN, mount: Path = _MOUNT) -> int | None:
    """The bytes that the narrowest control group around this process has left; None: no limit."""
    found = [
        room
        for version in _VERSIONS
        for group in _groups(version, own, mount)
        if (room := _room(version, group)) is not None
    ]
    return min(found, default=None)


def _groups(version: _Version, own: Path, mount: Path) -> Iterator[Path]:
    """The process's group and those that it is in, up to the one that is mounted."""
    try:
        lines = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:  # no Linux, or no control groups
        return
    top = mount / version.folder
    for path in (line[2] for line in lines if version.controller in line[1].split(",")):
        group = top / path.lstrip("/")
        yield from (place for place in (group, *group.parents) if place.is_relative_to(top))


def _room(version: _Version, group: Path) -> int | None:
    try:
        limit = (group / version.limit).read_text(encoding="utf-8").strip()
        used = int((group / version.used).read_text(encoding="utf-8"))
        stat = (group / "memory.stat").read_text(encoding="utf-8").splitlines()
    except OSError:  # a group outside of the container, or the root, which has no limit
        return None
    cached = dict(line.split() for line in stat).get(version.cached, "0")
    return None if limit == "max" else max(0, int(limit) - used + int(cached))
