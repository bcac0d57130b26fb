"""Houlsby's and Pfeiffer's adapters beside the `adapters` library, whose numbers are on file.

`adapterhub_library.py` made the file, in an environment of its own: the library needs an earlier
transformers. Its adapters are loaded from the files that it saves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

import lorakit as lora
from lorakit.checkpoint import read
from lorakit.errors import FormatError, MismatchError
from lorakit.methods import method_of
from tests.compat.adapterhub_cases import KINDS, MODELS, fill, fill_base, inputs, loss_of
from tests.tolerances import MODEL

FILE = Path(__file__).with_name("adapterhub.safetensors")
CASES = [(model_type, kind) for model_type in MODELS for kind in KINDS]
BINARY = {("bert", "houlsby"), ("gpt2", "pfeiffer")}
"""Cases of pytorch_adapter.bin; the others are adapter.safetensors."""


def theirs(model_type: str, kind: str) -> tuple[dict[str, Tensor], Tensor, dict[str, Any]]:
    """The gradients by their names, the output, and adapter_config.json."""
    start = f"{model_type}/{kind}/"
    with safe_open(FILE, framework="pt") as opened:
        found = {k.removeprefix(start): opened.get_tensor(k) for k in opened.keys()  # noqa: SIM118
                 if k.startswith(start)}  # fmt: skip
        config = json.loads(opened.metadata()[f"{model_type}/{kind}"])
    output = found.pop("output")
    return {key.removeprefix("gradient/"): value for key, value in found.items()}, output, config


def filled(model_type: str, kind: str) -> dict[str, Tensor]:
    """The tensors of the adapter, as the library saved them."""
    made = {key: torch.empty_like(value) for key, value in theirs(model_type, kind)[0].items()}
    for key, tensor in made.items():
        fill(key, tensor)
    return made


def saved(
    folder: Path,
    model_type: str,
    kind: str,
    tensors: dict[str, Tensor] | None = None,
    other: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """A directory as the library's `save_adapter` leaves it; `other` are other settings."""
    made, config = tensors or filled(model_type, kind), theirs(model_type, kind)[2]
    for key, value in other.items():
        (config if key in config else config["config"])[key] = value
    (folder / "adapter_config.json").write_text(json.dumps(config))
    if (model_type, kind) in BINARY:
        torch.save(made, folder / "pytorch_adapter.bin")
    else:
        save_file(made, folder / "adapter.safetensors")
    return folder


def base(model_type: str) -> nn.Module:
    model = AutoModel.from_config(AutoConfig.for_model(model_type, **MODELS[model_type])).eval()
    fill_base(model)
    return model


@pytest.mark.parametrize(("model_type", "kind"), CASES)
def test_a_saved_adapter_gives_the_librarys_output_and_gradients(model_type, kind, tmp_path):
    model = base(model_type)
    report = lora.load_adapter(model, saved(tmp_path, model_type, kind))
    assert report.format == "adapterhub"
    assert method_of(model).name == kind
    gradients, output, config = theirs(model_type, kind)
    assert config["version"] == "adapters.1.3.0"
    given = model(**inputs(model))[0]
    assert_close(given, output, **MODEL)
    loss_of(given).backward()
    ours = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    named = dict(matched(tmp_path, ours, filled(model_type, kind)))
    assert named.keys() == gradients.keys()
    for key, gradient in gradients.items():
        assert_close(named[key], gradient, **MODEL)


def matched(
    folder: Path, ours: dict[str, Tensor], tensors: dict[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """Our gradients by the library's names, told by the values of their parameters."""
    trained = read(folder).trained
    assert trained.keys() == ours.keys()
    for key, tensor in tensors.items():
        (name,) = (
            n for n, t in trained.items() if t.shape == tensor.shape and torch.equal(t, tensor)
        )
        yield key, ours[name]


def test_an_adapter_of_a_model_with_a_head_goes_into_its_backbone(tmp_path):
    made = {f"bert.{key}": value for key, value in filled("bert", "pfeiffer").items()}
    path = saved(tmp_path, "bert", "pfeiffer", made)
    model = AutoModelForSequenceClassification.from_config(
        AutoConfig.for_model("bert", **MODELS["bert"])
    )
    lora.load_adapter(model, path)
    assert model.bert.encoder.layer[1].output.LayerNorm.adapter.up.any()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("cross_adapter", True, "cross_adapter is True; only False is supported"),
        ("scaling", "learned", "scaling is 'learned'; only 1.0"),
        ("inv_adapter", "nice", "inv_adapter is 'nice'; only None"),
        ("phm_layer", True, "phm_layer is True; only False"),
        ("use_gating", True, "use_gating is True"),
        ("dropout", 0.1, "dropout is 0.1; only 0.0"),
        ("ln_before", True, "ln_before is True"),
        ("is_parallel", True, "is_parallel is True"),
        ("architecture", "lora", "architecture is 'lora'; only None"),
        ("leave_out", [0], r"leave_out is \[0\]; only all layers"),
        ("mh_adapter", False, "neither Houlsby's .* nor Pfeiffer's"),
        ("non_linearity", "leakyrelu", "non_linearity is 'leakyrelu', not one of relu, gelu"),
        ("model_type", "xlnet", "model_type is 'xlnet', not one of bert"),
        ("model_type", ["bert"], r"model_type is \['bert'\], not one of"),
        ("new_setting", 1, "new_setting is an unknown setting"),
    ],
)
def test_a_setting_that_lorakit_does_not_have_is_refused_by_name(setting, value, message, tmp_path):
    path = saved(tmp_path, "bert", "houlsby", other={setting: value})
    with pytest.raises(FormatError, match=message):
        lora.load_adapter(base("bert"), path)


def test_everything_that_is_wrong_with_the_settings_is_listed_at_once(tmp_path):
    path = saved(tmp_path, "bert", "houlsby", other={"scaling": 4.0, "cross_adapter": True})
    (path / "pytorch_model_head.bin").write_bytes(b"")
    with pytest.raises(FormatError) as raised:
        read(path)
    assert [problem.partition(" ")[0] for problem in raised.value.problems] == [
        "scaling", "cross_adapter", "it",
    ]  # fmt: skip
    assert "prediction head, pytorch_model_head.bin" in raised.value.problems[-1]


def test_the_gelu_of_an_old_file_is_another_one_and_refused(tmp_path):
    path = saved(tmp_path, "gpt2", "houlsby", other={"non_linearity": "gelu"})
    config = json.loads((path / "adapter_config.json").read_text())
    del config["version"]
    (path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(FormatError, match="where that was gelu_new"):
        read(path)


def test_tensors_that_the_adapter_has_not_are_listed(tmp_path):
    made = filled("gpt2", "houlsby")
    down = "h.0.output_adapters.adapters.reviews.adapter_down.0.weight"
    made[down.replace("reviews", "other")] = made[down].clone()
    made[down.replace("adapter_down.0", "gate")] = made[down].clone()
    made[down] = made[down][0]
    with pytest.raises(FormatError) as raised:
        read(saved(tmp_path, "gpt2", "houlsby", made))
    assert len(raised.value.problems) == 3
    assert "adapters.other.adapter_down.0.weight is unexpected" in str(raised.value)
    assert "gate.weight is unexpected: houlsby has no such tensor" in str(raised.value)
    assert f"{down} has the shape (8,)" in str(raised.value)


def test_adapters_of_different_sizes_are_refused(tmp_path):
    made = filled("gpt2", "pfeiffer")
    down = "h.0.output_adapters.adapters.reviews.adapter_down.0.weight"
    made[down] = torch.ones(5, 8)
    with pytest.raises(FormatError, match="bottlenecks of different sizes, 2, 5"):
        read(saved(tmp_path, "gpt2", "pfeiffer", made))


def test_an_adapter_of_another_model_is_refused_with_what_is_missing(tmp_path):
    made = {k: v for k, v in filled("bert", "pfeiffer").items() if "layer.1" not in k}
    path = saved(tmp_path, "bert", "pfeiffer", made)
    with pytest.raises(MismatchError, match=r"layer\.1\..* but missing from the file"):
        lora.load_adapter(base("bert"), path)


def test_a_lora_alpha_is_refused(tmp_path):
    with pytest.raises(FormatError, match="lora_alpha is LoRA's"):
        read(saved(tmp_path, "bert", "pfeiffer"), lora_alpha=8)


@pytest.mark.parametrize("said", [[], {}, {"config": None}, {"config": {}}, "text", 3])
def test_a_config_of_another_kind_is_an_error(said, tmp_path):
    path = saved(tmp_path, "bert", "pfeiffer")
    (path / "adapter_config.json").write_text(json.dumps(said))
    with pytest.raises(FormatError, match="cannot be loaded"):
        read(path)


@pytest.mark.parametrize(
    ("named", "base_model"), [("bert-base", "bert-base"), ("", None), ([], None)]
)
def test_the_base_is_what_the_config_names(named, base_model, tmp_path):
    assert (
        read(saved(tmp_path, "bert", "pfeiffer", other={"model_name": named})).base_model
        == base_model
    )
