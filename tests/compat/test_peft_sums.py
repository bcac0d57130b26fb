"""Sums and other ranks as PEFT reads them, beside PEFT's own `add_weighted_adapter`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
from torch import Tensor, nn

import lorakit as lora
from lorakit.checkpoint import AdapterBundle, write
from lorakit.injection.transfer.saving import bundle_of
from lorakit.variants import ModuleAdapter
from tests.compat.peft_cases import CASES, Case
from tests.compat.peft_models import adapted, doubled, in_peft, output
from tests.tolerances import MODEL

ADDED = [name for name, case in CASES.items() if not case.config.get("use_dora")]
WEIGHTS = (0.7, 0.3)


def two(case: Case) -> list[tuple[AdapterBundle, float]]:
    """An adapter of the case and one with other factors, with the same head and biases."""
    first = bundle_of(adapted(case))
    torch.manual_seed(14)
    others = {name: redrawn(adapter) for name, adapter in first.adapters.items()}
    return list(zip((first, replace(first, adapters=others)), WEIGHTS, strict=True))


def redrawn(adapter: ModuleAdapter) -> ModuleAdapter:
    if not adapter.variant.is_low_rank:  # rows of tokens
        return adapter
    return replace(adapter, tensors={n: torch.randn_like(t) for n, t in adapter.tensors.items()})


def by_definition(case: Case, terms: Sequence[tuple[AdapterBundle, float]]) -> nn.Module:
    """The base, its weights changed by the sum of the dense updates; the head as it is."""
    model = adapted(case)
    with torch.no_grad():
        for name, adapter in terms[0][0].adapters.items():
            if adapter.variant.is_low_rank:
                layer = model.get_submodule(name)
                total = sum(x.adapters[name].delta().double() * weight for x, weight in terms)
                layer.base_weight.add_(total)
                layer.lora_B.zero_()
                if adapter.site is not None and adapter.site.kind == "embedding":
                    layer.lora_A.zero_()
    return model


@pytest.mark.parametrize("name", ADDED)
@pytest.mark.parametrize("rank", [None, 24], ids=["exact", "padded"])
def test_peft_reads_a_sum_as_what_it_is(name: str, rank: int | None, tmp_path: Path) -> None:
    case = CASES[name]
    terms = two(case)
    write(lora.combine(terms, rank=rank).bundle, tmp_path / "sum")
    theirs = in_peft(case.model(), tmp_path / "sum").double()
    expected = output(by_definition(case, terms).double(), doubled(case))
    torch.testing.assert_close(output(theirs, doubled(case)), expected, **MODEL)


@pytest.mark.parametrize("name", ["patterns", "rslora with patterns"])
def test_peft_reads_ranks_by_energy(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    small = lora.resize(bundle_of(adapted(case)), energy=0.8).bundle
    write(small, tmp_path / "small")
    theirs = in_peft(case.model(), tmp_path / "small")
    expected = output(by_definition(case, [(small, 1.0)]), case.batch())
    torch.testing.assert_close(output(theirs, case.batch()), expected, **MODEL)


# --- PEFT's own sums


class Wide(nn.Module):
    """One layer, wide enough for the updates to be of low rank."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(40, 30)

    def forward(self, x: Tensor) -> Tensor:
        return self.q(x)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two files of PEFT's, with other ranks and scales."""
    paths = {}
    for seed, (name, options) in enumerate(
        {"a": {"r": 4, "lora_alpha": 8}, "b": {"r": 4, "lora_alpha": 4}}.items()
    ):
        torch.manual_seed(seed)
        config = peft.LoraConfig(target_modules=["q"], init_lora_weights=False, **options)
        paths[name] = tmp_path_factory.mktemp("peft") / name
        peft.get_peft_model(Wide(), config).save_pretrained(paths[name])
    return paths


def theirs(adapters: Mapping[str, Path], weights: Sequence[float], **options) -> Tensor:
    """dW of PEFT's weighted adapter."""
    model = peft.PeftModel.from_pretrained(Wide(), adapters["a"], adapter_name="a")
    model.load_adapter(adapters["b"], "b")
    model.add_weighted_adapter(["a", "b"], list(weights), "sum", **options)
    return model.base_model.model.q.get_delta_weight("sum").detach().double()


def ours(adapters: Mapping[str, Path], weights: Sequence[float], **options) -> Tensor:
    files = [lora.checkpoint.read(adapters[name]) for name in "ab"]
    terms = list(zip(files, weights, strict=True))
    return lora.combine(terms, **options).bundle.adapters["q"].delta().double()


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def test_sums_are_pefts_by_concatenation_and_by_svd(adapters) -> None:
    weights = (0.7, -0.4)
    exact = theirs(adapters, weights, combination_type="cat")
    assert distance(ours(adapters, weights), exact) < 1e-6
    cut = theirs(adapters, weights, combination_type="svd", svd_rank=3)
    assert distance(ours(adapters, weights, rank=3), cut) < 1e-5


def test_what_peft_calls_linear_is_another_thing(adapters) -> None:
    weights = (0.5, 0.5)
    exact = theirs(adapters, weights, combination_type="cat")
    assert distance(theirs(adapters, weights, combination_type="linear"), exact) > 0.5
    assert distance(ours(adapters, weights, method="linear"), exact) < 1e-6


@pytest.mark.parametrize("method", ["ties", "magnitude_prune"])
def test_methods_on_the_update_are_pefts_with_svd(adapters, method: str) -> None:
    options = {"density": 0.4}
    expected = theirs(adapters, (1.0, 1.0), combination_type=f"{method}_svd", svd_rank=6, **options)
    assert distance(ours(adapters, (1.0, 1.0), method=method, rank=6, **options), expected) < 1e-4
    on_factors = theirs(adapters, (1.0, 1.0), combination_type=method, **options)
    assert distance(on_factors, expected) > 0.5


def test_ties_elects_the_sign_of_what_is_added_where_peft_leaves_weights_out(adapters) -> None:
    weights = (1.0, -1.0)
    options = {"density": 1.0, "combination_type": "ties_svd", "svd_rank": 30}
    with pytest.warns(UserWarning, match="no pruning will be performed"):
        peft_s = theirs(adapters, weights, **options)
    a, b = (lora.checkpoint.read(adapters[name]).adapters["q"].delta().double() for name in "ab")
    total = torch.stack([a, -b])
    agree = total.sign() == total.sum(0).sign()
    expected = (total * agree).sum(0) / agree.sum(0)
    found = ours(adapters, weights, method="ties", density=1.0, rank=30)
    assert distance(found, expected) < 1e-5
    assert distance(peft_s, expected) > 0.5
