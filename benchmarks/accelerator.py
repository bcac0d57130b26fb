"""What an accelerator is: name, memory, capability, and the software that drives it."""

from __future__ import annotations

import subprocess

import torch


def is_present(device: str) -> bool:
    """Whether torch can make a tensor there."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):  # a torch without CUDA fails with an assertion
        return False
    return True


def describe(device: str) -> dict[str, object]:
    """What is known of it; the fields below the memory are NVIDIA's."""
    if not device.startswith("cuda"):
        return {"name": device}
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "memory_GiB": round(properties.total_memory / 2**30, 1),
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "driver": driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def driver() -> str | None:
    """The version that NVIDIA's tool gives, the same for all of a machine's devices."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return run.stdout.split()[0] if run.returncode == 0 and run.stdout.split() else None
