"""What is no adapter, no weight or not finite is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import lorakit as lora
from lorakit.checkpoint import AdapterBundle
from lorakit.errors import ConfigError, MismatchError
from lorakit.variants import LinearSite
from tests.algebra.adapters import adapter, bundle

READ = r"pass what lorakit\.checkpoint\.read\(\.\.\.\) gives"


def one() -> AdapterBundle:
    torch.manual_seed(0)
    return bundle({"q": adapter(LinearSite(7, 5), 2)})


@pytest.mark.parametrize("weight", [1.0, 0.5, 0])
def test_path_in_a_sum_is_refused(weight: float) -> None:
    with pytest.raises(ConfigError, match=rf"adapter 2 is a \w*Path; {READ}"):
        lora.combine([(one(), 1.0), (Path("legal"), weight)])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match=rf"adapter 1 is a str; {READ}"):
        lora.combine([("legal", weight)])  # type: ignore[list-item]


@pytest.mark.parametrize("terms", [one(), [one()], "legal", Path("legal"), None, [(one(), 1, 1)]])
def test_what_is_no_pair_is_refused(terms: object) -> None:
    with pytest.raises(ConfigError, match=r"adapter 1 is a \w+; pass a pair \(adapter, weight\)"):
        lora.combine(terms)  # type: ignore[arg-type]


def test_all_that_is_wrong_is_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        lora.combine([(one(), "x"), (Path("legal"), None), one()])  # type: ignore[list-item]
    assert len(caught.value.problems) == 4


def test_path_is_not_resized() -> None:
    with pytest.raises(ConfigError, match=rf"it is a \w*Path; {READ}"):
        lora.resize(Path("legal"), rank=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("options", [{}, {"rank": 1}, {"energy": 0.5}, {"method": "ties"}], ids=str)
def test_values_that_are_not_finite_are_refused(options: dict, value: float) -> None:
    broken = one()
    broken.adapters["q"].tensors["lora_A"][0, 0] = value
    match = r"q\.lora_A: 1 of 14 values are NaN or infinite"
    for terms in ([(broken, 0.5)], [(broken, 1.0)], [(one(), 0.5), (broken, 0.5)]):
        with pytest.raises(MismatchError, match=match):
            lora.combine(terms, **options)
    assert lora.combine([(broken, 0), (one(), 0.5)], **options).bundle.adapters
    with pytest.raises(MismatchError, match=match):
        lora.resize(broken, **({"rank": 1} if options.get("rank") else {"energy": 0.5}))
