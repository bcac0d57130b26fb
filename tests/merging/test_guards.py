"""What cannot be merged is refused by name, and nothing is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

import lorakit as lora
from lorakit.checkpoint import read
from lorakit.errors import (
    ConfigError,
    FormatError,
    LorakitError,
    MismatchError,
    SaveError,
    TargetError,
)
from tests.merging import models

EVERYTHING = {"target_modules": "all-linear"}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return models.save(models.llama, tmp_path / "base", shards=True)


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    return models.adapt(base, LlamaForCausalLM, tmp_path / "adapter", **EVERYTHING)


@pytest.fixture(autouse=True)
def nothing_is_written(tmp_path: Path) -> Iterator[None]:
    yield
    assert not (tmp_path / "merged").exists()
    assert not (tmp_path / ".merged.new").exists()


def refused(kind: type[LorakitError], match: str, *arguments: Any, **options: Any) -> None:
    with pytest.raises(kind, match=match):
        lora.merge_files(*arguments, **options)


def change(base: Path, name: str, edit: Any) -> None:
    """Another tensor under this name in the base's files."""
    for file in base.glob("*.safetensors"):
        tensors = load_file(file)
        if name in tensors:
            tensors[name] = edit(tensors[name])
            save_file(tensors, file, metadata={"format": "pt"})


def test_disk_without_room_is_known_before(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    refused(SaveError, r"GB are to be written.*0\.00 GB free", adapter, base, tmp_path / "merged")


@pytest.mark.parametrize("place", ["base", "base/merged", "adapter", "."])
def test_output_that_holds_or_is_in_what_is_merged_is_refused(
    base: Path, adapter: Path, tmp_path: Path, place: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SaveError, match="--output"):
        lora.merge_files(adapter, base, tmp_path / place, overwrite=True)
    with pytest.raises(SaveError, match="--output"):
        lora.merge_files(adapter, base, tmp_path / place)
    assert sorted(tmp_path.rglob("*")) == before


def test_output_that_holds_the_file_of_the_adapter_is_refused(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    mine = models.save(models.llama, tmp_path / "mine")
    alone = shutil.copy(adapter / "adapter_model.safetensors", mine / "model_lora.safetensors")
    match = "mine holds an adapter that is merged; pass another --output"
    refused(SaveError, match, alone, base, mine, overwrite=True)
    assert alone.read_bytes() == (adapter / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ["empty", "dangling"])
def test_link_stays_and_what_it_leads_to_is_written(
    base: Path, adapter: Path, tmp_path: Path, kind: str
) -> None:
    if kind == "empty":
        (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    lora.merge_files(adapter, base, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "config.json").is_file()
    assert not list(tmp_path.glob(".*.new"))


def test_link_into_the_base_is_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(base / "merged")
    refused(SaveError, "is inside the base", adapter, base, tmp_path / "link")
    assert not (base / "merged").exists()


def test_directory_that_holds_no_model_is_not_replaced(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    refused(SaveError, "it holds no model", adapter, base, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "keep me"


@pytest.mark.parametrize("other", ["notes.txt", "README.md", ".git/HEAD", "checkpoint-5/a.pt"])
def test_model_with_other_files_beside_it_is_not_replaced(
    base: Path, adapter: Path, tmp_path: Path, other: str
) -> None:
    mine = models.save(models.llama, tmp_path / "mine")
    (mine / other).parent.mkdir(exist_ok=True)
    (mine / other).write_text("keep me")
    before = {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()}
    with pytest.raises(SaveError, match="more than a model is in it") as caught:
        lora.merge_files(adapter, base, mine, overwrite=True)
    assert caught.value.problems == (Path(other).parts[0],)
    assert {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()} == before


def test_base_with_an_adapter_in_its_directory_is_refused(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    shutil.copy(adapter / "adapter_config.json", base)
    match = r"holds an adapter \(adapter_config\.json\), which would not be applied"
    refused(FormatError, match, adapter, base, tmp_path / "merged")


def test_what_is_no_base_is_said_before_anything_is_fetched(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorakit.merging.places.download", lambda *_: pytest.fail("fetched"))
    (tmp_path / "empty").mkdir()
    match = "is not a model directory: it has no config.json"
    refused(FormatError, match, adapter, tmp_path / "empty", tmp_path / "merged")
    match = "No transformers model found at nowhere: there is no such directory"
    refused(FormatError, match, adapter, "nowhere", tmp_path / "merged")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes 4 bits"),
        ({"quant_method": "gptq", "bits": 4}, "gptq 4 bits"),
    ],
)
def test_quantised_base_is_refused_by_name(
    base: Path, adapter: Path, tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
    match = rf"quantised \({named}\).*pass the base that it was made from"
    refused(FormatError, match, adapter, base, tmp_path / "merged")


def test_other_weights_than_those_of_the_training_are_refused(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    change(base, "model.layers.1.mlp.up_proj.weight", lambda weight: weight + 1)
    match = "base weights differ.*--no-check-base"
    refused(MismatchError, match, adapter, base, tmp_path / "merged")
    report = lora.merge_files(adapter, base, tmp_path / "other", check_base=False)
    assert report.base_verified is False


def test_base_of_other_shapes_is_refused_with_both(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    match = r"up_proj has a size mismatch: expected A \(2, 16\) and B \(48, 2\)"
    refused(MismatchError, match, adapter, base, tmp_path / "merged")


def test_config_that_lies_about_the_tensors_is_refused(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    change(base, "model.norm.weight", lambda weight: weight[:7])
    match = r"model\.norm\.weight has a size mismatch: expected \(16,\), got \(7,\)"
    refused(MismatchError, match, adapter, base, tmp_path / "merged")


def test_weight_that_nobody_has_is_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    index = base / "model.safetensors.index.json"
    table = json.loads(index.read_text())
    file = table["weight_map"].pop("model.norm.weight")
    index.write_text(json.dumps(table))
    tensors = load_file(base / file)
    del tensors["model.norm.weight"]
    save_file(tensors, base / file, metadata={"format": "pt"})
    match = r"model\.norm\.weight is newly initialized"
    refused(MismatchError, match, adapter, base, tmp_path / "merged")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_nan_or_infinity_in_an_adapted_weight_is_refused(
    base: Path, adapter: Path, tmp_path: Path, number: float
) -> None:
    def edit(weight: torch.Tensor) -> torch.Tensor:
        weight[-1, -1] = number
        return weight

    change(base, "model.layers.0.mlp.down_proj.weight", edit)
    match = r"layers\.0\.mlp\.down_proj\.weight of the base checkpoint contains NaN or infinite"
    refused(FormatError, match, adapter, base, tmp_path / "merged", check_base=False)


def test_nan_in_any_other_weight_is_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    change(base, "model.norm.weight", lambda weight: weight * float("nan"))
    match = r"model\.norm\.weight of the base checkpoint contains NaN"
    refused(FormatError, match, adapter, base, tmp_path / "merged")


def test_nan_in_the_adapter_is_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    refused(FormatError, "NaN or infinite", adapter, base, tmp_path / "merged")


def test_sum_that_float16_cannot_hold_is_refused(tmp_path: Path) -> None:
    base = models.save(models.llama, tmp_path / "base", dtype=torch.float16)
    adapter = models.adapt(base, LlamaForCausalLM, tmp_path / "adapter", **EVERYTHING)
    weighted = [(adapter, 1e7)]
    refused(MismatchError, "that float16 cannot hold", weighted, base, tmp_path / "merged")


@pytest.mark.parametrize("weight", [0.0, float("nan"), float("inf")])
def test_weight_that_is_none_is_refused(
    base: Path, adapter: Path, tmp_path: Path, weight: float
) -> None:
    refused(ConfigError, "finite", [(adapter, weight)], base, tmp_path / "merged")


@pytest.mark.parametrize("weight", ["x", None, True])
def test_weight_of_another_type_is_refused(
    base: Path, adapter: Path, tmp_path: Path, weight: object
) -> None:
    match = f"finite numbers other than 0; got .*={weight!r}"
    refused(ConfigError, match, [(adapter, weight)], base, tmp_path / "merged")


def test_adapter_that_is_no_path_is_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    bundle, match = read(adapter), r"adapter 1 is in memory; .* lorakit\.checkpoint\.write"
    for wrong in (bundle, [(bundle, 1.0)], [bundle]):
        refused(ConfigError, match, wrong, base, tmp_path / "merged")
    refused(ConfigError, r"pass a pair", [adapter, adapter], base, tmp_path / "merged")
    refused(ConfigError, r"adapter 1 is a int; ", [(7, 1.0)], base, tmp_path / "merged")
    with pytest.raises(ConfigError, match=match):
        lora.subtract(base, bundle, tmp_path / "off")  # type: ignore[arg-type]


def test_no_adapter_at_all_is_refused(base: Path, tmp_path: Path) -> None:
    refused(ConfigError, "No adapter", [], base, tmp_path / "merged")


def test_dora_is_merged_alone(base: Path, adapter: Path, tmp_path: Path) -> None:
    config = {"target_modules": ["q_proj"], "use_dora": True}
    dora = models.adapt(base, LlamaForCausalLM, tmp_path / "dora", **config)
    match = r"merged alone.*\n.*dora has DoRA, which changes the base weight itself"
    refused(TargetError, match, [(adapter, 0.5), (dora, 0.5)], base, tmp_path / "merged")
    refused(TargetError, match, [(dora, 0.5)], base, tmp_path / "merged")


def test_what_was_trained_in_full_is_not_taken_back(base: Path, tmp_path: Path) -> None:
    config = {"target_modules": ["q_proj"], "modules_to_save": ["norm"]}
    whole = models.adapt(base, LlamaForCausalLM, tmp_path / "whole", **config)
    match = "model.norm.weight .*negative weight cannot take back"
    refused(TargetError, match, [(whole, -1.0)], base, tmp_path / "merged")


def test_adapted_weight_of_a_type_that_is_not_computed_with_is_refused(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    change(base, "model.layers.0.mlp.up_proj.weight", lambda w: w.to(torch.float8_e4m3fn))
    match = (
        r"layers\.0\.mlp\.up_proj\.weight is float8_e4m3fn, and what is merged has to be float64"
    )
    refused(MismatchError, match, adapter, base, tmp_path / "merged", check_base=False)


@pytest.mark.parametrize("size", [0, -5])
def test_files_of_no_byte_are_refused(base: Path, adapter: Path, tmp_path: Path, size: int) -> None:
    refused(ConfigError, "one byte", adapter, base, tmp_path / "merged", max_shard_size=size)
