"""Runs made by hand, side by side: grouped by seed, told apart by what differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorakit import errors
from lorakit.experiments import Table, compare
from lorakit.experiments.renderers import RENDERERS
from lorakit.recipe import from_mapping, to_yaml, with_settings
from tests.experiments.sweeps import result

RECIPE = {
    "base": "b", "output": "o", "method": "lora",
    "data": {"train": "t.csv", "task": "classification"},
    "training": {"learning_rate": 1e-3, "seed": 0},
}  # fmt: skip


def made(directory: Path, *settings: str, value: float = 0.5, **more: Any) -> str:
    """A finished run."""
    recipe = from_mapping(with_settings(RECIPE, settings))
    directory.mkdir()
    (directory / "recipe.yaml").write_text(to_yaml(recipe))
    content = with_settings(RECIPE, settings)
    found = {**result(content, {"accuracy": value}), **more}
    (directory / "result.json").write_text(json.dumps(found))
    return str(directory)


def names(table: Table) -> list[str]:
    return [row.name for row in table.rows]


def test_runs_that_differ_in_their_seed_share_a_row(tmp_path: Path) -> None:
    runs = [
        made(tmp_path / str(seed), f"training.seed={seed}", value=0.5 + seed / 10)
        for seed in range(3)
    ]
    table = compare(runs)
    (row,) = table.rows
    assert row.cells[0].seeds == (0, 1, 2)
    assert row.cells[0].center == pytest.approx(0.6)
    assert row.sources == tuple(runs)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("lora.use_dora=true", "lora.r=8", ["LoRA, lora.variant=dora", "LoRA"]),
        ("lora.r=4", "lora.r=8", ["LoRA, lora.r=4", "LoRA, lora.r=8"]),
        ("loss.kind=rdrop", "lora.r=8", ["LoRA, loss.kind=rdrop, loss.weight=1.0", "LoRA"]),
        (
            "lora.target_modules=[query,value]",
            "lora.target_modules=[query]",
            ["LoRA, lora.target_modules=query+value", "LoRA, lora.target_modules=query"],
        ),
        (
            "training.warmup_steps=0",
            "lora.r=8",
            ["LoRA, training.warmup_steps=0", "LoRA"],
        ),
        ("method=full", "lora.r=8", ["full fine-tuning", "LoRA"]),
    ],
)
def test_variants_are_told_apart_by_what_differs(tmp_path, one, other, expected) -> None:
    runs = [made(tmp_path / "a", one), made(tmp_path / "b", other)]
    assert names(compare(runs)) == expected
    assert names(compare(runs[::-1])) == expected[::-1]


def test_a_dora_run_is_named_so_though_no_other_of_lora_is_there(tmp_path: Path) -> None:
    run = made(tmp_path / "a", "lora.use_dora=true")
    assert names(compare([run])) == ["LoRA, lora.variant=dora"]


def test_settings_that_differ_between_tasks_make_no_other_row(tmp_path: Path) -> None:
    one = made(tmp_path / "a", "data.task=mrpc", "data.max_length=9")
    other = made(tmp_path / "b", "data.task=cola", "data.max_length=5",
                 metrics={"matthews_correlation": 0.4})  # fmt: skip
    table = compare([one, other])
    assert names(table) == ["LoRA"]
    assert [column.task for column in table.columns] == ["cola", "mrpc"], "GLUE's order"


def test_a_reference_never_shares_a_row_with_a_run(tmp_path: Path) -> None:
    run = made(tmp_path / "a")
    file = Path(made(tmp_path / "b", value=0.9)) / "result.json"
    recorded = tmp_path / "recorded.json"
    recorded.write_bytes(file.read_bytes())
    table = compare([run], [str(recorded)])
    assert names(table) == ["LoRA", "LoRA, recorded"]
    assert table.rows[1].sources == (f"recorded in {recorded}",)


def test_a_base_in_the_home_directory_is_the_same_by_either_name(tmp_path: Path) -> None:
    run = made(tmp_path / "a", f"base={Path.home()}/model")
    recorded = Path(made(tmp_path / "b", "base=~/model")) / "result.json"
    assert {row.base for row in compare([run], [str(recorded)]).rows} == {f"{Path.home()}/model"}


def test_the_answer_that_looks_at_no_text_stands_above(tmp_path: Path) -> None:
    baseline = {"answer": "majority class", "metric": "accuracy", "value": 0.6}
    table = compare([made(tmp_path / "a", baseline=baseline)])
    assert names(table) == ["majority class", "LoRA"]
    assert table.rows[0].cells[0].center == 0.6


def test_a_directory_of_runs_is_all_of_them(tmp_path: Path) -> None:
    made(tmp_path / "a", "training.seed=1")
    made(tmp_path / "b", "training.seed=2")
    assert compare([str(tmp_path)]).rows[0].cells[0].seeds == (1, 2)


def test_a_name_that_is_no_sweep_is_named_with_the_nearest() -> None:
    with pytest.raises(errors.FormatError, match="neither a directory nor a sweep") as error:
        compare(["glue-reedme"])
    assert "did you mean 'glue-readme'" in str(error.value)
    assert "which-weights" in str(error.value)


def test_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(errors.FormatError, match="holds no finished run"):
        compare([str(tmp_path)])
    with pytest.raises(errors.ConfigError, match="There is no run to compare"):
        compare([])


def test_runs_that_repeat_one_another_are_told_apart_by_their_places(tmp_path: Path) -> None:
    runs = [made(tmp_path / name) for name in ("a", "b")]
    table = compare(runs)
    assert names(table) == [f"LoRA, {run}" for run in runs]
    assert [row.cells[0].seeds for row in table.rows] == [(0,), (0,)]


def test_what_a_method_trains_is_told_apart_from_the_head(tmp_path: Path) -> None:
    counts = {"trainable_parameters": 73_728 + 1_538, "head_parameters": 1_538}
    table = compare([made(tmp_path / "a", **counts)])
    assert (table.rows[0].trainable_parameters, table.rows[0].head_parameters) == (73_728, 1_538)
    shown = RENDERERS["txt"](table)
    assert "73,728 + 1,538" in shown
    assert "trainable parameters: the method's + those of heads" in shown


def test_the_standard_error_is_that_of_the_best_finite_score(tmp_path: Path) -> None:
    runs = [
        made(tmp_path / "a", "lora.r=2", metrics={"accuracy": None}),
        made(tmp_path / "b", "lora.r=4", value=0.5),
    ]
    said = "classification: 100 test rows, the standard error is 5.0 or more"
    for order in (runs, runs[::-1]):
        assert said in compare(order).notes


def test_the_standard_error_is_of_the_set_that_was_measured_on(tmp_path: Path) -> None:
    run = made(tmp_path / "a", "data.measured_on=validation")
    said = "classification: 100 validation rows, the standard error is 5.0 or more"
    assert said in compare([run]).notes
