"""Where a number comes from: command, code, date, hardware, versions. No host name, no path."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.registry import Settings

ROOT = Path(__file__).parents[1]
PACKAGES = ("lorakit", "torch", "loralib", "peft", "transformers", "safetensors")


def describe(settings: Settings) -> dict[str, object]:
    """All that is needed to run this again, and to see whether it was run on the same code."""
    versions = {package: version(package) for package in PACKAGES if find_spec(package)}
    return {
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "commit": git("rev-parse", "--verify", "HEAD") or None,
        "uncommitted_changes": bool(git("status", "--porcelain", "--", ":!benchmarks/results")),
        "lorakit_sha256": source_digest(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": settings.seed,
        "hardware": hardware(settings.device),
        "versions": {"python": platform.python_version(), **versions},
    }


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
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
    }


def source_digest() -> str:
    """SHA-256 over the names and texts in src/lorakit: says which code, where no commit does."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "src" / "lorakit").rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def git(*arguments: str) -> str:
    run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return run.stdout.strip() if run.returncode == 0 else ""
