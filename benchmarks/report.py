"""The report on the result files, with its pictures: `python -m benchmarks.report`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import goals, plots
from benchmarks.gpu import report as gpu_report
from benchmarks.registry import NAMES
from benchmarks.tables import markdown

RESULTS = Path(__file__).parent / "results"
REPORT = "REPORT.md"
BUSY = 2
"""A load of so many times the cores is more than the benchmark before this one leaves behind."""
INTRODUCTION = """\
Made from the result files in this directory by `python -m benchmarks.report`. How to read the
numbers: [README](../README.md)."""


def main() -> None:
    print(write(RESULTS))


def write(directory: Path) -> Path:
    """The report on the result files of this directory, beside them."""
    results = read(directory)
    pictures = plots.draw(results.get("cpu", {}), directory)
    report = directory / REPORT
    text = [*parts(results, pictures), *gpu_report.sections(directory / "gpu")]
    report.write_text("\n\n".join(text) + "\n", encoding="utf-8")
    return report


def read(directory: Path) -> dict[str, dict[str, Any]]:
    """The result files by device, there by benchmark in the registry's order."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(directory.glob("*.json"), key=lambda p: order(p.stem)):
        result = json.loads(path.read_text(encoding="utf-8"))
        device = path.stem.partition("-")[2] or "cpu"
        found.setdefault(device, {})[result["benchmark"]] = result
    return found


def order(stem: str) -> int:
    name = stem.partition("-")[0]
    return NAMES.index(name) if name in NAMES else len(NAMES)


def parts(results: Mapping[str, Mapping[str, Any]], pictures: Mapping[str, Path]) -> Iterator[str]:
    yield "# What was measured"
    yield INTRODUCTION
    for device, found in results.items():
        yield f"## On {device}"
        yield not_run(found)
        reached = list(goals.table(found))
        if reached:
            yield "### The goals"
            yield markdown(reached)
            if any(row["reached"] == "no" for row in reached):
                yield "Why one is not reached, and what was tried: [LOG](../LOG.md)."
        for result in found.values():
            yield from section(result, pictures if device == "cpu" else {})


def not_run(found: Mapping[str, Any]) -> str:
    missing = [name for name in NAMES if name not in found]
    return (
        f"Without a result here: {', '.join(missing)}." if missing else "Every benchmark was run."
    )


def section(result: Mapping[str, Any], pictures: Mapping[str, Path]) -> Iterator[str]:
    name = result["benchmark"]
    yield f"### {name}"
    yield result["title"]
    if name in pictures:
        yield f"![{result['title']}]({pictures[name].name})"
    yield "\n".join(f"- {key}: {value}" for key, value in result["conditions"].items())
    yield markdown(result["rows"])
    yield source(result["provenance"])


def source(provenance: Mapping[str, Any]) -> str:
    """One line about where the numbers come from; the file has the rest."""
    hardware, versions = provenance["hardware"], provenance["versions"]
    return (
        f"`{provenance['command']}`, {provenance['date'][:10]}, commit "
        f"{(provenance['commit'] or 'none')[:12]}"
        f"{' with changes' if provenance['uncommitted_changes'] else ''}, {hardware['cpu']}, "
        f"{hardware['torch_threads']} threads, load {load(hardware)}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + "."
    )


def load(hardware: Mapping[str, Any]) -> str:
    """How busy the machine was when it began, and what that makes of the times."""
    average = hardware["load_average_1min"]
    busy = average > BUSY * hardware.get("cores", math.inf)
    return f"{average} (busy: its times are too long)" if busy else str(average)


if __name__ == "__main__":
    main()
