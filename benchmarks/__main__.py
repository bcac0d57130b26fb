"""Run benchmarks, print their tables and keep them in benchmarks/results."""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch

from benchmarks import accelerator, peers, provenance
from benchmarks.registry import NAMES, Settings, Unavailable
from benchmarks.tables import markdown

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; or all")
    parser.add_argument("--list", action="store_true", help="say what there is, and stop")
    parser.add_argument("--quick", action="store_true", help="a small run that keeps no result")
    parser.add_argument("--device", default="cpu", help="any that torch knows (default: cpu)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in NAMES]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if not accelerator.is_present(arguments.device):
        print(f"Skipped: no device {arguments.device} here.")
        return
    settings = Settings(arguments.device, arguments.seed, arguments.quick)
    threads = torch.get_num_threads()
    for name in arguments.names or NAMES:
        benchmark = import_module(f"benchmarks.{name}")
        if arguments.list:
            print(f"{name:19}{title(benchmark)}")
        else:
            torch.set_num_threads(threads)  # what the one before may have changed
            run(name, benchmark, settings)


def run(name: str, benchmark: ModuleType, settings: Settings) -> None:
    """Check, measure, print; keep the result of a full run."""
    try:
        benchmark.check(settings)
    except Unavailable as reason:
        print(f"\n## {name}\n\nSkipped: {reason}")
        return
    result = {"benchmark": name, "title": title(benchmark)}
    result["provenance"] = provenance.describe(settings)
    rows = list(benchmark.rows(settings))
    missing = sorted({"loralib", "peft"} - set(peers.INSTALLED))
    print(f"\n## {name}\n\n{title(benchmark)}\n\n{markdown(rows)}", flush=True)
    if missing:
        print(f"\nNot installed, left out: {', '.join(missing)}")
    if not settings.quick:
        result |= {"conditions": benchmark.CONDITIONS, "not_installed": missing, "rows": rows}
        file = name if settings.device == "cpu" else f"{name}-{settings.device.replace(':', '')}"
        text = json.dumps(result, indent=2) + "\n"
        (RESULTS / f"{file}.json").write_text(text, encoding="utf-8")


def title(benchmark: ModuleType) -> str:
    return (benchmark.__doc__ or "").splitlines()[0]


if __name__ == "__main__":
    main()
