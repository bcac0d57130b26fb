"""What made a page: the command, its date, the versions and the machine."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("lorakit", "torch", "transformers")
_CPU_INFO = Path("/proc/cpuinfo")


def provenance(command: str) -> tuple[tuple[str, str], ...]:
    """What made a page by this `command`: itself, the date, the versions, the machine.

    These are names and values for `Page.provenance`; nothing else of a page changes with time.
    """
    return (
        ("Command", command),
        ("Date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("Versions", ", ".join([f"Python {platform.python_version()}", *_versions()])),
        ("Machine", f"{_processor()}, {os.cpu_count()} cores, {platform.system()}"),
    )


def _versions() -> list[str]:
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    """The processor's name; Linux alone says it in a file, the others to Python."""
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text("utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
