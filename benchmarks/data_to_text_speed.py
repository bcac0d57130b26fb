"""E2E with SmolLM2-135M: tokens a second of training, seconds of decoding the test inputs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.data_to_text import fresh, require_data
from benchmarks.registry import Row, Settings, spread
from benchmarks.rounds import turning

DEFAULTS = "peft, transformers.Trainer"
VARIANTS = {
    DEFAULTS: "peft-trainer",
    "peft, lorakit's settings": "peft",
    "lorakit": "lorakit",
}
ROUNDS = 2
TEST_INPUTS, TEST_REFERENCES = 630, 4_693
CONDITIONS = {
    "base": "SmolLM2-135M-Instruct",
    "adapter": "all linear layers, r 8, alpha 16",
    "training": "12 steps of 16 references, tokens without padding; each run in a fresh process, "
    "the variants in turn, ratios within a round",
    DEFAULTS: "its defaults: batches of 8 without grouping, fp32; 24 steps, the same references",
    "decoding": "every 30th of the 630 test inputs, float32, merged adapter, batches of 6 rows, "
    "beam 10, length penalty 0.8, no repeated 4-gram, at most 64 tokens",
    "one row a reference": "1 row padded to 512, seconds a row times 4,693 over a distinct input",
}


def check(settings: Settings) -> None:
    """Data and model are there, and the data are E2E's."""
    require_data()
    sizes = fresh("speed", "sizes")
    assert sizes == {"test inputs": TEST_INPUTS, "test references": TEST_REFERENCES}, sizes


def rows(settings: Settings) -> Iterator[Row]:
    """Training by variant, then what decoding costs in three ways."""
    size, rounds = ("quick", 1) if settings.quick else ("speed", ROUNDS)
    rates: dict[str, list[float]] = {label: [] for label in VARIANTS}
    peaks: dict[str, list[float]] = {label: [] for label in VARIANTS}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for order in turning(list(VARIANTS), rounds):
            for label in order:
                variant = VARIANTS[label]
                found = fresh(size, "train", variant, str(directory / variant))
                rates[label].append(found["training tokens a second"])
                peaks[label].append(found["training peak GB"])
        decoding = fresh(size, "decode", str(directory / "lorakit"))
    for label, found_rates in rates.items():
        ratios = [rate / base for rate, base in zip(found_rates, rates[DEFAULTS], strict=True)]
        yield {"measure": f"{label}: training tokens a second", "value": spread(found_rates)}
        yield {"measure": f"{label}: times as fast as the first", "value": spread(ratios)}
        yield {"measure": f"{label}: training peak GB", "value": spread(peaks[label])}
    ours = decoding["seconds an input"]
    padded = decoding["seconds a row padded to 512"] * TEST_REFERENCES / TEST_INPUTS
    for measure, value in decoding.items():
        yield {"measure": f"decoding: {measure}", "value": value}
    yield {"measure": "times faster than one row a reference padded to 512", "value": padded / ours}
    in_file_order = decoding["seconds an input in file order"]
    yield {"measure": "times faster than generate in file order", "value": in_file_order / ours}
