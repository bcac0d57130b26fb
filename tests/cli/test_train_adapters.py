"""`lorakit train` of a recipe with `adapters:`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.files import write_csv

RECIPE = """
base: {base}
data: {{ train: {data}, text: [text], label: label, task: classification }}
output: {output}
training: {{ max_steps: 4, total_batch: 4, learning_rate: 1e-3, dtype: fp32 }}
adapters:
  small: {{ lora.r: 2 }}
  large: {{ lora: {{ r: 8 }}, training.seed: 1, training.max_steps: 6 }}
"""


@pytest.fixture
def recipe(small_bert: Path, tmp_path: Path) -> Path:
    rows = [("text", "label"), *[("a joy", "good"), ("a bore", "bad")] * 8]
    data, output = write_csv(tmp_path / "data.csv", rows), tmp_path / "runs"
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(base=small_bert, data=data, output=output))
    return path


def test_each_adapter_becomes_a_run(run, recipe, tmp_path):
    code, out, err = run("train", recipe, "--set", "training.warmup_ratio=0")
    assert code == 0, err
    assert "small: step 4 of 4" in out
    assert "large: step 6 of 6" in out
    for name in ("small", "large"):
        (line,) = [line for line in out.splitlines() if line.startswith(f"{name} ")]
        assert line.endswith(f"  {tmp_path}/runs/{name}/adapter")
    for name, steps in {"small": 4, "large": 6}.items():
        result = json.loads((tmp_path / "runs" / name / "result.json").read_text())
        assert result["steps"] == steps
        assert "warmup_ratio: 0\n" in (tmp_path / "runs" / name / "recipe.yaml").read_text()
    code, out, _ = run("evaluate", tmp_path / "runs/large", "--data", tmp_path / "data.csv")
    assert code == 0
    code, out, _ = run("train", recipe, "--set", "training.warmup_ratio=0", "--json")
    assert code == 0
    assert list(json.loads(out)) == ["small", "large"]


def test_each_adapter_has_an_output_of_its_own(run, recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = "  one: {{ output: here/deep/one }}\n  two: {{ output: {there}/two }}\n"
    text = recipe.read_text()
    head = text[: text.index("  small:")]
    recipe.write_text(head + one.format(there=tmp_path))
    code, out, err = run("train", recipe, "--set", "training.max_steps=1")
    assert code == 0, err
    ends = [line.rpartition("  ")[2] for line in out.splitlines()[-2:]]
    assert ends == ["here/deep/one/adapter", f"{tmp_path}/two/adapter"]
    assert all((tmp_path / end / "adapter_config.json").is_file() for end in ends)


def test_a_dry_run_shows_each_and_writes_nothing(run, recipe, tmp_path):
    code, out, err = run("train", recipe, "--dry-run")
    assert code == 0, err
    assert out.index("small, by itself:") < out.index("large, by itself:")
    assert not (tmp_path / "runs").exists()


def test_what_cannot_share_a_run_is_refused(run, recipe, tmp_path):
    for options in ([], ["--dry-run"]):
        code, _, err = run("train", recipe, "--set", "method=full", *options)
        assert code == 1
        assert "small: method is 'full'; it has to be 'lora'" in err
    code, _, err = run("train", recipe, "--set", "training.epoch=1")
    assert code == 1
    assert err.count("training.epoch") == 1
    assert not (tmp_path / "runs").exists()
