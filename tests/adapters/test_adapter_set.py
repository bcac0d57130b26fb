"""Names, switching and refusals of an AdapterSet."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import lorakit
from lorakit import AdapterSet, LoraConfig
from lorakit.errors import LorakitError, MismatchError, StateError, TargetError
from tests.adapters.files import alone, loaded_set, output, save, save_all
from tests.injection import zoo
from tests.tolerances import EXACT, MODEL

CASE = zoo.CASES["llama"]
CONFIGS = {
    "legal": {"r": 4, "target_modules": ["q_proj", "v_proj"]},
    "medical": {"r": 2, "target_modules": ["up_proj"]},
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_all(zoo.llama, tmp_path_factory.mktemp("adapters"), CONFIGS)


def text_of(model: nn.Module) -> torch.Tensor:
    return output(model, **CASE.batch())


def test_activate_deactivate_and_unload(paths: dict[str, Path]) -> None:
    model = zoo.llama()
    base, adapters = text_of(model), loaded_set(model, paths)
    for name, path in paths.items():
        adapters.activate(name)
        assert adapters.active == {name: 1.0}
        assert_close(text_of(model), text_of(alone(zoo.llama, path)), **MODEL)
    adapters.deactivate()
    assert adapters.active == {}
    assert_close(text_of(model), base, **EXACT)
    adapters.unload("medical")
    assert [loaded.name for loaded in adapters.list()] == ["legal"]
    adapters.load("medical", paths["legal"])
    adapters.activate("medical")
    assert_close(text_of(model), text_of(alone(zoo.llama, paths["legal"])), **MODEL)


def test_list_says_what_each_adapter_is(paths: dict[str, Path]) -> None:
    legal, medical = loaded_set(zoo.llama(), paths).list()
    assert (legal.name, legal.source) == ("legal", str(paths["legal"]))
    assert len(legal.modules) == 4
    assert legal.parameters == 2 * (4 * 16 + 16 * 4 + 4 * 16 + 8 * 4)
    assert legal.nbytes == 4 * legal.parameters
    assert legal.base_verified is True
    assert str(medical) == (
        f"medical: 160 parameters (640 bytes) in 2 modules, from {paths['medical']}"
    )


def test_a_switch_walks_no_modules(paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = zoo.llama()
    adapters = loaded_set(model, paths)

    def walk(*_: object, **__: object) -> None:
        raise AssertionError("a walk over modules")

    monkeypatch.setattr(nn.Module, "named_modules", walk)
    adapters.activate("legal")
    with adapters.rows(["legal", None]):
        adapters.deactivate()


def test_slots_of_unloaded_adapters_serve_others(tmp_path: Path) -> None:
    """Nine adapters pass through a set that has room for four, and none keeps another's values."""
    model, adapters = zoo.llama(), None
    adapters = AdapterSet(model)
    kept: dict[str, torch.Tensor] = {}
    for n in range(9):
        path = save(zoo.llama, tmp_path / str(n), n, r=2, target_modules=["q_proj"])
        adapters.load(str(n), path)
        kept[str(n)] = text_of(alone(zoo.llama, path))
        if n in (2, 3, 6):
            adapters.unload(str(n - 1))
            del kept[str(n - 1)]
    for name, expected in kept.items():
        adapters.activate(name)
        assert_close(text_of(model), expected, **MODEL)


def test_a_name_is_taken_once(paths: dict[str, Path]) -> None:
    adapters = loaded_set(zoo.llama(), paths)
    with pytest.raises(StateError, match="'legal' is already in this set"):
        adapters.load("legal", paths["medical"])
    with pytest.raises(StateError, match="a text that is not empty, not ''"):
        adapters.load("", paths["medical"])


def test_every_unknown_name_is_listed_with_the_nearest(paths: dict[str, Path]) -> None:
    adapters = loaded_set(zoo.llama(), paths)
    with (
        pytest.raises(StateError) as error,
        adapters.rows(["legal", "lega", None, "tax", "tax"]),
    ):
        pass
    assert error.value.problems == ("'lega' (did you mean 'legal'?)", "'tax'")
    assert "which has 'legal', 'medical'" in str(error.value)
    for call in (adapters.activate, adapters.unload):
        with pytest.raises(StateError, match="did you mean 'medical'"):
            call("medcal")


@pytest.mark.parametrize("names", [["legal", "medical", None], ["legal"] * 3])
def test_a_wrong_number_of_rows_is_an_error(
    paths: dict[str, Path], names: list[str | None]
) -> None:
    model = zoo.llama()
    adapters = loaded_set(model, paths)
    with adapters.rows(names), pytest.raises(StateError, match=r"has an input of 2.*named 3"):
        text_of(model)


def test_no_rows_at_all_is_an_error(paths: dict[str, Path]) -> None:
    adapters = loaded_set(zoo.llama(), paths)
    with pytest.raises(StateError, match="names no adapters"), adapters.rows([]):
        pass


def test_what_is_no_name_is_an_error(paths: dict[str, Path]) -> None:
    adapters: Any = loaded_set(zoo.llama(), paths)
    with (
        pytest.raises(StateError, match="names 'legal', which is one text"),
        adapters.rows("legal"),
    ):
        pass
    with pytest.raises(StateError, match="of these names") as caught, adapters.rows([["a"], 3]):
        pass
    assert caught.value.problems == ("['a']", "3")
    for wrong in (None, 5, ["legal"]):
        with pytest.raises(StateError, match="takes a name, or weights by name"):
            adapters.activate(wrong)


def test_a_set_may_be_closed_within_its_rows(paths: dict[str, Path]) -> None:
    model = zoo.llama()
    adapters = loaded_set(model, paths)
    with adapters.rows(["legal", None]):
        adapters.close()
        assert_close(text_of(model), text_of(zoo.llama()), **EXACT)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_set_is_not_copied(paths: dict[str, Path], again: Any) -> None:
    with pytest.raises(StateError, match="not copied or pickled"):
        again(loaded_set(zoo.llama(), paths))


def test_an_adapter_in_use_is_not_unloaded(paths: dict[str, Path]) -> None:
    adapters = loaded_set(zoo.llama(), paths)
    adapters.activate("legal")
    with pytest.raises(StateError, match="'legal' is active; call deactivate"):
        adapters.unload("legal")
    with (
        adapters.rows(["medical", None]),
        pytest.raises(StateError, match=r"'medical' is in use by rows"),
    ):
        adapters.unload("medical")
    adapters.unload("medical")


def test_an_adapter_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    path = save(lambda: zoo.llama(hidden_size=32), tmp_path, r=2, target_modules=["q_proj"])
    model = zoo.llama()
    adapters = AdapterSet(model)
    with pytest.raises(MismatchError, match="size mismatch"):
        adapters.load("wide", path)
    assert adapters.list() == []
    assert all(type(m).__name__ == "Linear" for n, m in model.named_modules() if "q_proj" in n)


def test_another_base_is_refused_unless_allowed(tmp_path: Path) -> None:
    def other() -> nn.Module:
        model = zoo.llama()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
        return model

    path = save(other, tmp_path, r=2, target_modules=["q_proj"])
    adapters = AdapterSet(zoo.llama())
    with pytest.raises(MismatchError, match="base weights differ"):
        adapters.load("other", path)
    assert adapters.load("other", path, check_base=False).base_verified is False


def test_a_parameter_that_all_rows_share_is_refused_by_name(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.logits = Logits()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.logits(self.layer(x))
            return y

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x - x.mean()) * self.scale

    def build() -> nn.Module:
        torch.manual_seed(0)
        return Scaled()

    path = save(build, tmp_path, target_modules=["layer"], modules_to_save=["logits"])
    with pytest.raises(TargetError, match=r"logits.scale is a parameter of Logits"):
        AdapterSet(build()).load("scaled", path)


def test_a_tensor_that_another_module_reads_is_refused_by_name(tmp_path: Path) -> None:
    def build() -> nn.Module:
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True)
        return nn.ModuleDict({"block": layer, "out": nn.Linear(8, 2)})

    path = save(build, tmp_path, target_modules=["out"], bias="all")
    with pytest.raises(TargetError) as error:
        AdapterSet(build()).load("biases", path)
    text = str(error.value)
    assert "block.linear1.bias" in text
    assert "read by TransformerEncoderLayer" in text
    assert "block.self_attn.out_proj.bias is read by MultiheadAttention" in text
    assert "block.self_attn.in_proj_bias is a parameter of MultiheadAttention itself" in text
    assert "out.bias" not in text.replace("self_attn.out_proj.bias", "")


def test_a_forward_of_the_instance_is_refused_by_name(tmp_path: Path) -> None:
    path = save(zoo.sequential, tmp_path, target_modules=["0"], modules_to_save=["2", "3"])
    for hooked in ("2", "3"):
        model = zoo.sequential()
        module = model.get_submodule(hooked)
        module.forward = lambda x: x  # type: ignore[method-assign]
        with pytest.raises(TargetError, match=rf"{hooked}\..*overridden on the instance"):
            AdapterSet(model).load("hooked", path)


def test_a_model_that_is_not_plain_is_refused() -> None:
    model = zoo.llama()
    lorakit.inject(model, LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(StateError, match="already has adapters"):
        AdapterSet(model)
    bert = zoo.bert()
    lorakit.methods.find("bitfit").apply(bert, lorakit.methods.find("bitfit").config_type())
    with pytest.raises(StateError, match="prepared for the method bitfit"):
        AdapterSet(bert)


def test_a_model_with_a_set_is_refused_elsewhere(paths: dict[str, Path], tmp_path: Path) -> None:
    model = zoo.llama()
    adapters = loaded_set(model, paths)
    adapters.activate("legal")
    config = LoraConfig(target_modules=["q_proj"])
    calls = {
        "inject": lambda: lorakit.inject(model, config),
        "eject": lambda: lorakit.eject(model),
        "fold": lambda: lorakit.fold(model),
        "load_adapter": lambda: lorakit.load_adapter(model, paths["legal"]),
        "save_adapter": lambda: lorakit.save_adapter(model, tmp_path),
        "AdapterSet": lambda: AdapterSet(model),
    }
    expected = text_of(model)
    for name, call in calls.items():
        with pytest.raises(LorakitError, match="has an AdapterSet"):
            call()
        assert_close(text_of(model), expected, **EXACT, msg=name)


def test_a_closed_set_says_so(paths: dict[str, Path]) -> None:
    adapters = loaded_set(zoo.llama(), paths)
    adapters.close()
    adapters.close()
    with pytest.raises(StateError, match="is closed"):
        adapters.load("legal", paths["legal"])
