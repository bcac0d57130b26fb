"""Adapters whose files have another type than the base: kept as they are, computed as alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lorakit.checkpoint import read
from tests.adapters.files import Build, alone, loaded_set, output, rewrite, row_by_row, save_all
from tests.adapters.test_rows import NAMES, WORLDS, batch_of
from tests.injection import zoo
from tests.tolerances import EXACT, MODEL, TOLERANCES

TYPES = {
    f"{file} on {base}": (getattr(torch, file), getattr(torch, base))
    for file, base in (
        ("bfloat16", "float32"),
        ("float16", "float32"),
        ("float16", "bfloat16"),
        ("float32", "bfloat16"),
    )
}
SOME = ["ranks, scales and targets", "DoRA beside LoRA", "slices of GPT-2's Conv1D"]


def of_type(build: Build, base: torch.dtype) -> Build:
    return lambda: build().to(base).requires_grad_(False)  # as an adapted model's base is


def in_types(
    world: str, types: str, directory: Path
) -> tuple[Build, dict[str, Path], dict[str, torch.Tensor]]:
    plain, configs = WORLDS[world]
    file, base = TYPES[types]
    build = of_type(plain, base)
    paths = save_all(build, directory, configs)
    return build, {n: rewrite(path, file) for n, path in paths.items()}, batch_of(plain)


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("world", [*SOME, "embeddings and convolutions"])
def test_a_file_of_another_type_gives_what_load_adapter_gives(
    world: str, types: str, tmp_path: Path
) -> None:
    build, paths, batch = in_types(world, types, tmp_path)
    model = build()
    adapters = loaded_set(model, paths)
    for name, path in paths.items():
        adapters.activate(name)
        assert_close(output(model, **batch), output(alone(build, path), **batch), **EXACT)


@pytest.mark.parametrize("world", [*SOME, "embeddings and convolutions"])
def test_types_mix_in_one_batch(world: str, tmp_path: Path) -> None:
    plain, configs = WORLDS[world]
    build = of_type(plain, torch.float32)
    paths = save_all(build, tmp_path, configs)
    rewrite(paths["a"], torch.bfloat16)
    rewrite(paths["b"], torch.float16)
    model, batch = build(), batch_of(plain)
    with loaded_set(model, paths).rows(NAMES):
        got = output(model, **batch)
    assert_close(got, row_by_row(build, paths, NAMES, **batch), **MODEL)


def test_a_file_of_16_bits_takes_16_bits(tmp_path: Path) -> None:
    """DoRA's magnitudes, which are compared with norms of the base, stay as `load_adapter`'s."""
    config = {"target_modules": ["q_proj"], "r": 4}
    plain, dora = {**config}, {**config, "use_dora": True}
    paths = save_all(zoo.llama, tmp_path, {"wide": plain, "narrow": plain, "dora": dora})
    rewrite(paths["narrow"], torch.bfloat16)
    rewrite(paths["dora"], torch.float16)
    adapters = loaded_set(zoo.llama(), paths)
    wide, narrow, with_dora = adapters.list()
    numbers = 2 * (4 * 16 + 16 * 4)
    assert (wide.nbytes, narrow.nbytes) == (4 * numbers, 2 * numbers)
    assert with_dora.nbytes == 2 * numbers + 4 * 2 * 16


def test_what_is_saved_of_a_narrow_adapter_is_the_same(tmp_path: Path) -> None:
    path = save_all(zoo.llama, tmp_path, {"a": {"target_modules": ["q_proj"]}})["a"]
    rewrite(path, torch.bfloat16)
    again = loaded_set(zoo.llama(), {"a": path}).save("a", tmp_path / "again")
    for name, tensor in read(path).tensors.items():
        assert_close(read(again).tensors[name], tensor, **EXACT)


def test_a_sum_of_narrow_adapters_rounds_nothing(tmp_path: Path) -> None:
    build, paths, batch = in_types(SOME[0], "bfloat16 on float32", tmp_path)
    model, other = build(), build()
    adapters, weights = loaded_set(model, paths), {"a": 0.3, "b": 0.7}
    widened = {n: rewrite(p, torch.float32) for n, p in paths.items()}
    adapters.activate(weights)
    loaded_set(other, widened).activate(weights)
    assert_close(output(model, **batch), output(other, **batch), **EXACT)


@pytest.mark.parametrize(
    ("base", "default"), [(torch.float32, torch.bfloat16), (torch.float64, torch.float32)]
)
def test_scales_of_rows_are_not_rounded_to_the_default_type(
    base: torch.dtype, default: torch.dtype, tmp_path: Path
) -> None:
    """One third has no end in any type."""

    def build() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 8, dtype=base))

    config = {"r": 3, "lora_alpha": 1, "target_modules": ["0"]}
    paths = save_all(build, tmp_path, {"a": config, "b": config})
    x = torch.randn(2, 5, 8, dtype=base)
    expected = row_by_row(build, paths, ["a", "b"], input=x)
    adapters = loaded_set(build(), paths)
    torch.set_default_dtype(default)
    with adapters.rows(["a", "b"]):
        assert_close(output(adapters.model, input=x), expected, **TOLERANCES[base])
