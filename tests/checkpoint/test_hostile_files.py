"""Files that a stranger broke in some hundred ways: each is read rightly or is one LorakitError.

Every value of a config and of a header takes every hostile value, files are cut and flipped, and
tensors have every type and shape that a format can store.
"""

from __future__ import annotations

import json
import random
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import lorakit as lora
from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.checkpoint.summary import summarise
from lorakit.errors import FormatError, LorakitError

SECONDS = 10
RAW = {
    "@deep list@": "[" * 100_000 + "]" * 100_000,
    "@deep dict@": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "@digits@": "7" * 5000,
    "@10^400@": "1" + "0" * 400,
    "@1e400@": "1e400",
    "@-1e400@": "-1e400",
    "@NaN@": "NaN",
    "@-Infinity@": "-Infinity",
}
"""What JSON's text may be and `json.dumps` does not write."""
HOSTILE = [
    *RAW, None, True, -1, 0, 3, 2**62, 1.5, 1e308, "", "x", "x" * 100_000, "(a+)+b", "(", "\ud800",
    "a\0b", [], [[]], [None], ["(a+)+b"], ["q", 3], {}, {"": 1}, {"(a|aa)+$": 3}, {"q": {"q": []}},
    [[10**18, True]], [[-2, True], [10, True]], [[8, True]],
]  # fmt: skip

Break = Callable[[Path], object]


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"q": nn.Linear(4, 8), "qkv": nn.Linear(4, 12), "head": nn.Linear(8, 2)})


def adapted(**settings: Any) -> nn.Module:
    made = model()
    config = {"r": 2, "target_modules": ["q"], "modules_to_save": ["head"], **settings}
    lora.inject(made, lora.LoraConfig(**config))
    return made


def save_native(directory: Path) -> None:
    lora.save_adapter(adapted(), directory)
    bundle = read(directory)
    shutil.rmtree(directory)
    write(bundle, directory, "lorakit")


def save_full(directory: Path) -> None:
    write(AdapterBundle(method="full", trained=model().state_dict()), directory)


def save_loralib(directory: Path) -> None:
    directory.mkdir()
    torch.save(lora.lora_state_dict(adapted()), directory / "lora.pt")


SLICES = {"qkv": [(4, True), (4, False), (4, True)]}
KINDS: dict[str, tuple[str, Break]] = {
    "peft": ("adapter_model.safetensors", lambda d: lora.save_adapter(adapted(), d)),
    "dora": (
        "adapter_model.safetensors",
        lambda d: lora.save_adapter(adapted(use_dora=True, rank_pattern={"q": 3}), d),
    ),
    "slices": (
        "adapter_model.safetensors",
        lambda d: lora.save_adapter(adapted(target_modules=["qkv"], slices=SLICES), d),
    ),
    "lorakit": ("trained.safetensors", save_native),
    "full": ("trained.safetensors", save_full),
    "loralib": ("lora.pt", save_loralib),
}


def outcome(path: Path) -> str:
    """Read, describe and load it as a user does; "right" or "refused", whatever is in it."""
    start, message = time.monotonic(), ""
    try:
        bundle = read(path, 4.0 if path.suffix == ".pt" else None)
        assert str(summarise(bundle))
        lora.load_adapter(model(), path, lora_alpha=4.0 if path.suffix == ".pt" else None)
    except LorakitError as error:
        message = str(error)
    assert time.monotonic() - start < SECONDS
    assert len(message) < 200_000
    return "refused" if message else "right"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value in a JSON value."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> str:
    """The JSON text with another value there."""
    copy = json.loads(json.dumps(value))
    target = copy
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = new
    text = json.dumps(copy)
    for name, raw in RAW.items():
        text = text.replace(json.dumps(name), raw)
    return text


def with_config(text: str) -> Break:
    return lambda d: (d / "adapter_config.json").write_text(text)


def with_header(file: str, text: str) -> Break:
    def break_header(directory: Path) -> None:
        tensors = load_file(directory / file)
        save_file(tensors, directory / file, metadata={"format": "pt", "lorakit": text})

    return break_header


def with_content(file: str, content: bytes) -> Break:
    return lambda d: (d / file).write_bytes(content)


def odd_tensors(tensor: Tensor) -> Iterator[Tensor]:
    """Of other types, shapes and values."""
    for kind in (torch.bool, torch.int8, torch.int64, torch.float16, torch.float8_e4m3fn):
        yield torch.zeros(tensor.shape, dtype=kind)
    yield torch.zeros(tensor.shape, dtype=torch.complex64)
    yield from (torch.zeros(shape) for shape in [(), (0,), (3,), (0, 4), (1, 1), (2, 4, 1, 1, 1)])
    yield from (torch.full(tensor.shape, x) for x in (float("nan"), float("inf"), 1e38))


def with_tensor(file: str, key: str, new: Tensor | None, name: str | None = None) -> Break:
    """The file with another tensor or name for one of its tensors, or without it."""

    def break_tensor(directory: Path) -> None:
        with safe_open(directory / file, framework="pt") as opened:
            metadata = dict(opened.metadata() or {})
        tensors = load_file(directory / file)
        old = tensors.pop(key)
        if name is not None or new is not None:
            tensors[name if name is not None else key] = old if new is None else new
        metadata.pop("lorakit_checksum", None)
        save_file(tensors, directory / file, metadata=metadata)

    return break_tensor


NAMES = ["", ".", "..", "a..b", "x" * 100_000, "q\n.lora_A.weight", "base_model.model.", "lora_A",
         "base_model.model..lora_A.weight", "base_model.model.q.lora_A.x.weight", "\u202e",
         "base_model.model.².lora_A.weight", "1" * 5000]  # fmt: skip


def breaks(directory: Path, kind: str) -> Iterator[Break]:
    """Every way in which a file of this kind is broken."""
    file = KINDS[kind][0]
    content = (directory / file).read_bytes()
    draw = random.Random(kind)
    for cut in {0, 1, 8, 9, len(content) - 1, *draw.sample(range(len(content)), 25)}:
        yield with_content(file, content[:cut])
    for _ in range(60):
        flipped = bytearray(content)
        for bit in draw.sample(range(8 * len(content)), draw.choice([1, 1, 2, 40])):
            flipped[bit // 8] ^= 1 << bit % 8
        yield with_content(file, bytes(flipped))
    if not file.endswith(".safetensors"):
        return
    with safe_open(directory / file, framework="pt") as opened:
        header = json.loads(opened.metadata()["lorakit"])
    for path in places(header):
        for value in HOSTILE if len(path) < 4 else draw.sample(HOSTILE, 6):
            yield with_header(file, changed(header, path, value))
    if (directory / "adapter_config.json").is_file():
        config = json.loads((directory / "adapter_config.json").read_text())
        fields = set(config) | {"layers_pattern", "exclude_modules", "rank_pattern", "auto_mapping"}
        for path in {*places(config), *((name,) for name in fields)}:
            for value in HOSTILE:
                yield with_config(changed(config, path, value))
    for key, tensor in load_file(directory / file).items():
        yield with_tensor(file, key, None)
        yield from (with_tensor(file, key, odd) for odd in odd_tensors(tensor))
        yield from (with_tensor(file, key, None, name) for name in NAMES)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "least"),
    [("peft", 1500), ("dora", 1500), ("slices", 1500), ("lorakit", 1400), ("full", 500),
     ("loralib", 80)],
)  # fmt: skip
def test_broken_file_is_read_rightly_or_refused(kind: str, least: int, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    KINDS[kind][1](whole)
    file = KINDS[kind][0] if kind == "loralib" else ""
    assert outcome(whole / file) == "right"
    counts = {"right": 0, "refused": 0}
    for n, break_file in enumerate(breaks(whole, kind)):
        broken = tmp_path / str(n)
        shutil.copytree(whole, broken)
        break_file(broken)
        counts[outcome(broken / file)] += 1
        shutil.rmtree(broken)
    assert sum(counts.values()) >= least, counts
    assert counts["refused"] > counts["right"] / 20, counts


@pytest.mark.parametrize("kind", [["LORA"], {}, None, 3])
def test_a_kind_of_adapter_that_is_no_text_is_refused(kind: object, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": kind}))
    with pytest.raises(LorakitError, match="peft_type is"):
        read(tmp_path)


@pytest.mark.parametrize(("dtype", "shape"), [("F8_E8M0", [1]), ("F4", [2])])
def test_a_type_that_torch_does_not_read_is_refused(
    dtype: str, shape: list[int], tmp_path: Path
) -> None:
    entry = {"q.lora_A.weight": {"dtype": dtype, "shape": shape, "data_offsets": [0, 1]}}
    text = json.dumps(entry).encode()
    content = struct.pack("<Q", len(text)) + text + b"\1"
    (tmp_path / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(FormatError, match=f"has tensors of dtype {dtype}, which"):
        read(tmp_path)
