"""Wall and processor time of importing, over `import torch`, each in a fresh process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from benchmarks.registry import Row, Settings, spread
from benchmarks.rounds import turning

ROUNDS = 15
CONDITIONS = {"rounds": ROUNDS, "rounds discarded before": 1, "timed": "without interpreter start"}
STATEMENTS = {
    "import torch, once more (the noise)": "import torch",
    "import lorakit": "import lorakit",
    "import lorakit; lorakit.inject": "import lorakit; lorakit.inject",
    "from lorakit import *": "from lorakit import *",
    "import loralib": "import loralib",
    "import peft": "import peft",
}
TIMER = """
from time import perf_counter, process_time
wall, cpu = perf_counter(), process_time()
{}
print(perf_counter() - wall, process_time() - cpu)
"""


def check(settings: Settings) -> None:
    """The statements load what they are named for, and the timer sees the time that passes."""
    loaded = "{}; import sys; print('torch' in sys.modules, 'lorakit.injection' in sys.modules)"
    assert fresh(loaded.format("import torch")) == "True False"
    assert fresh(loaded.format("import lorakit")) == "False False"
    assert fresh(loaded.format("import lorakit; lorakit.inject")) == "True True"
    assert fresh(loaded.format("from lorakit import *")) == "True True"
    wall, cpu = timed("import time; time.sleep(0.2)")
    assert wall >= 0.2 > cpu


def rows(settings: Settings) -> Iterator[Row]:
    """Each round times every statement, in turning order; ratios are taken within a round."""
    labels = [label for label, code in STATEMENTS.items() if find_spec(code.split()[1].strip(";"))]
    ratios: dict[str, list[tuple[float, float]]] = {label: [] for label in labels}
    orders = turning(["", *labels], 1 + (1 if settings.quick else ROUNDS))
    for turn, order in enumerate(orders):
        times = {label: timed(STATEMENTS.get(label, "import torch")) for label in order}
        for label in labels if turn else []:  # the first round only warms the disk's cache
            ratios[label].append((times[label][0] / times[""][0], times[label][1] / times[""][1]))
    for label, pairs in ratios.items():
        wall, cpu = zip(*pairs, strict=True)
        yield {"statement": label, "wall": spread(wall), "processor": spread(cpu)}


def timed(code: str) -> tuple[float, float]:
    """Seconds on the wall and of the processor that this code takes in a new interpreter."""
    wall, cpu = map(float, fresh(TIMER.format(code)).split())
    return wall, cpu


def fresh(code: str) -> str:
    """The last line that this code prints in a new interpreter."""
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()[-1]
