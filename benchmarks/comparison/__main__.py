"""Keep a table that was measured, or write docs/reproduce/comparison.md from what is kept."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.comparison.keeping import RESULTS, keep, read
from benchmarks.comparison.page import NAMES, PAGE, filled


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.comparison", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    keeping = commands.add_parser("keep", help="into benchmarks/results/comparison")
    keeping.add_argument("name", choices=NAMES)
    keeping.add_argument("source", type=Path, help="a sweep's directory, or what --json printed")
    commands.add_parser("page", help="write the tables of the page")
    arguments = parser.parse_args()
    if arguments.command == "keep":
        print(keep(arguments.name, arguments.source, RESULTS))
    PAGE.write_text(filled(PAGE.read_text("utf-8"), read(RESULTS)), "utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
