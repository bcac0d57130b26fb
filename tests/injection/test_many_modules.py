"""Thousands of adapted modules take time in proportion to their number."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from torch import nn

import lorakit as lora
from lorakit.injection.selection.matching import target_names
from lorakit.injection.selection.naming import ending_in_any, names_by_suffix, within_any


def flat(count: int) -> nn.Sequential:
    """Modules whose names have no suffix in common, so a config has to list each."""
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(count)))


def test_thousands_of_names_are_matched_in_no_time() -> None:
    model, names = flat(10_000), [str(n) for n in range(10_000)]
    config = lora.LoraConfig(target_modules=names, exclude_modules=names[:9_000])
    start = time.process_time()
    assert target_names(model, config) == (names[9_000:], [])
    assert time.process_time() - start < 5


def test_thousands_of_names_without_a_module_are_listed_in_no_time() -> None:
    names = [f"absent{n}" for n in range(3_000)]
    start = time.process_time()
    found, problems = target_names(flat(1_000), lora.LoraConfig(target_modules=names))
    assert time.process_time() - start < 5
    assert (found, len(problems)) == ([], 3_000)


def test_suffixes_and_containers_match_at_dots_only() -> None:
    names = ["a.b.c", "b.c", "xb.c", "c", "a.b", "a.b.c"]
    assert names_by_suffix(names, ["b.c", "c", "d"]) == {
        "b.c": ["a.b.c", "b.c", "a.b.c"],
        "c": ["a.b.c", "b.c", "xb.c", "c", "a.b.c"],
        "d": [],
    }
    assert ending_in_any(names, ["b", "xb.c"]) == ["xb.c", "a.b"]
    assert [within_any(name, {"a.b"}) for name in ("a.b", "a.b.c", "a", "a.bc", "x.a.b", "")] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


def seconds_to_load(count: int, directory: Path) -> float:
    model = flat(count)
    lora.inject(model, lora.LoraConfig(r=1, target_modules=[str(n) for n in range(count)]))
    lora.save_adapter(model, directory)
    fresh = flat(count)
    start = time.process_time()
    lora.load_adapter(fresh, directory)
    return time.process_time() - start


@pytest.mark.slow
def test_loading_takes_time_in_proportion_to_the_tensors(tmp_path: Path) -> None:
    few, many = (seconds_to_load(n, tmp_path / str(n)) for n in (5_000, 50_000))
    assert many < 25 * few
