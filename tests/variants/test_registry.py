"""A kind of adapter from outside of the package: one class, one call, and it works everywhere."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.checkpoint import read
from lorakit.cli import main
from lorakit.errors import ConfigError, FormatError, StateError, TargetError
from lorakit.variants import VARIANTS, Variant, register
from tests.tolerances import TOLERANCES
from tests.variants.toys import registered

FP32 = TOLERANCES[torch.float32]


@pytest.fixture(autouse=True)
def hadamard() -> Iterator[Variant]:
    with registered() as variant:
        yield variant


CONFIG = {"r": 2, "lora_alpha": 4, "target_modules": ["0", "2"], "variant": "hadamard"}


def mlp() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)).eval()


def adapted() -> nn.Sequential:
    model = mlp()
    lora.inject(model, lora.LoraConfig(**CONFIG, init_lora_weights=False))  # type: ignore[arg-type]
    return model


def test_inject_gives_the_output_of_the_definition() -> None:
    model, x = adapted(), torch.randn(3, 6)
    y = x
    for layer in model:
        if isinstance(layer, lora.Linear):
            change = layer.scaling * (layer.lora_B @ layer.lora_A) * layer.mask
            y = y @ (layer.weight + change).T + layer.bias
        else:
            y = layer(y)
    assert_close(model(x), y, **FP32)
    with torch.no_grad(), lora.merged(model):
        assert_close(model(x), y, **FP32)


def test_what_is_frozen_does_not_train() -> None:
    model = adapted()
    assert not model[0].mask.requires_grad
    model(torch.randn(3, 6)).sum().backward()
    assert model[0].lora_A.grad is not None
    assert model[0].mask.grad is None
    lora.mark_only_lora_as_trainable(model)
    assert not model[0].mask.requires_grad
    assert model[0].lora_A.requires_grad


def test_eject_and_fold_leave_plain_layers() -> None:
    model, before = adapted(), mlp().state_dict()
    x, expected = torch.randn(3, 6), adapted()(torch.ones(3, 6))
    lora.eject(model)
    assert model.state_dict().keys() == before.keys()
    assert_close(model(x), mlp()(x), rtol=0, atol=0)
    lora.fold(model := adapted())
    assert type(model[0]) is nn.Linear
    assert_close(model(torch.ones(3, 6)), expected, **FP32)


def test_files_say_what_it_is(tmp_path: Path, monkeypatch, capsys) -> None:
    model, x = adapted(), torch.randn(3, 6)
    lora.save_adapter(model, tmp_path)
    assert read(tmp_path).adapters["0"].spec.variant == "hadamard"
    fresh = mlp()
    report = lora.load_adapter(fresh, tmp_path)
    assert report.format == "lorakit"
    assert_close(fresh(x), model(x), rtol=0, atol=0)
    lora.load_adapter(fresh, tmp_path)  # and over itself
    assert not fresh[0].mask.requires_grad
    monkeypatch.setattr("sys.argv", ["lorakit", "inspect", str(tmp_path), "--json"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert json.loads(capsys.readouterr().out)["variant"] == "hadamard"


def test_a_file_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    lora.save_adapter(adapted(), tmp_path)
    del VARIANTS["hadamard"]
    with pytest.raises(FormatError, match="variant is 'hadamard'; it must be one of lora, dora"):
        read(tmp_path)


def test_it_is_copied_with_the_model() -> None:
    model, x = adapted(), torch.randn(2, 6)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_close(twin(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"variant": "hadamrd"}, r"variant is 'hadamrd' \(did you mean 'hadamard'\?\)"),
        (
            {"lora_dropout": 0.1},
            "has variant hadamard, which does not support dropout; lora_dropout must",
        ),
    ],
)
def test_what_cannot_be_is_refused(changes, reason) -> None:
    with pytest.raises(TargetError, match=reason):
        lora.inject(mlp(), lora.LoraConfig(**{**CONFIG, **changes}))


def test_a_frozen_tensor_does_not_count_as_trainable() -> None:
    model = mlp()
    report = lora.inject(model, lora.LoraConfig(**CONFIG))  # type: ignore[arg-type]
    trains = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert report.trainable_parameters == trains == 2 * (6 + 8) + 2 * (8 + 4)
    assert report.adapter_parameters == trains + 6 * 8 + 8 * 4


def test_a_layer_that_it_is_not_for_is_refused() -> None:
    model = nn.Sequential(nn.Embedding(4, 4))
    with pytest.raises(TargetError, match="0 is an embedding; hadamard is for linear"):
        lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"], variant="hadamard"))


def test_a_taken_name_is_refused(hadamard: Variant) -> None:
    with pytest.raises(ConfigError, match="A variant named 'hadamard' is already registered"):
        register(hadamard)


def test_loralibs_files_are_read_as_before_beside_it(tmp_path: Path) -> None:
    pair = {"0.lora_A": torch.ones(2, 6), "0.lora_B": torch.ones(8, 2)}
    torch.save({**pair, "2.mask": torch.ones(3)}, tmp_path / "head.pt")
    assert list(read(tmp_path / "head.pt", lora_alpha=1).trained) == ["2.mask"]
    mixed = {**pair, "0.mask": torch.ones(8, 6), "0.lora_magnitude_vector": torch.ones(8)}
    torch.save(mixed, tmp_path / "mixed.pt")
    with pytest.raises(FormatError, match="but no variant has exactly these tensors"):
        read(tmp_path / "mixed.pt", lora_alpha=1)


def test_a_layer_of_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(lora.errors.ConfigError, match=r"variant is 'dorra'.*'dora'"):
        lora.Linear(4, 4, r=2, variant="dorra")


def test_its_norm_is_that_of_its_change_and_its_factors_alone_do_not_tell() -> None:
    adapter = adapted()[0].adapter
    assert adapter.norm() == pytest.approx(float(adapter.delta().detach().norm()), rel=1e-5)
    with pytest.raises(StateError, match=r"Hadamard is not s \* B A"):
        _ = adapter.singular_values


def test_a_layer_of_ones_own_that_it_is_not_for_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(type(VARIANTS["hadamard"]), "refusal", lambda self, site: "is refused")
    with pytest.raises(ConfigError, match=r"This Linear cannot be adapted:\n  - it is refused"):
        lora.Linear(4, 6, r=2, variant="hadamard")
