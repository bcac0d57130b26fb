"""Files like some that were decoded before are decoded by what is known; others never are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import lorakit
from lorakit import LoraConfig
from lorakit.checkpoint import read
from lorakit.checkpoint.formats.peft import alike, codec
from lorakit.errors import FormatError
from tests.adapters.files import rewrite, save
from tests.checkpoint.bundles import assert_equal
from tests.injection import zoo

CONFIG = "adapter_config.json"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was decoded by its names."""
    found: list[object] = []
    decode = codec.decode
    monkeypatch.setattr(codec, "decode", lambda *args: found.append(args) or decode(*args))
    alike.forget()
    return found


CONFIGS: dict[str, dict[str, Any]] = {
    "linear": {"target_modules": ["q_proj"]},
    "DoRA with a head": {
        "target_modules": ["q_proj"],
        "use_dora": True,
        "modules_to_save": ["lm_head"],
    },
    "embedding": {"target_modules": ["embed_tokens"]},
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_files_alike_are_decoded_once(kind: str, tmp_path: Path, decoded: list[object]) -> None:
    paths = [save(zoo.llama, tmp_path / str(n), n, r=2, **CONFIGS[kind]) for n in range(3)]
    bundles = [read(path) for path in paths]
    assert len(decoded) == 1
    alike.forget()
    for path, bundle in zip(paths, bundles, strict=True):
        assert_equal(bundle, read(path))
        assert bundle.checksum == read(path).checksum


def test_tensors_that_are_decoded_to_others_are_decoded_each_time(
    tmp_path: Path, decoded: list[object]
) -> None:
    """Slices lie in PEFT's files as blocks of one matrix."""
    path = save(zoo.gpt2, tmp_path, r=2, slices={"c_attn": [True, False, True]})
    read(path)
    read(path)
    assert len(decoded) == 2


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("r", 2.0, "r is 2.0"),
        ("r", True, "r is True"),
        ("lora_alpha", 9, "lora_alpha"),
        ("use_rslora", 1, "use_rslora"),
        ("lora_bias", True, "lora_bias"),
    ],
)
def test_a_config_that_is_equal_but_not_the_same_is_decoded_anew(
    key: str, value: object, message: str, tmp_path: Path, decoded: list[object]
) -> None:
    path = save(zoo.llama, tmp_path, r=2, target_modules=["q_proj"])
    read(path)
    config = json.loads((path / CONFIG).read_text())
    (path / CONFIG).write_text(json.dumps({**config, key: value}))
    with pytest.raises(FormatError, match=message):
        read(path)
    assert len(decoded) == 2


def test_another_alpha_that_is_passed_is_refused(tmp_path: Path, decoded: list[object]) -> None:
    path = save(zoo.llama, tmp_path, r=2, target_modules=["q_proj"])
    read(path)
    with pytest.raises(FormatError, match="lora_alpha=3 was passed"):
        read(path, 3)


def test_numbers_that_are_not_finite_are_found_in_files_alike(
    tmp_path: Path, decoded: list[object]
) -> None:
    path = rewrite(save(zoo.llama, tmp_path, r=2, target_modules=["q_proj"]), torch.float32)
    read(path)
    file = path / "adapter_model.safetensors"
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    save_file({key: tensor / 0 for key, tensor in load_file(file).items()}, file, metadata)
    with pytest.raises(FormatError, match="NaN or infinite"):
        read(path)
    assert len(decoded) == 1


def test_a_model_takes_files_alike_one_after_another(tmp_path: Path) -> None:
    paths = [
        save(zoo.llama, tmp_path / str(n), n, r=2, target_modules=["q_proj"]) for n in range(2)
    ]
    values = []
    for path in paths:
        model: nn.Module = zoo.llama()
        lorakit.load_adapter(model, path)
        values.append(model.state_dict()["model.layers.0.self_attn.q_proj.lora_A"].clone())
    assert not torch.equal(*values)
    assert isinstance(read(paths[0]).config, LoraConfig)
