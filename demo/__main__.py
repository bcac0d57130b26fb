"""`python -m demo [--full] [--set a.b=c ...]`: what `make demo` runs after installing."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import time
from pathlib import Path

from demo.cache import cache_directory
from demo.commands import FULL_RESULT, comparison, prediction, training

RUNS = "runs/demo"

WELCOME = """\
LoRA on real reviews: 10,072 rated sentences, a pretrained encoder of 22.7 million parameters.
Downloads 2.5 MB of data (the model, 88 MB, came with the installation); about {minutes} minutes on
two cores. What is there already is used again. Each command below is one you can run yourself.
"""
GOODBYE = """\
The adapter is in {runs}/lora/adapter, the curve in {runs}/lora/curve.png.
With your own file, its columns guessed:

  lorakit train --base {cache}/all-MiniLM-L6-v2 --data my.csv --output runs/mine
  lorakit predict runs/mine --data new.csv --output predictions.csv
"""


def main() -> None:
    """Run the demo's commands, each after printing it; stops at the first that fails."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--full", action="store_true", help="fine-tune every parameter as well")
    parser.add_argument("--runs", default=RUNS, help="directory for the runs")
    parser.add_argument("--set", action="append", default=[], help="a setting for every training")
    options = parser.parse_args()
    started = time.monotonic()
    print(WELCOME.format(minutes="4 to 12" if options.full else "2 to 6"), flush=True)
    cache = _short(cache_directory())
    _run("python -m demo.prepare")
    settings = "".join(f" --set {setting}" for setting in options.set)
    for method in ("head", "lora", *(["full"] if options.full else [])):
        _run(training(method, cache, options.runs) + settings)
    recorded = not options.full and Path(FULL_RESULT).is_file()
    _run(comparison(options.runs, FULL_RESULT if recorded else None))
    print("\nBefore: the pretrained model as it came, with a trained head.")
    _run(prediction("head", options.runs))
    print("\nAfter: the same model with the adapter.")
    _run(prediction("lora", options.runs))
    minutes = (time.monotonic() - started) / 60
    print(f"\n{minutes:.1f} minutes.", GOODBYE.format(runs=options.runs, cache=cache))


def _run(command: str) -> None:
    print(f"\n$ {command}", flush=True)
    code = subprocess.run(command, shell=True).returncode
    if code:
        raise SystemExit(code)


def _short(path: Path) -> str:
    """With ~ for the home directory, as people write it."""
    home = Path.home()
    if path.is_relative_to(home):
        return f"~/{shlex.quote(str(path.relative_to(home)))}"
    return shlex.quote(str(path))


if __name__ == "__main__":
    main()
