"""Regular expressions in a stranger's config that make `re` hang."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import lorakit as lora
from lorakit.checkpoint import read, write
from lorakit.config import expressions
from lorakit.errors import FormatError, LorakitError

NAME = "a" * 60
FIELDS: dict[str, object] = {
    "target_modules": r"(a+)+b",
    "exclude_modules": r"(a|aa)+b",
    "rank_pattern": {r"(\w+\w*)*b": 4},
    "alpha_pattern": {r"(a?){60}a{60}b": 4},
}


def adapter(directory: Path, **fields: object) -> Path:
    """PEFT's files of one adapted module."""
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": [NAME], **fields}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    key = f"base_model.model.{NAME}"
    tensors = {f"{key}.lora_A.weight": torch.ones(2, 4), f"{key}.lora_B.weight": torch.ones(4, 2)}
    save_file(tensors, directory / "adapter_model.safetensors")
    return directory


MANY = {
    "expressions": ({f"layers.{i}.(q|k)": 4 for i in range(20_000)}, "20,000 keys are regular"),
    "letters": ({"a(b|c)" * 20_000 + str(i): 4 for i in range(2)}, "2 keys .* 240,002 letters"),
    "one": ({"a(b|c)" * 200_000: 4}, "1 keys are regular expressions, of 1,200,000 letters"),
}


@pytest.mark.parametrize("field", ["rank_pattern", "alpha_pattern"])
@pytest.mark.parametrize(("keys", "message"), MANY.values(), ids=MANY)
def test_keys_that_take_long_to_read_are_refused(
    field: str, keys: dict[str, int], message: str, tmp_path: Path
) -> None:
    path = adapter(tmp_path, **{field: keys})
    start = time.process_time()
    with pytest.raises(FormatError, match=f"{field}: {message}"):
        read(path)
    assert time.process_time() - start < 2


def test_names_as_keys_are_read_in_little_time(tmp_path: Path) -> None:
    path = adapter(tmp_path, rank_pattern={f"layers.{i}.q": 4 for i in range(100_000)})
    start = time.process_time()
    assert list(read(path).adapters) == [NAME]
    assert time.process_time() - start < 5


def test_expression_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {f"read_once.{i}.(q|k)": 4 for i in range(500)}
    config = lora.LoraConfig(rank_pattern=keys)
    monkeypatch.setattr(expressions, "_Reader", lambda _: pytest.fail("read again"))
    assert config.replace(r=2).ranks_of(["x.read_once.3.q"]) == {"x.read_once.3.q": 4}


def in_pickle(directory: Path, field: str) -> Path:
    """As PEFT wrote before safetensors."""
    path = adapter(directory, **{field: FIELDS[field]})
    torch.save(load_file(path / "adapter_model.safetensors"), path / "adapter_model.bin")
    (path / "adapter_model.safetensors").unlink()
    return path


def in_header(directory: Path, field: str) -> Path:
    """In the header of lorakit's own format."""
    adapter(directory)
    file = write(read(directory), directory / "own", "lorakit") / "trained.safetensors"
    with safe_open(file, framework="pt") as opened:
        header = json.loads(opened.metadata()["lorakit"])
    header["adapters"]["config"][field] = FIELDS[field]
    save_file(load_file(file), file, {"lorakit": json.dumps(header)})
    return file.parent


def in_metadata(directory: Path, field: str) -> Path:
    """In what diffusers knows of the UNet of a pipeline."""
    config = {"r": 2, "lora_alpha": 4, "target_modules": [NAME], field: FIELDS[field]}
    text = json.dumps({f"unet.{key}": value for key, value in config.items()})
    shapes = {"lora_A": (2, 4), "lora_B": (4, 2)}
    tensors = {f"unet.{NAME}.{leaf}.weight": torch.ones(shape) for leaf, shape in shapes.items()}
    file = directory / "pytorch_lora_weights.safetensors"
    save_file(tensors, file, {"lora_adapter_metadata": text})
    return directory


FORMS: dict[str, Callable[[Path, str], Path]] = {
    "peft": lambda directory, field: adapter(directory, **{field: FIELDS[field]}),
    "peft, .bin": in_pickle,
    "lorakit": in_header,
    "diffusers": in_metadata,
}
"""The formats whose files have expressions."""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("field", FIELDS)
def test_pattern_that_backtracks_does_not_hang(form: str, field: str, tmp_path: Path) -> None:
    path = FORMS[form](tmp_path, field)
    model: nn.Module = nn.ModuleDict({NAME: nn.Linear(4, 4)})
    model = nn.ModuleDict({"unet": model}) if form == "diffusers" else model
    start = time.process_time()
    (name,) = read(path).adapters
    assert name.endswith(NAME)
    if field == "target_modules" and form != "diffusers":  # which names its targets again
        with pytest.raises(LorakitError, match="not a target module of its config"):
            lora.load_adapter(model, path)
    else:
        lora.load_adapter(model, path)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("expression", [r"(a+)+$", r"(a|a)*$", r"^(([a-z])+.)+[A-Z]([a-z])+$"])
def test_known_expressions_that_backtrack_do_not_hang(
    form: str, expression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for field in FIELDS:
        value = {expression: 4} if field.endswith("pattern") else expression
        monkeypatch.setitem(FIELDS, field, value)
        directory = tmp_path / field
        directory.mkdir()
        start, message = time.process_time(), ""
        try:
            assert read(FORMS[form](directory, field)).adapters
        except LorakitError as error:
            message = str(error)
        assert time.process_time() - start < 5
        assert len(message) < 10_000
