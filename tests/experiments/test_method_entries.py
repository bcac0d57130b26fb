"""What an entry of a sweep has from others: from the one that it is like, and from the sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorakit.experiments.entry import Entry
from lorakit.experiments.sweep_file import planned
from tests.experiments.sweeps import sweep

RATES = {"training.learning_rate": [0.1, 0.2]}
SMALL = {"method": "houlsby", "houlsby.bottleneck": 4, "training.epochs": 2, "choose": RATES}


def methods(tmp_path: Path, entries: dict[str, Any], **changes: Any) -> dict[str, Entry]:
    plan = planned(sweep(tmp_path, methods=entries, **changes))
    return {entry.name: entry for entry in plan.entries.methods}


def test_a_method_that_is_like_another_has_all_that_it_does_not_say_itself(tmp_path: Path) -> None:
    found = methods(tmp_path, {"small": SMALL, "wide": {"like": "small", "houlsby.bottleneck": 8}})
    small, wide = found["small"], found["wide"]
    assert wide.settings == {**small.settings, "houlsby.bottleneck": 8}
    assert wide.own["choose"] == RATES
    assert wide.places["training.epochs"] == "methods.small.training.epochs"
    assert wide.places["houlsby.bottleneck"] == "methods.wide.houlsby.bottleneck"
    assert wide.places["training.learning_rate"] == "methods.small.choose.training.learning_rate"


def test_one_that_is_like_another_method_has_nothing_of_its_section(tmp_path: Path) -> None:
    found = methods(
        tmp_path,
        {"last": {"like": "middle"}, "middle": {"method": "lin", "like": "small"}, "small": SMALL},
        grid={"houlsby.bottleneck": [2]},
    )
    assert found["middle"].settings == {"method": "lin", "training.epochs": 2}
    assert found["last"].settings == found["middle"].settings
    assert found["last"].own["grid"] == {}


def test_one_that_is_called_as_a_method_is_that_method(tmp_path: Path) -> None:
    assert methods(tmp_path, {"small": SMALL, "lin": {"like": "small"}})["lin"].settings == {
        "method": "lin",
        "training.epochs": 2,
    }


def test_what_a_method_sets_is_neither_chosen_nor_varied(tmp_path: Path) -> None:
    entries = {
        "full": {"training.learning_rate": 0.3},
        "head": None,
        "wide": {"like": "head", "training": {"learning_rate": 0.5}},
    }
    found = methods(tmp_path, entries, choose=RATES, grid={"training.weight_decay": [0, 0.1]})
    assert found["full"].own["choose"] == found["wide"].own["choose"] == {}
    assert found["full"].settings["training.learning_rate"] == 0.3
    assert found["head"].own["choose"] == RATES
    assert list(found["full"].own["grid"]) == ["training.weight_decay"]
