"""Adapters of a mixture's experts: sums, other ranks, and the formats that hold them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import lorakit as lora
from lorakit import checkpoint
from lorakit.checkpoint.renaming import rename_modules
from lorakit.errors import MismatchError, SaveError
from lorakit.variants import AdapterSpec, ModuleAdapter, ParameterSite
from tests.tolerances import TOLERANCES

FP32 = TOLERANCES[torch.float32]
UP, DOWN = "0.mlp.experts.gate_up_proj", "0.mlp.experts.down_proj"


def bundle_of(r: int, seed: int, experts: int = 3, transposed: bool = False) -> lora.AdapterBundle:
    generator = torch.Generator().manual_seed(seed)
    sites = {
        UP: ParameterSite(4, 10, experts, transposed),
        DOWN: ParameterSite(5, 4, experts, transposed),
    }
    adapters = {}
    for name, site in sites.items():
        a, b = (torch.randn(shape, generator=generator) for shape in site.factor_shapes(r))
        adapters[name] = ModuleAdapter(AdapterSpec(r, 6), {"lora_A": a, "lora_B": b}, site)
    config = lora.LoraConfig(
        r=r,
        lora_alpha=6,
        target_modules=[],
        target_parameters=["experts.gate_up_proj", "experts.down_proj"],
    )
    return lora.AdapterBundle(config, adapters)


def deltas(bundle: lora.AdapterBundle) -> dict[str, Tensor]:
    return {name: adapter.delta() for name, adapter in bundle.adapters.items()}


@pytest.mark.parametrize("transposed", [False, True])
def test_sum_is_that_of_each_expert(transposed: bool) -> None:
    one, two = bundle_of(2, 0, transposed=transposed), bundle_of(3, 1, transposed=transposed)
    found = lora.combine([(one, 0.5), (two, -2.0)])
    assert found.error.whole < 1e-6
    first, second, both = map(deltas, (one, two, found.bundle))
    for name, delta in both.items():
        assert_close(delta, 0.5 * first[name] - 2 * second[name], **FP32)
    assert {adapter.spec.r for adapter in found.bundle.adapters.values()} == {5}


def test_rank_is_that_of_each_expert() -> None:
    """The nearest of rank 1 to each expert's update is its first singular triple."""
    bundle = bundle_of(3, 0)
    found = lora.resize(bundle, rank=1)
    for name, near in deltas(found.bundle).items():
        u, s, v = torch.linalg.svd(deltas(bundle)[name], full_matrices=False)
        assert_close(near, s[:, :1, None] * u[..., :1] @ v[:, :1], rtol=1e-4, atol=1e-4)
    assert found.bundle.adapters[UP].tensors["lora_A"].shape == (3, 4)


def test_sum_of_other_numbers_of_experts_is_refused_with_both() -> None:
    with pytest.raises(MismatchError, match=r"3 x \(10, 4\) in adapter 1, 2 x \(10, 4\)"):
        lora.combine([(bundle_of(2, 0), 1.0), (bundle_of(2, 0, experts=2), 1.0)])


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("to", ["peft", "lorakit"])
def test_file_reads_back_as_it_was(to: str, transposed: bool, tmp_path: Path) -> None:
    bundle = bundle_of(2, 0, transposed=transposed)
    place = tmp_path / ("one.safetensors" if to == "lorakit" else "one")
    checkpoint.write(bundle, place, format=to)
    found = checkpoint.read(place)
    assert {n: (x.spec.r, x.site) for n, x in found.adapters.items()} == {
        n: (x.spec.r, x.site) for n, x in bundle.adapters.items()
    }
    assert_close(found.tensors, bundle.tensors, rtol=0, atol=0)
    assert found.config.target_parameters == bundle.config.target_parameters


def test_card_names_the_parameters_that_are_adapted(tmp_path: Path) -> None:
    card = (checkpoint.write(bundle_of(2, 0), tmp_path, format="peft") / "README.md").read_text()
    assert "- Adapted modules: 2 (experts.gate_up_proj, experts.down_proj)" in card.splitlines()


@pytest.mark.parametrize("to", ["portable", "vllm", "loralib", "diffusers", "kohya"])
def test_formats_without_experts_refuse_them_by_name(to: str, tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=rf"{UP} is a parameter that its module reads itself"):
        checkpoint.write(bundle_of(2, 0), tmp_path / "out", format=to)


def test_parameters_whose_order_is_unknown_are_refused_by_name(tmp_path: Path) -> None:
    """PEFT's files tell them apart by nothing else."""
    bundle = bundle_of(2, 0)
    names = {UP: "0.mlp.experts.first", DOWN: "0.mlp.experts.second"}
    renamed = rename_modules(bundle, names)
    assert renamed.config.target_parameters == tuple(names.values())
    with pytest.raises(SaveError, match=r"0\.mlp\.experts has adapters of first and second"):
        checkpoint.write(renamed, tmp_path / "out", format="peft")
    checkpoint.write(renamed, tmp_path / "one.safetensors", format="lorakit")
    found = checkpoint.read(tmp_path / "one.safetensors")
    assert list(found.adapters) == list(names.values())
