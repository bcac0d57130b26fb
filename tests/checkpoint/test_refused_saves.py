"""What would not come back as it was is refused before anything on the disk is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import lorakit as lora
from lorakit import methods
from lorakit.checkpoint import write
from lorakit.errors import MismatchError, SaveError
from lorakit.injection.transfer.saving import bundle_of
from lorakit.variants import ConvSite
from tests.algebra.adapters import adapter, bundle
from tests.tolerances import EXACT

X = torch.linspace(-1, 1, 10).reshape(2, 5)


def base() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 3))


def adapted(**fields: object) -> nn.Sequential:
    model = base()
    config = {"r": 3, "target_modules": ["0", "2"], "init_lora_weights": False} | fields
    lora.inject(model, lora.LoraConfig(**config))
    return model


def files(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


@pytest.mark.parametrize("format", ["peft", "lorakit"])
@pytest.mark.parametrize("fields", [{}, {"use_rslora": True}, {"alpha_pattern": {"2": 5}}])
def test_scaling_that_was_set_is_saved(
    fields: dict[str, object], format: str, tmp_path: Path
) -> None:
    model = adapted(**fields)
    model[0].scaling = 7.5
    write(bundle_of(model), tmp_path, format)
    again = base()
    lora.load_adapter(again, tmp_path)
    assert again[0].scaling == pytest.approx(7.5, rel=1e-15)
    assert again[2].scaling == model[2].scaling
    assert_close(again(X), model(X), **EXACT)
    lora.load_adapter(model, tmp_path)


@pytest.mark.parametrize("scaling", [7.5, 0, -2.0])
def test_scaling_that_was_set_is_the_value_s(scaling: float) -> None:
    layer = adapted()[0]
    layer.scaling = scaling
    assert_close(layer.adapter.delta(), layer.delta_weight().detach(), **EXACT)


def test_scaling_that_was_set_is_compared_with_the_file_s(tmp_path: Path) -> None:
    model = adapted()
    lora.save_adapter(model, tmp_path)
    model[0].scaling = 7.5
    with pytest.raises(MismatchError, match=r"0 is adapted with scaling 7\.5, but the file has"):
        lora.load_adapter(model, tmp_path)


@pytest.mark.parametrize("scaling", [0, -2.0, float("nan"), float("inf"), torch.tensor(2.0), "2"])
def test_scaling_that_no_file_can_store_is_refused(scaling: object, tmp_path: Path) -> None:
    model = adapted()
    lora.save_adapter(model, tmp_path)
    before = files(tmp_path)
    model[2].scaling = scaling
    with pytest.raises(
        SaveError, match=r"2 has scaling .*, and a file can only store a number > 0"
    ):
        lora.save_adapter(model, tmp_path)
    assert files(tmp_path) == before


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["0.lora_A", "3.bias"])
@pytest.mark.parametrize("format", ["peft", "lorakit"])
def test_values_that_loading_refuses_are_not_saved_over_a_good_adapter(
    format: str, name: str, value: float, tmp_path: Path
) -> None:
    model = adapted(modules_to_save=["3"])
    write(bundle_of(model), tmp_path, format)
    before = files(tmp_path)
    with torch.no_grad():
        model.get_parameter(name).view(-1)[1] = value
    size = model.get_parameter(name).numel()
    with pytest.raises(SaveError, match=rf"{name}: 1 of {size} values are NaN or infinite"):
        write(bundle_of(model), tmp_path, format)
    assert files(tmp_path) == before


@pytest.mark.parametrize("name", ["full", "head"])
def test_values_of_other_methods_are_checked_too(name: str, tmp_path: Path) -> None:
    model, method = base(), methods.find(name)
    method.apply(model, method.default_config(), head=["3"])
    with torch.no_grad():
        model[3].weight[0, 0] = float("nan")
    with pytest.raises(SaveError, match=r"3\.weight: 1 of 12 values are NaN or infinite"):
        lora.save_adapter(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("alpha", "what"),
    [(1e42, "12 of 12 values are NaN or infinite"), (1e-46, "12 values become 0")],
)
@pytest.mark.parametrize("format", ["portable", "vllm"])
def test_scale_that_takes_B_out_of_its_range_is_not_saved(
    format: str, alpha: float, what: str, tmp_path: Path
) -> None:
    bundle = bundle_of(adapted(lora_alpha=alpha))
    with pytest.raises(SaveError, match=rf"0\.lora_B: {what}"):
        write(bundle, tmp_path / "new", format)
    assert not (tmp_path / "new").exists()
    write(bundle, tmp_path / "new", "peft")


def test_layers_with_one_problem_are_one_line(tmp_path: Path) -> None:
    convolutions = {f"h.{n}.conv": adapter(ConvSite((6, 4, 3)), 2) for n in range(32)}
    for format in ("portable", "vllm", "loralib"):
        with pytest.raises(SaveError) as caught:
            write(bundle(convolutions), tmp_path / f"{format}.pt", format)
        (problem,) = caught.value.problems
        assert problem.startswith("h.{0-31}.conv ")


@pytest.mark.parametrize("format", ["portable", "vllm", "loralib", "diffusers", "kohya"])
def test_a_linear_weight_as_parameter_is_refused_with_what_to_do(
    format: str, tmp_path: Path
) -> None:
    model = nn.ModuleDict({"h": nn.ModuleDict({"q": nn.Linear(5, 5)})})
    lora.inject(model, lora.LoraConfig(r=2, target_modules=[], target_parameters=["q.weight"]))
    with pytest.raises(SaveError) as caught:
        write(bundle_of(model), tmp_path / "adapter.pt", format)
    (problem,) = [p for p in caught.value.problems if p.startswith("h.q.weight is a parameter")]
    assert problem.endswith("where that is a linear layer, train it by target_modules instead")
