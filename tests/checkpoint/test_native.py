"""lorakit's own file for other methods than LoRA: it says what it is, and is read strictly."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from safetensors import safe_open
from safetensors.torch import save_file

from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.checkpoint.formats.tensor_files import load_safetensors, save_safetensors
from lorakit.checkpoint.summary import summarise
from lorakit.config import LoraConfig
from lorakit.errors import FormatError, SaveError
from lorakit.variants import (
    AdapterSpec,
    ConvSite,
    EmbeddingSite,
    InProjSite,
    LinearSite,
    ModuleAdapter,
    OutProjSite,
    Site,
    SlicedSite,
)
from tests.checkpoint.bundles import assert_equal, lora_bundles, method_bundles

NAME = "trained.safetensors"


def head() -> AdapterBundle:
    return AdapterBundle(
        method="head",
        method_config={"modules": ["classifier"]},
        trained={"classifier.weight": torch.ones(3, 4), "classifier.bias": torch.zeros(3)},
        base_model="org/base",
        base_class=("transformers", "BertForSequenceClassification"),
        task_type="SEQ_CLS",
        fingerprint={"float32": "ab" * 32},
        num_labels=3,
        format="lorakit",
    )


def header_of(file: Path) -> dict[str, Any]:
    with safe_open(file, framework="pt") as opened:
        header: dict[str, Any] = json.loads(opened.metadata()["lorakit"])
    return header


@given(bundle=method_bundles())
def test_what_is_written_is_read(
    bundle: AdapterBundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(bundle, tmp_path_factory.mktemp("method"))
    assert os.listdir(path) == [NAME]
    assert_equal(read(path), bundle)
    assert_equal(read(path / NAME), bundle)
    assert header_of(path / NAME).keys() == {
        "version", "method", "method_config", "adapters", "base_model", "base_class", "task_type",
        "fingerprint", "num_labels", "dtypes",
    }  # fmt: skip


@given(bundle=lora_bundles())
def test_what_is_written_as_peft_is_read(
    bundle: AdapterBundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(bundle, tmp_path_factory.mktemp("lora"))
    assert_equal(read(path), bundle)
    assert_equal(read(path / "adapter_model.safetensors"), bundle)


@given(bundle=lora_bundles())
def test_adapters_are_read_as_they_were_written(
    bundle: AdapterBundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(bundle, tmp_path_factory.mktemp("native"), format="lorakit")
    found = read(path)
    assert_equal(found, replace(bundle, format="lorakit"))
    assert found.config == bundle.config


@pytest.mark.parametrize(
    "site",
    [
        SlicedSite(4, 6, True, ((2, True), (4, False))),
        InProjSite(4, 12),
        OutProjSite(4, 4),
        EmbeddingSite(9, 4),
        ConvSite((4, 3, 5), groups=2),
        ConvSite((4, 2, 3, 3), groups=2, square=True),
    ],
    ids=lambda site: type(site).__name__,
)
def test_adapters_of_every_kind_of_layer_come_back(site: Site, tmp_path: Path) -> None:
    tensors = dict(zip(("lora_A", "lora_B"), map(torch.randn, site.factor_shapes(2)), strict=True))
    adapter = ModuleAdapter(AdapterSpec(2, 4), tensors, site)
    bundle = AdapterBundle(LoraConfig(r=2, target_modules=["m"]), {"a.m": adapter})
    found = read(write(bundle, tmp_path, format="lorakit"))
    assert_equal(found, replace(bundle, format="lorakit"))


def test_file_with_a_name_of_its_own_is_read(tmp_path: Path) -> None:
    file = (write(head(), tmp_path / "a") / NAME).rename(tmp_path / "mine.safetensors")
    assert_equal(read(file), head())


def test_tied_tensors_are_written_each(tmp_path: Path) -> None:
    weight = torch.randn(3, 4)
    bundle = replace(head(), trained={"a.weight": weight, "b.weight": weight[:, :2].T})
    assert_equal(read(write(bundle, tmp_path)), bundle)


def test_bundle_that_the_format_cannot_hold_is_refused_with_all_reasons(tmp_path: Path) -> None:
    bundle = replace(
        head(),
        method_config={"modules": ("a", "b")},
        adapters={"q": ModuleAdapter(AdapterSpec(1), {"lora_A": torch.ones(1, 2)})},
        trained={"w": torch.ones(2, device="meta")},
    )
    with pytest.raises(SaveError) as caught:
        write(bundle, tmp_path / "a", format="lorakit")
    reasons = (
        "q: the type of its layer is unknown",
        "cannot be stored as JSON",
        "w is on the meta device",
    )
    assert len(caught.value.problems) == len(reasons)
    for reason in reasons:
        assert reason in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_method_is_refused_by_pefts_format(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="cannot be saved in the format peft") as caught:
        write(head(), tmp_path, format="peft")
    assert "its method is head; PEFT's format only supports lora" in str(caught.value)


def broken(tmp_path: Path, changes: dict[str, Any], drop: tuple[str, ...] = ()) -> Path:
    """A file whose header is damaged in these ways."""
    file = write(head(), tmp_path / "whole") / NAME
    header = header_of(file) | changes
    header = {name: value for name, value in header.items() if name not in drop}
    save_file(head().tensors, tmp_path / NAME, metadata={"lorakit": json.dumps(header)})
    return tmp_path / NAME


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"method": 3}, "method is 3; it must be a string"),
        ({"method": None}, "header field method is null"),
        ({"method": "lora"}, "its method is lora, but its header lists no adapters"),
        ({"method_config": []}, r"method_config is \[\]; it must be a dict"),
        ({"base_model": ["x"]}, "base_model is .*; it must be a string"),
        ({"base_class": ["x"]}, r"base_class is .*; it must be a list \[module, class\]"),
        ({"fingerprint": {"float32": 5}}, "fingerprint is .*; it must be a dict of strings"),
        ({"num_labels": 0}, "num_labels is 0; it must be an integer > 0"),
        ({"dtypes": ["bfloat16"]}, r"mismatch: the header says \['bfloat16'\], got \['float32'"),
        ({"invented": 1}, "unknown header field invented=1; upgrade lorakit"),
        ({"version": 2}, "version 2; this version of lorakit reads version 1. Upgrade"),
    ],
    ids=str,
)
def test_damaged_header_is_refused(changes: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=problem):
        read(broken(tmp_path, changes))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"version": ' + "1" * 5000 + "}"])
def test_header_that_json_cannot_hold_is_refused(text: str, tmp_path: Path) -> None:
    save_file(head().tensors, tmp_path / NAME, metadata={"lorakit": text})
    with pytest.raises(FormatError, match="header is invalid"):
        read(tmp_path / NAME)


def lora_file(tmp_path: Path, part: str, changes: dict[str, Any]) -> Path:
    """A file of an adapter whose header says something else of its module's spec or site."""
    site = LinearSite(4, 6)
    tensors = dict(zip(("lora_A", "lora_B"), map(torch.randn, site.factor_shapes(2)), strict=True))
    adapter = ModuleAdapter(AdapterSpec(2), tensors, site)
    bundle = AdapterBundle(LoraConfig(r=2, target_modules=["m"]), {"m": adapter})
    header = header_of(write(bundle, tmp_path / "whole", format="lorakit") / NAME)
    entry = header["adapters"]["modules"]["m"]
    entry[part] = {n: v for n, v in (entry[part] | changes).items() if v is not ...}
    save_file(bundle.tensors, tmp_path / NAME, metadata={"lorakit": json.dumps(header)})
    return tmp_path / NAME


@pytest.mark.parametrize(
    ("part", "changes", "problem"),
    [
        ("spec", {"r": 0}, "m: r is 0; it must be an integer > 0"),
        ("spec", {"lora_alpha": 10**400}, "the integer 1000.* has more than 64 bits"),
        ("spec", {"lora_alpha": -1}, "m: lora_alpha is -1; it must be a number > 0"),
        ("spec", {"use_rslora": "no"}, "m: use_rslora is 'no'; it must be true or false"),
        ("spec", {"variant": ["lora"]}, "m: variant is .*; it must be a name"),
        ("spec", {"variant": ...}, "m: variant is missing"),
        ("spec", {"variant": None}, "m: variant is null"),
        ("spec", {"rank": 2}, "m: rank is unknown"),
        ("site", {"type": ["x"]}, "m: its type is .*; it must be one of LinearSite"),
        ("site", {"in_features": "4"}, "m: in_features is '4'; it must be an integer > 0"),
        ("site", {"transposed": 1}, "m: transposed is 1; it must be true or false"),
        ("site", {"type": "SlicedSite", "slices": [["6", True]]}, "m: slices is"),
        ("site", {"type": "SlicedSite", "slices": "abc"}, "m: slices is"),
        ("site", {"type": "ConvSite", "shape": [6, 4], "square": True}, "m: shape is"),
        ("site", {"type": "ConvSite", "shape": [6, 4, 1], "groups": 0}, "m: groups is 0"),
    ],
)
def test_damaged_settings_of_a_module_are_refused(
    part: str, changes: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(FormatError, match=problem):
        read(lora_file(tmp_path, part, changes))


@pytest.mark.parametrize("entry", [None, [], 3, {}, {"spec": {}}, {"spec": {}, "site": None}])
def test_module_without_settings_is_refused(entry: object, tmp_path: Path) -> None:
    file = lora_file(tmp_path, "spec", {})
    header = header_of(file)
    header["adapters"]["modules"]["m"] = entry
    save_file({"m.lora_A": torch.ones(1)}, file, metadata={"lorakit": json.dumps(header)})
    with pytest.raises(FormatError, match="m: its entry in the header has no spec and site"):
        read(file)


@pytest.mark.parametrize("lora_alpha", [None, 5])
def test_every_damage_of_a_header_is_listed(lora_alpha: float | None, tmp_path: Path) -> None:
    file = broken(tmp_path, {"base_model": 1, "new": 2}, drop=("method", "num_labels"))
    with pytest.raises(FormatError) as caught:
        read(file, lora_alpha)
    assert caught.value.problems == (
        "header field method is missing",
        "header field num_labels is missing",
        "unknown header field new=2; upgrade lorakit",
        "base_model is 1; it must be a string",
    )


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        (None, "has no lorakit metadata in its safetensors header, so its method and"),
        ({"lorakit": "{"}, "lorakit header is invalid"),
        ({"lorakit": "[]"}, "expected a dict, got list"),
    ],
)
def test_file_without_a_header_is_refused(
    metadata: dict[str, str] | None, problem: str, tmp_path: Path
) -> None:
    save_file(head().tensors, tmp_path / NAME, metadata=metadata)
    for path in (tmp_path, tmp_path / NAME):
        with pytest.raises(FormatError, match=problem):
            read(path)


@pytest.mark.parametrize("cut", [0, 5, 100, -1])
def test_truncated_file_is_refused(cut: int, tmp_path: Path) -> None:
    file = write(head(), tmp_path) / NAME
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(FormatError, match="corrupted or not a safetensors file"):
        read(tmp_path)


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    write(replace(head(), trained={"w": torch.tensor([1.0, 2.0])}), tmp_path)
    file = tmp_path / NAME
    metadata = load_safetensors(file)[1]
    save_safetensors({"w": torch.tensor([1.0, float("nan")])}, file, metadata)
    with pytest.raises(FormatError, match="contains NaN or infinite values"):
        read(tmp_path)


def test_alpha_of_a_file_without_factors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="lora_alpha=8 was passed, but its method is head"):
        read(write(head(), tmp_path), lora_alpha=8)


def test_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    write(head(), tmp_path)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("lorakit.checkpoint.formats.tensor_files.save_file", full)
    for directory in (tmp_path, tmp_path / "new" / "deep"):
        with pytest.raises(SaveError, match="No space left on device"):
            write(replace(head(), method="other"), directory)
    assert os.listdir(tmp_path) == [NAME]
    assert_equal(read(tmp_path), head())


def test_summary_of_another_method_reads_well() -> None:
    lines = [line.split(maxsplit=1) for line in str(summarise(head())).splitlines()]
    assert lines[0] == ["format", "lorakit"]
    assert lines[2] == ["method", "head"]
    text = str(summarise(head()))
    for part in ("modules=['classifier']", "15 in 2 tensors", "classifier.weight, classifier.bias"):
        assert part in text
    assert "rank" not in text
    many = replace(head(), trained={f"w{n}": torch.ones(1) for n in range(200)})
    assert "w6, w7 and 192 more" in str(summarise(many))
