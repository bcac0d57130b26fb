"""Formats as a table: one more from outside of the package, and files of several or of none."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import lorakit as lora
from lorakit.checkpoint import FORMATS, AdapterBundle, Codec, read, register, write
from lorakit.cli import main
from lorakit.errors import ConfigError, FormatError, MismatchError, SaveError
from lorakit.injection.transfer.saving import bundle_of
from lorakit.training.warm_start import warm_start
from lorakit.variants import AdapterSpec, LinearSite, ModuleAdapter
from tests.checkpoint.bundles import assert_equal, assert_equal_tensors
from tests.tolerances import EXACT


def adapter_of(a: Tensor, b: Tensor, alpha: float) -> ModuleAdapter:
    site = LinearSite(a.shape[1], b.shape[0])
    return ModuleAdapter(AdapterSpec(len(a), alpha), {"lora_A": a, "lora_B": b}, site)


def underscored(module: str) -> str:
    return module.replace(".", "_")


class Toy(Codec):
    """Numbers as JSON in a file `*.toy`, with the dots of names underscored as kohya does it."""

    name = "toy"

    def sniff(self, path: Path) -> bool:
        return path.suffix == ".toy"

    def decode(self, path: Path, lora_alpha: float | None) -> AdapterBundle:
        try:
            content = json.loads(path.read_text())
            adapters = {
                name: adapter_of(torch.tensor(a), torch.tensor(b), alpha)
                for name, (a, b, alpha) in content.items()
            }
        except ValueError as error:
            raise FormatError(f"{path} is damaged: {error}") from error
        return AdapterBundle(
            lora.LoraConfig(target_modules=list(adapters)),
            adapters,
            spelling=underscored,
            targets_stated=False,
            format=self.name,
        )

    def problems(self, bundle: AdapterBundle) -> list[str]:
        return [f"{name} trains in full" for name in bundle.trained]

    def write(self, bundle: AdapterBundle, path: Path) -> None:
        content = {
            underscored(name): (*(t.tolist() for t in pair.tensors.values()), pair.spec.lora_alpha)
            for name, pair in bundle.adapters.items()
        }
        path.write_text(json.dumps(content))


@pytest.fixture
def toy() -> Iterator[Toy]:
    before = dict(FORMATS)
    codec = Toy()
    register(codec)
    yield codec
    FORMATS.clear()
    FORMATS.update(before)


def base(*names: str) -> nn.Module:
    """A tree of modules with a linear layer under each dotted name."""
    torch.manual_seed(5)
    model = nn.Module()
    for name in names or ("block.0.q_proj", "block.1.q_proj", "block.1.out"):
        here = model
        *parents, leaf = name.split(".")
        for parent in parents:
            if parent not in dict(here.named_children()):
                here.add_module(parent, nn.Module())
            here = here.get_submodule(parent)
        here.add_module(leaf, nn.Linear(4, 3))
    return model


def adapted() -> nn.Module:
    model = base()
    targets = ["q_proj", "block.1.out"]
    config = lora.LoraConfig(r=2, lora_alpha=6, target_modules=targets, init_lora_weights=False)
    lora.inject(model, config)
    return model


@pytest.fixture
def file(toy: Toy, tmp_path: Path) -> Path:
    return write(bundle_of(adapted()), tmp_path / "a.toy", format=toy.name)


# --- a format from outside


def test_registered_format_is_read_as_it_was_written(file: Path) -> None:
    bundle = read(file)
    assert (bundle.format, next(iter(bundle.adapters))) == ("toy", "block_0_q_proj")
    again = write(bundle, file.with_name("b.toy"), format="toy")
    assert_equal(read(again), bundle)


def test_registered_format_loads_by_the_names_of_the_model(file: Path) -> None:
    model, expected = base(), bundle_of(adapted())
    report = lora.load_adapter(model, file)
    assert report.format == "toy"
    found = bundle_of(model)
    assert_equal_tensors(found.tensors, expected.tensors)
    assert found.config.target_modules == expected.config.target_modules
    for name, pair in expected.adapters.items():
        assert found.adapters[name].spec.lora_alpha == pair.spec.lora_alpha


def test_registered_format_is_a_start_for_training(file: Path) -> None:
    model = base()
    config = lora.LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj", "block.1.out"])
    lora.inject(model, config)
    warm_start(model, read(file), str(file))
    for name, tensor in bundle_of(adapted()).tensors.items():
        torch.testing.assert_close(bundle_of(model).tensors[name], tensor, **EXACT)


def test_registered_format_is_inspected(file: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["lorakit", "inspect", str(file)])
    with pytest.raises(SystemExit, match="0"):
        main()
    out = capsys.readouterr().out
    assert "toy" in out.splitlines()[0]
    assert "3 of rank 2" in out


def test_broken_file_of_a_registered_format_is_refused(file: Path) -> None:
    file.write_text(file.read_text()[:-9])
    model = base()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(FormatError, match=r"a\.toy is damaged"):
        lora.load_adapter(model, file)
    assert_equal_tensors(dict(model.state_dict()), dict(before))


def test_names_that_no_module_or_two_are_spelt_as_are_listed(file: Path) -> None:
    model = base("block.0.q_proj", "block_0.q_proj", "block.1.out_proj")
    with pytest.raises(MismatchError) as caught:
        lora.load_adapter(model, file)
    text = str(caught.value)
    same = "the file's format gives block.0.q_proj and block_0.q_proj the same name"
    unexpected = "is unexpected: no module of the model has this name in the file's format"
    assert f"block_0_q_proj is ambiguous: {same}" in text
    assert f"block_1_q_proj {unexpected}" in text
    assert f"block_1_out {unexpected} (did you mean 'block_1_out_proj'" in text
    assert not any("lora_" in name for name, _ in model.named_parameters())


def test_names_of_another_format_are_not_written_as_if_they_were_the_models(
    file: Path, tmp_path: Path
) -> None:
    for format in ("peft", "lorakit"):
        with pytest.raises(SaveError, match="its module names are those of the format toy"):
            write(read(file), tmp_path / "peft", format=format)
    assert not (tmp_path / "peft").exists()


def test_format_that_loses_something_is_refused(toy: Toy, tmp_path: Path) -> None:
    model = adapted()
    model.get_submodule("block.0.q_proj").bias.requires_grad_(True)
    with pytest.raises(SaveError, match="cannot be saved in the format toy") as caught:
        write(bundle_of(model), tmp_path / "a.toy", format=toy.name)
    assert caught.value.problems == ("block.0.q_proj.bias trains in full",)
    assert list(tmp_path.iterdir()) == []


# --- the table


def test_name_that_is_taken_is_refused(toy: Toy) -> None:
    for codec in (toy, FORMATS["peft"]):
        with pytest.raises(ConfigError, match=f"named '{codec.name}' is already registered"):
            register(codec)


@pytest.mark.parametrize(
    ("format", "message"),
    [
        (
            "pfet",
            r"'pfet' is unknown \(did you mean 'peft'\?\); choose one of peft, lorakit, loralib,",
        ),
        ("adapterhub", "'adapterhub' can be loaded but not saved"),
    ],
)
def test_format_that_is_not_written_is_refused(format: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        write(bundle_of(adapted()), tmp_path / "a", format=format)


def head() -> AdapterBundle:
    return AdapterBundle(method="head", trained={"head.weight": torch.ones(2, 3)})


def test_second_format_in_one_directory_is_refused(tmp_path: Path) -> None:
    for first, second in ((bundle_of(adapted()), head()), (head(), bundle_of(adapted()))):
        directory = write(first, tmp_path / first.method)
        before = sorted(directory.iterdir())
        with pytest.raises(SaveError, match="already contains an adapter in another format"):
            write(second, directory)
        assert sorted(directory.iterdir()) == before


def test_directory_of_two_formats_is_refused_and_its_files_are_not(tmp_path: Path) -> None:
    peft = write(bundle_of(adapted()), tmp_path / "a")
    (write(head(), tmp_path / "b") / "trained.safetensors").rename(peft / "trained.safetensors")
    with pytest.raises(FormatError, match="more than one format: peft and lorakit"):
        read(peft)
    assert read(peft / "trained.safetensors").method == "head"
    assert len(read(peft / "adapter_model.safetensors").adapters) == 3


def save_whole_model(file: Path) -> None:
    save_file(dict(base().state_dict()), file)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("model.safetensors", save_whole_model),
        ("notes.txt", lambda file: file.write_text("x")),
        ("empty", lambda file: file.touch()),
        ("directory", lambda file: file.mkdir()),
    ],
)
def test_what_is_of_no_format_is_said_to_be_none(
    name: str, make: Callable[[Path], Any], tmp_path: Path
) -> None:
    make(tmp_path / name)
    with pytest.raises(
        FormatError,
        match=r"is not .* known format: .*peft, lorakit, adapterhub, prompt_tuning, loralib",
    ):
        read(tmp_path / name, lora_alpha=1)


@pytest.mark.parametrize("name", ["a.pt", "a.ckpt", "without_a_suffix"])
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_file_is_known_by_its_beginning(name: str, zipped: bool, tmp_path: Path) -> None:
    content = {"q.lora_A": torch.ones(1, 2), "q.lora_B": torch.ones(2, 1)}
    torch.save(content, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert read(tmp_path / name, lora_alpha=1).format == "loralib"


def test_a_format_from_outside_can_be_the_default_of_its_kind(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = AdapterBundle(trained={"head.weight": torch.ones(2, 3)}, method="probe")
    monkeypatch.setattr(Toy, "is_default_for", lambda self, bundle: bundle.method == "probe")
    monkeypatch.setattr(Toy, "problems", lambda self, bundle: [])
    write(bundle, tmp_path / "probe.toy")
    assert (tmp_path / "probe.toy").is_file()
    write(AdapterBundle(trained=bundle.trained, method="head"), tmp_path / "head")
    assert read(tmp_path / "head").format == "lorakit"
