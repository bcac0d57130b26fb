"""PEFT's prompts: which file is read, and which config is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lorakit.checkpoint import read, write
from lorakit.errors import FormatError
from tests.checkpoint.format_files import bundle, prompt

CONFIG, SAFE, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"


def changed(directory: Path, **settings: object) -> Path:
    file = prompt(directory).file.with_name(CONFIG)
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return directory


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000, '{"r": NaN}'])
def test_adapter_is_saved_over_a_damaged_config(text: str, tmp_path: Path) -> None:
    write(bundle(), tmp_path)
    (tmp_path / CONFIG).write_text(text)
    for path in (tmp_path, tmp_path / SAFE):
        with pytest.raises(FormatError, match=r"is not valid JSON|is nested too deeply"):
            read(path)
    write(bundle(), tmp_path)
    assert read(tmp_path).config.r == 16


def test_file_that_is_named_is_the_one_that_is_read(tmp_path: Path) -> None:
    prompt(tmp_path)
    torch.save({"prompt_embeddings": torch.ones(64, 96)}, tmp_path / PICKLE)
    found = {name: read(tmp_path / name).trained["prompt_embeddings"] for name in (SAFE, PICKLE)}
    assert torch.equal(found[PICKLE], torch.ones(64, 96))
    assert not torch.equal(found[SAFE], found[PICKLE])
    assert torch.equal(read(tmp_path).trained["prompt_embeddings"], found[SAFE])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task_type": []}, r"task_type is \[\]; only CAUSAL_LM and SEQ_2_SEQ_LM"),
        ({"task_type": {}}, r"task_type is \{\}; only CAUSAL_LM and SEQ_2_SEQ_LM"),
        ({"base_model_name_or_path": 7}, "base_model_name_or_path is 7; it must be a string"),
    ],
)
def test_config_of_other_types_is_refused(
    settings: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(FormatError, match=message):
        read(changed(tmp_path, **settings))
