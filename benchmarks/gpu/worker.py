"""One part of the check, in a process of its own: `python -m benchmarks.gpu.worker`."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch

from benchmarks.gpu.records import Write, writer
from benchmarks.registry import Settings, Unavailable


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module")
    parser.add_argument("--device", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--records", type=Path, required=True)
    arguments = parser.parse_args()
    settings = Settings(arguments.device, quick=arguments.quick)
    if arguments.quick:
        torch.set_num_threads(1)  # for small tensors, threads would only wait for each other
    measure(import_module(arguments.module), settings, writer(arguments.records))


def measure(benchmark: ModuleType, settings: Settings, write: Write) -> None:
    """Check, then measure; each row is written when it is there."""
    try:
        benchmark.check(settings)
    except Unavailable as reason:
        write("skipped", str(reason))
        return
    write("conditions", benchmark.CONDITIONS)
    for row in benchmark.rows(settings):
        write("row", row)


if __name__ == "__main__":
    main()
