"""The same adapter in lorakit and in PEFT: files in both directions, outputs, merged weights,
gradients. Warnings are errors, so every load in PEFT here also shows that it has none.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForSequenceClassification

import lorakit as lora
from lorakit.errors import MismatchError
from tests.compat.peft_cases import CASES, DECODER, ENCODER, GPT2, Case, conv, hf, ids
from tests.compat.peft_models import (
    GRADIENTS,
    adapted,
    doubled,
    gradients,
    in_peft,
    mended,
    output,
    peft_config,
    randomise,
)
from tests.tolerances import EXACT, MODEL, TOLERANCES

BOTH = [name for name, case in CASES.items() if not case.slices]
FLOAT32 = TOLERANCES[torch.float32]
TASKS = {"GPT-2, Conv1D": "CAUSAL_LM", "RoBERTa classifier": "SEQ_CLS", "T5": "SEQ_2_SEQ_LM"}


@dataclass
class Differences:
    """The largest differences between the two libraries, by what was compared."""

    largest: dict[str, tuple[float, float]]

    def assert_close(self, what: str, ours: Tensor, theirs: Tensor, **tolerance: float) -> None:
        torch.testing.assert_close(ours, theirs, **tolerance)
        if not ours.is_floating_point() or ours.numel() == 0:
            return
        distance = float((ours - theirs).abs().max())
        relative = distance / max(float(theirs.abs().max()), 1e-30)
        before = self.largest.get(what, (0.0, 0.0))
        self.largest[what] = max(before[0], distance), max(before[1], relative)


@pytest.fixture(scope="module")
def differences(record_testsuite_property: Any) -> Iterator[Differences]:
    """Collects over all tests of this file; `pytest -s` shows the result."""
    found = Differences({})
    yield found
    for what, (absolute, relative) in found.largest.items():
        record_testsuite_property(what, f"{absolute:.1e} absolute, {relative:.1e} relative")
        print(f"\nPEFT, {what}: at most {absolute:.1e} apart, {relative:.1e} of the largest value")


def assert_same_outputs(
    differences: Differences, ours: nn.Module, theirs: nn.Module, case: Case
) -> None:
    with torch.no_grad():
        mine, other = output(ours, case.batch()), output(theirs, case.batch())
        base = output(case.model(), case.batch())
    assert (mine - base).abs().max() > 1e-3, "the adapter does nothing"
    differences.assert_close("outputs", mine, other, **MODEL)


def assert_same_merged(differences: Differences, ours: nn.Module, theirs: nn.Module) -> None:
    """W + dW of both, for every tensor of the model."""
    folded = copy.deepcopy(ours)
    lora.fold(folded)
    merged = copy.deepcopy(theirs).merge_and_unload().state_dict()
    mine = folded.state_dict()
    assert mine.keys() == merged.keys()
    for name, tensor in mine.items():
        differences.assert_close("merged weights", tensor, merged[name], **FLOAT32)


def assert_same_files(first: Path, second: Path) -> None:
    """Byte for byte; safetensors alone puts the two entries of its header in a random order."""
    for name in ("adapter_config.json", "README.md"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    (header, data), (other_header, other_data) = map(parts, (first, second))
    assert header == other_header
    assert data == other_data


def parts(directory: Path) -> tuple[dict[str, Any], bytes]:
    """Header and tensor bytes of a safetensors file."""
    content = (directory / "adapter_model.safetensors").read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def assert_same_gradients(
    differences: Differences, ours: nn.Module, theirs: nn.Module, case: Case
) -> None:
    """Every trainable tensor's gradient, under the name that it has in the file."""
    for mine, other in gradients(ours, theirs, doubled(case)):
        differences.assert_close("gradients", mine, other, **GRADIENTS)


@pytest.mark.parametrize("name", CASES)
def test_adapter_of_ours_is_the_same_function_in_peft(
    name: str, tmp_path: Path, differences: Differences
) -> None:
    case = CASES[name]
    ours = adapted(case)
    theirs = in_peft(case.model(), lora.save_adapter(ours, tmp_path / "a"))
    assert_same_outputs(differences, ours, theirs, case)
    assert_same_merged(differences, ours, theirs)


@pytest.mark.parametrize("name", BOTH)
def test_adapter_of_peft_is_the_same_function_here(
    name: str, tmp_path: Path, differences: Differences
) -> None:
    case = CASES[name]
    config = peft_config(case, task_type=TASKS.get(name))
    theirs = mended(peft.get_peft_model(case.model(), config).eval())
    randomise(theirs)
    theirs.save_pretrained(tmp_path)
    ours = case.model()
    lora.load_adapter(ours, tmp_path)
    assert_same_outputs(differences, ours, theirs, case)
    assert_same_merged(differences, ours, theirs)


@pytest.mark.parametrize("name", CASES)
def test_gradients_equal_those_of_peft(name: str, tmp_path: Path, differences: Differences) -> None:
    case = CASES[name]
    ours = adapted(case)
    path = lora.save_adapter(ours, tmp_path / "a")
    theirs = in_peft(case.model(), path, is_trainable=True)
    assert_same_gradients(differences, ours, theirs, case)


@pytest.mark.parametrize("name", CASES)
def test_save_load_save_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    first = lora.save_adapter(adapted(case), tmp_path / "first")
    again = case.model()
    lora.load_adapter(again, first)
    assert_same_files(first, lora.save_adapter(again, tmp_path / "second"))


@pytest.mark.parametrize("name", BOTH)
def test_adapter_of_peft_survives_load_and_save_here(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    config = peft_config(case, task_type=TASKS.get(name))
    theirs = mended(peft.get_peft_model(case.model(), config).eval())
    randomise(theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = case.model()
    lora.load_adapter(ours, tmp_path / "theirs")
    back = in_peft(case.model(), lora.save_adapter(ours, tmp_path / "ours"))
    with torch.no_grad():
        expected, found = output(theirs, case.batch()), output(back, case.batch())
    torch.testing.assert_close(found, expected, **FLOAT32)


def test_grouped_convolution_of_ours_is_the_same_function_in_peft(
    tmp_path: Path, differences: Differences
) -> None:
    options = conv(nn.Conv2d, 2, 4, 7, 7, kernel_size=3, groups=2)
    case = Case(**options, config={"r": 4, "lora_alpha": 3, "target_modules": ["0"]})
    ours = adapted(case)
    path = lora.save_adapter(ours, tmp_path / "a")
    with pytest.warns(UserWarning, match="groups > 1. Merging is not supported"):
        theirs = in_peft(case.model(), path, is_trainable=True)
    assert_same_outputs(differences, ours, theirs, case)
    assert_same_gradients(differences, copy.deepcopy(ours), theirs, case)
    again = case.model()
    lora.load_adapter(again, path)
    assert_same_files(path, lora.save_adapter(again, tmp_path / "b"))


@pytest.mark.parametrize("options", [{"dilation": 2}, {"padding": 1, "padding_mode": "circular"}])
def test_convolution_that_peft_cannot_run_is_merged_alike(
    options: dict[str, Any], tmp_path: Path, differences: Differences
) -> None:
    """PEFT gives lora_A the kernel, stride and padding of the layer, but no dilation or mode."""
    case = Case(
        **conv(nn.Conv2d, 2, 4, 9, 9, kernel_size=3, **options),
        config={"r": 3, "target_modules": ["0"]},
    )
    ours = adapted(case)
    theirs = in_peft(case.model(), lora.save_adapter(ours, tmp_path))
    assert_same_merged(differences, ours, theirs)
    again = case.model()
    lora.load_adapter(again, tmp_path)
    with torch.no_grad():
        expected = output(ours, case.batch())
        torch.testing.assert_close(output(again, case.batch()), expected, **EXACT)


def test_layer_under_two_names_goes_there_and_back(
    tmp_path: Path, differences: Differences
) -> None:
    def build() -> nn.Module:
        layer = nn.Linear(5, 5)
        return nn.Sequential(layer, nn.Tanh(), layer)

    case = Case(build, {"r": 2, "target_modules": ["0"]}, lambda: {"input": torch.randn(3, 5)})
    ours = adapted(case)
    path = lora.save_adapter(ours, tmp_path / "a")
    again = case.model()
    lora.load_adapter(again, path)
    assert again[0] is again[2]
    with torch.no_grad():
        expected = output(ours, case.batch())
        torch.testing.assert_close(output(again, case.batch()), expected, **EXACT)


def test_peft_counts_the_update_of_out_proj_twice(tmp_path: Path) -> None:
    """Why `mended` is needed; when this fails, PEFT is repaired and `mended` can go."""
    case = CASES["MultiheadAttention"]
    ours = adapted(case)
    path = lora.save_adapter(ours, tmp_path)
    broken = peft.PeftModel.from_pretrained(case.model(), path).merge_and_unload()
    before = case.model().attn.out_proj.weight
    lora.fold(ours)
    update = ours.attn.out_proj.weight - before
    torch.testing.assert_close(broken.attn.out_proj.weight, before + 2 * update, **FLOAT32)
    torch.testing.assert_close(broken.attn.in_proj_weight, ours.attn.in_proj_weight, **FLOAT32)


def test_grouped_convolution_of_peft_is_refused_by_name(tmp_path: Path) -> None:
    options = conv(nn.Conv2d, 2, 4, 7, 7, kernel_size=3, groups=2)
    case = Case(**options, config={"r": 4, "target_modules": ["0"]})
    with pytest.warns(UserWarning, match="groups > 1"):
        theirs = peft.get_peft_model(case.model(), peft_config(case))
    theirs.save_pretrained(tmp_path)
    with pytest.raises(
        lora.errors.FormatError, match=r"body\.0: lora_A mixes channels of different"
    ):
        lora.load_adapter(case.model(), tmp_path)


def test_loralib_convolution_is_the_same_function_in_peft(
    tmp_path: Path, differences: Differences
) -> None:
    def build() -> nn.Module:
        torch.manual_seed(11)
        return nn.Sequential(lora.Conv2d(4, 6, 3, r=2, lora_alpha=3), nn.Tanh())

    def plain() -> nn.Module:
        torch.manual_seed(11)
        return nn.Sequential(nn.Conv2d(4, 6, 3), nn.Tanh())

    ours = build().eval()
    lora.mark_only_lora_as_trainable(ours)
    randomise(ours)
    base = plain()
    base.load_state_dict(ours.state_dict(), strict=False)
    theirs = in_peft(base, lora.save_adapter(ours, tmp_path))
    x = torch.randn(2, 4, 7, 7)
    with torch.no_grad():
        differences.assert_close("outputs", ours(x), theirs(x), **MODEL)
    assert_same_merged(differences, ours, theirs)


@pytest.mark.parametrize("target", ["wte", "lm_head"])
def test_one_side_of_a_tie_is_the_same_function_in_peft(
    target: str, tmp_path: Path, differences: Differences
) -> None:
    case = Case(hf("GPT2LMHeadModel", **GPT2), {"r": 2, "target_modules": [target]}, ids(2, 6))
    ours = adapted(case)
    path = lora.save_adapter(ours, tmp_path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
        theirs = in_peft(case.model(), path)
    assert_same_outputs(differences, ours, theirs, case)
    again = case.model()
    lora.load_adapter(again, path)
    with torch.no_grad():
        torch.testing.assert_close(output(again, case.batch()), output(ours, case.batch()), **EXACT)


def grown_llama() -> Case:
    return Case(
        hf("LlamaForCausalLM", **DECODER),
        {"r": 2, "target_modules": ["embed_tokens"]},
        lambda: {"input_ids": torch.arange(30, 40)[None]},
    )


def saved_by_peft(base: nn.Module, case: Case, path: Path) -> nn.Module:
    """PEFT stores the whole table beside an adapted embedding, for the case that it has grown."""
    theirs = peft.get_peft_model(base, peft_config(case)).eval()
    randomise(theirs)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting `save_embedding_layers` to `True`")
        theirs.save_pretrained(path)
    return theirs


def test_unchanged_embedding_in_a_file_of_peft_does_not_train(
    tmp_path: Path, differences: Differences
) -> None:
    case = grown_llama()
    theirs = saved_by_peft(case.model(), case, tmp_path)
    assert "base_model.model.model.embed_tokens.base_layer.weight" in parts(tmp_path)[0]
    ours = case.model()
    report = lora.load_adapter(ours, tmp_path)
    assert report.adapter.trained == {}
    assert_same_outputs(differences, ours, theirs, case)


def test_changed_table_of_an_adapted_embedding_in_a_file_of_peft_is_refused(
    tmp_path: Path,
) -> None:
    """It is a base weight: loading it as a trained tensor would let W train beside A and B."""
    case = grown_llama()
    grown = case.model()
    with torch.no_grad():
        grown.get_input_embeddings().weight[-4:] += 1
    saved_by_peft(grown, case, tmp_path)
    with pytest.raises(MismatchError, match=r"embed_tokens\.weight is the base weight of an adap"):
        lora.load_adapter(case.model(), tmp_path)


def test_classifier_that_peft_saves_without_being_asked_is_loaded(
    tmp_path: Path, differences: Differences
) -> None:
    case = Case(
        hf("BertForSequenceClassification", **ENCODER, num_labels=3),
        {"r": 2, "target_modules": ["query", "value"]},
        ids(2, 6),
    )
    config = peft_config(case, task_type="SEQ_CLS")
    theirs = peft.get_peft_model(case.model(), config).eval()
    randomise(theirs)
    theirs.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved["modules_to_save"] == ["classifier", "score"], "PEFT names both; there is one"
    ours = case.model()
    report = lora.load_adapter(ours, tmp_path)
    assert list(report.adapter.trained) == ["classifier.weight", "classifier.bias"]
    assert_same_outputs(differences, ours, theirs, case)


def test_target_that_peft_did_not_find_is_no_obstacle(tmp_path: Path) -> None:
    """PEFT keeps unmatched names of a list in the file; every tensor still finds its place."""
    case = CASES["linear"]
    config = peft.LoraConfig(r=2, target_modules=["0", "query_key_value"])
    peft.get_peft_model(case.model(), config).save_pretrained(tmp_path)
    report = lora.load_adapter(case.model(), tmp_path)
    assert [layer.name for layer in report.adapter.layers] == ["body.0"]


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_initialisation_that_changes_the_base_is_refused(init: str, tmp_path: Path) -> None:
    case = CASES["linear"]
    config = peft.LoraConfig(r=2, target_modules=["0"], init_lora_weights=init)
    peft.get_peft_model(case.model(), config).save_pretrained(tmp_path)
    with pytest.raises(lora.errors.FormatError, match=f"init_lora_weights='{init}'"):
        lora.load_adapter(case.model(), tmp_path)


def test_pissa_adapter_that_peft_converted_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, differences: Differences
) -> None:
    case = CASES["linear"]
    config = peft.LoraConfig(r=2, target_modules=["0"], init_lora_weights="pissa")
    theirs = peft.get_peft_model(case.model(), config).eval()
    theirs.peft_config["default"].init_lora_weights = True  # or loading it would change the base
    theirs.save_pretrained(tmp_path / "start")
    theirs.peft_config["default"].init_lora_weights = "pissa"
    randomise(theirs)
    monkeypatch.chdir(tmp_path)
    warnings.filterwarnings("ignore", message="PiSSA changes the base weights")
    theirs.save_pretrained(tmp_path / "trained", path_initial_model_for_weight_conversion="start")
    ours = case.model()
    lora.load_adapter(ours, tmp_path / "trained")
    assert_same_outputs(differences, ours, theirs, case)


@pytest.mark.parametrize("init", [False, "gaussian", "orthogonal"])
def test_initialisation_that_leaves_the_base_alone_loads(init: object, tmp_path: Path) -> None:
    case = CASES["linear"]
    config = peft.LoraConfig(r=2, target_modules=["0"], init_lora_weights=init)
    theirs = peft.get_peft_model(case.model(), config).eval()
    theirs.save_pretrained(tmp_path)
    ours = case.model()
    lora.load_adapter(ours, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(
            output(ours, case.batch()), output(theirs, case.batch()), **FLOAT32
        )


def test_name_that_reads_as_another_pattern_keeps_its_rank(tmp_path: Path) -> None:
    """`a.b` as an expression also means a module called `axb`."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.axb = nn.Linear(5, 5)
            self.a = nn.ModuleDict({"b": nn.Linear(5, 5)})

        def forward(self, x: Tensor) -> Tensor:
            return self.axb(self.a["b"](x))

    config = {"r": 2, "target_modules": ["axb", "b"], "rank_pattern": {r"a\.b": 3}}
    case = Case(Net, config, lambda: {"x": torch.ones(2, 5)})
    ours = adapted(case)
    theirs = in_peft(case.model(), lora.save_adapter(ours, tmp_path))
    with torch.no_grad():
        torch.testing.assert_close(
            output(ours, case.batch()), output(theirs, case.batch()), **FLOAT32
        )
    lora.load_adapter(case.model(), tmp_path)


def test_minilm_with_a_head_goes_there_and_back(
    minilm: Path, tmp_path: Path, differences: Differences
) -> None:
    def build() -> nn.Module:
        torch.manual_seed(5)
        return AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=2).eval()

    config = {
        "r": 8,
        "lora_alpha": 16,
        "target_modules": ["query", "value", "intermediate.dense"],
        "modules_to_save": ["classifier"],
    }
    case = Case(build, config, lambda: {"input_ids": torch.randint(1000, 20000, (3, 12))})
    ours = build()
    lora.inject(ours, lora.LoraConfig(**config))
    randomise(ours)
    path = lora.save_adapter(ours, tmp_path / "ours")
    theirs = in_peft(build(), path)
    assert_same_outputs(differences, ours, theirs, case)
    assert_same_merged(differences, ours, theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    back = build()
    lora.load_adapter(back, tmp_path / "theirs")
    with torch.no_grad():
        torch.testing.assert_close(output(back, case.batch()), output(ours, case.batch()), **EXACT)


def test_base_of_bfloat16_is_the_same_function_in_peft(
    minilm: Path, tmp_path: Path, differences: Differences
) -> None:
    """Both keep A and B in float32; the base's own rounding is the only tolerance."""

    def build() -> nn.Module:
        return AutoModel.from_pretrained(minilm, dtype=torch.bfloat16).eval()

    ours = build()
    lora.inject(ours, lora.LoraConfig(r=4, target_modules=["query"]))
    randomise(ours)
    theirs = in_peft(build(), lora.save_adapter(ours, tmp_path))
    folded = copy.deepcopy(ours)
    lora.fold(folded)
    merged = theirs.merge_and_unload().state_dict()
    for name, tensor in folded.state_dict().items():
        torch.testing.assert_close(tensor, merged[name], **TOLERANCES[torch.bfloat16])


def test_peft_directory_of_ours_has_the_fields_of_peft_only(tmp_path: Path) -> None:
    lora.save_adapter(adapted(CASES["patterns"]), tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved.keys() <= peft.LoraConfig().to_dict().keys()
    assert saved["rank_pattern"] == {"body.2": 3}
    assert saved["alpha_pattern"] == {"body.2": 9.5}
    assert saved["target_modules"] == ["0", "2"]
    assert (saved["r"], saved["lora_alpha"]) == (2, 8)
