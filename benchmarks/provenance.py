"""Where a number comes from: command, code, date, hardware, versions. No host name, no path."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks import accelerator
from benchmarks.registry import Settings

ROOT = Path(__file__).parents[1]
PACKAGES = ("lorakit", "torch", "loralib", "peft", "transformers", "safetensors")


def describe(settings: Settings) -> dict[str, object]:
    """All that is needed to run this again, and to see whether it was run on the same code."""
    changes = git("status", "--porcelain", "--", ":!benchmarks/results")
    return {
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "commit": git("rev-parse", "--verify", "HEAD"),
        "uncommitted_changes": None if changes is None else bool(changes),
        "lorakit_sha256": source_digest(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": settings.seed,
        "hardware": hardware(settings.device),
        "versions": {"python": platform.python_version(), **versions()},
    }


def main() -> None:
    """Print it as JSON for the device that is named, as a process that may fail on that device."""
    device = sys.argv[1]
    if not accelerator.is_present(device):
        sys.exit(f"There is no device {device} here.")
    print(json.dumps(describe(Settings(device))))


def versions() -> dict[str, str | None]:
    """Of what can be imported; None if it is on the path without being installed."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        if find_spec(package):
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                found[package] = None
    return found


def hardware(device: str) -> dict[str, object]:
    """What it ran on, and how busy that was at the start."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "memory_GiB": round(memory / 2**30, 1),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "torch_threads": torch.get_num_threads(),
        "device": device if device == "cpu" else accelerator.describe(device),
    }


def source_digest() -> str:
    """SHA-256 over the names and texts in src/lorakit: says which code, where no commit does."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "src" / "lorakit").rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def git(*arguments: str) -> str | None:
    """What git says of this checkout; None without git, or if the files are in no checkout."""
    if not (ROOT / ".git").exists():  # that of a folder above would be another project's
        return None
    try:
        run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return run.stdout.strip() if run.returncode == 0 else None


if __name__ == "__main__":
    main()
