"""Files of other tools that a stranger broke: each is what was written, or one error."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.checkpoint.summary import summarise
from lorakit.config import LoraConfig
from lorakit.errors import FormatError, LorakitError
from lorakit.variants import LinearSite
from tests.checkpoint.test_forms import adapter
from tests.checkpoint.test_gguf import LLAMA
from tests.checkpoint.test_hostile_files import HOSTILE, changed, odd_tensors, places

MODULES = {
    "model.layers.0.self_attn.q_proj": LinearSite(64, 32),
    "model.layers.1.mlp.down_proj": LinearSite(48, 64),
}
PARTS = {"unet.down.0.to_q": LinearSite(64, 32), "text_encoder.x.fc1": LinearSite(48, 64)}
FILES = {
    "diffusers": ("a/pytorch_lora_weights.safetensors", "a", PARTS),
    "gguf": ("a.gguf", "a.gguf", MODULES),
    "kohya": ("a.safetensors", "a.safetensors", PARTS),
    "mlx": ("a/adapters.safetensors", "a", MODULES),
    "portable": ("a/adapter_model.safetensors", "a", MODULES),
}
"""Format -> the file with the tensors, what is written and read, modules."""
PAGE = 4096


def written(format: str, directory: Path) -> tuple[Path, Path]:
    """The file with the tensors, and what is read."""
    file, target, sites = FILES[format]
    adapters = {name: adapter(site, 16) for name, site in sites.items()}
    bundle = AdapterBundle(
        LoraConfig(target_modules=list(adapters)), adapters, base_model="org/base"
    )
    write(bundle, directory / target, format, base=LLAMA if format in ("gguf", "mlx") else None)
    return directory / file, directory / target


def said(bundle: AdapterBundle) -> str:
    """Everything in a bundle, as text."""
    numbers = {name: tensor.tolist() for name, tensor in bundle.tensors.items()}
    specs = {name: (x.spec, x.site) for name, x in bundle.adapters.items()}
    facts = (bundle.base_model, bundle.fingerprint, bundle.task_type, bundle.format)
    return repr((numbers, specs, facts))


def outcome(path: Path, whole: str, lora_alpha: float | None = None) -> str:
    """ "same" or "refused"; anything else is a failure."""
    start = time.monotonic()
    try:
        bundle = read(path, lora_alpha)
        assert str(summarise(bundle))
    except LorakitError as error:
        found, message = "refused", str(error)
    else:
        found, message = "same" if said(bundle) == whole else "another adapter", ""
    assert time.monotonic() - start < 10
    assert len(message) < 200_000
    assert found != "another adapter"
    return found


@pytest.mark.parametrize("format", FILES)
def test_file_cut_at_every_page_is_refused(format: str, tmp_path: Path) -> None:
    file, target = written(format, tmp_path)
    content, whole = file.read_bytes(), said(read(target))
    cuts = [*range(0, len(content), PAGE), 1, 8, 9, len(content) - 1]
    assert len(cuts) > 6
    for cut in cuts:
        file.write_bytes(content[:cut])
        assert outcome(target, whole) == "refused", cut


def flips(content: bytes, count: int, seed: str) -> Iterator[bytes]:
    draw = random.Random(seed)
    for _ in range(count):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= draw.randrange(1, 256)
        yield bytes(flipped)


@pytest.mark.parametrize(
    "count", [60, pytest.param(1000, marks=pytest.mark.slow)], ids=["some", "all"]
)
@pytest.mark.parametrize("format", FILES)
def test_flipped_byte_is_found(format: str, count: int, tmp_path: Path) -> None:
    file, target = written(format, tmp_path)
    content, whole = file.read_bytes(), said(read(target))
    found = {"same": 0, "refused": 0}
    for flipped in flips(content, count, format):
        file.write_bytes(flipped)
        found[outcome(target, whole)] += 1
    assert found["same"] <= count // 50, found  # what pads the file


def metadata_of(file: Path) -> dict[str, str]:
    with safe_open(file, framework="pt") as opened:
        return dict(opened.metadata())


@pytest.mark.parametrize("count", [25, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.parametrize("format", ["diffusers", "kohya", "mlx"])
def test_hostile_header_or_config_is_refused_or_read(
    format: str, count: int, tmp_path: Path
) -> None:
    file, target = written(format, tmp_path)
    tensors, metadata = load_file(file), metadata_of(file)
    del metadata["lorakit_checksum"]
    draw = random.Random(format)
    texts = [key for key in metadata if key.startswith("lora")]
    config = file.parent / "adapter_config.json"
    for _ in range(count):
        key = draw.choice([*texts, *(["config"] if format == "mlx" else [])])
        before = json.loads(config.read_text() if key == "config" else metadata[key])
        path, value = draw.choice(list(places(before))), draw.choice(HOSTILE)
        text = changed(before, path, value)
        if key == "config":
            whole = config.read_text()
            config.write_text(text)
            _read_or_refuse(target)
            config.write_text(whole)
        else:
            save_file(tensors, file, metadata={**metadata, key: text})
            _read_or_refuse(target)
    save_file(tensors, file, metadata=metadata)
    read(target)


@pytest.mark.parametrize("format", ["diffusers", "kohya", "mlx"])
def test_odd_tensor_is_refused_or_read(format: str, tmp_path: Path) -> None:
    file, target = written(format, tmp_path)
    tensors, metadata = load_file(file), metadata_of(file)
    del metadata["lorakit_checksum"]
    for key in list(tensors)[:3]:
        for odd in odd_tensors(tensors[key]):
            save_file({**tensors, key: odd}, file, metadata=metadata)
            _read_or_refuse(target)
        save_file({k: t for k, t in tensors.items() if k != key}, file, metadata=metadata)
        _read_or_refuse(target)


def _read_or_refuse(target: Path) -> None:
    start, message = time.monotonic(), ""
    try:
        bundle = read(target)
        assert str(summarise(bundle))
        assert all(tensor.isfinite().all() for tensor in bundle.tensors.values())
    except LorakitError as error:
        message = str(error)
    assert time.monotonic() - start < 10
    assert len(message) < 200_000


@pytest.mark.parametrize("format", [name for name in FILES if name != "gguf"])
def test_numbers_that_are_none_are_refused(format: str, tmp_path: Path) -> None:
    file, target = written(format, tmp_path)
    tensors, metadata = load_file(file), metadata_of(file)
    del metadata["lorakit_checksum"]
    for value in (float("nan"), float("inf")):
        key = next(key for key, tensor in tensors.items() if tensor.ndim == 2)
        broken = tensors[key].clone()
        broken[0, 0] = value
        save_file({**tensors, key: broken}, file, metadata=metadata)
        with pytest.raises(FormatError, match="contains NaN or infinite values"):
            read(target)


def test_huge_config_is_refused_in_bounded_time(tmp_path: Path) -> None:
    _, target = written("mlx", tmp_path)
    with (target / "adapter_config.json").open("w") as opened:
        opened.write('{"lora_parameters": {"x": "')
        for _ in range(100):
            opened.write("x" * 2**20)
        opened.write('"}}')
    start = time.monotonic()
    with pytest.raises(FormatError, match="has more than"):
        read(target)
    assert time.monotonic() - start < 5
    shutil.rmtree(target)


def test_names_that_lead_out_of_the_directory_are_names_alone(tmp_path: Path) -> None:
    name = "../../etc/q"
    pair = {name: adapter(LinearSite(4, 3))}
    bundle = AdapterBundle(LoraConfig(target_modules=[name]), pair)
    path = write(bundle, tmp_path / "a" / "b", "portable")
    assert list(read(path).adapters) == [name]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]
    torch.testing.assert_close(
        read(path).tensors[f"{name}.lora_A"], bundle.tensors[f"{name}.lora_A"]
    )
