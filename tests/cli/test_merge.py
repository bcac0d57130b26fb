"""`lorakit merge` on the command line: weights, sizes of files, what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from tests.merging import models

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return models.save(models.llama, tmp_path / "base", dtype=torch.bfloat16)


def adapter(base: Path, place: Path, **config: Any) -> Path:
    return models.adapt(base, LlamaForCausalLM, place, target_modules=["q_proj"], **config)


def test_several_adapters_with_weights(run: Run, base: Path, tmp_path: Path) -> None:
    a, b = adapter(base, tmp_path / "a"), adapter(base, tmp_path / "b")
    output = tmp_path / "merged"
    code, out, err = run("merge", f"{a}=0.7", f"{b}=0.3", "--base", base, "--output", output)
    assert code == 0, err
    assert f"adapters: {a} x 0.7, {b} x 0.3" in out
    models.strict(LlamaForCausalLM, output)


def test_table_says_what_of_each_update_survived(run: Run, base: Path, tmp_path: Path) -> None:
    a, output = adapter(base, tmp_path / "a"), tmp_path / "merged"
    code, out, _ = run("merge", a, "--base", base, "--output", output)
    assert code == 0
    rows = [line.split() for line in out.splitlines() if "q_proj" in line]
    assert [row[0] for row in rows] != []
    assert all(0 < float(row[1].rstrip("%")) < 100 for row in rows)
    assert "update kept" in out


def test_json_has_every_layer(run: Run, base: Path, tmp_path: Path) -> None:
    a, output = adapter(base, tmp_path / "a"), tmp_path / "merged"
    code, out, _ = run("merge", a, "--base", base, "--output", output, "--json")
    said = json.loads(out)
    assert code == 0
    assert said["adapters"] == [[str(a), 1.0]]
    assert len(said["rounding"]) == said["folded_layers"] == 2
    assert said["worst_rounding"] == max(said["rounding"].values())
    assert said["shards"] == ["model.safetensors"]


def test_largest_file_and_a_model_that_is_replaced(run: Run, base: Path, tmp_path: Path) -> None:
    a, output = adapter(base, tmp_path / "a"), tmp_path / "merged"
    assert run("merge", a, "--base", base, "--output", output)[0] == 0
    before = load_file(output / "model.safetensors")
    more = ("--overwrite", "--max-shard-size", "4KB")
    code, _, err = run("merge", a, "--base", base, "--output", output, *more)
    assert (code, err) == (0, "")
    assert not (output / "model.safetensors").exists()
    files = list(output.glob("*.safetensors"))
    assert len(files) > 2
    after = {key: tensor for file in files for key, tensor in load_file(file).items()}
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())


def test_killed_merge_is_said_by_the_next(run: Run, base: Path, tmp_path: Path) -> None:
    a, output = adapter(base, tmp_path / "a"), tmp_path / "merged"
    (tmp_path / ".merged.new" / "merged").mkdir(parents=True)
    code, _, err = run("merge", a, "--base", base, "--output", output)
    assert code == 0
    assert f"An earlier attempt to write {output} was interrupted; what it left is removed." in err


def test_base_that_the_adapters_name_differently_has_to_be_given(
    run: Run, base: Path, tmp_path: Path
) -> None:
    other = models.save(models.llama, tmp_path / "other")
    a, b = adapter(base, tmp_path / "a"), adapter(other, tmp_path / "b")
    code, _, err = run("merge", f"{a}=1", f"{b}=1", "--output", tmp_path / "merged")
    assert code == 1
    assert "The adapters name several bases" in err
    assert "--base MODEL" in err
