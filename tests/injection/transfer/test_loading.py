"""Loading is strict: everything finds its place, or one error lists all that does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, BertModel

import lorakit as lora
from lorakit.checkpoint import read
from lorakit.errors import ConfigError, FormatError, LorakitError, MismatchError, StateError
from lorakit.layer_groups import group_layers
from tests.tolerances import EXACT, TOLERANCES

SMALL = BertConfig(
    vocab_size=40,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=24,
    num_labels=3,
)
CONFIG = lora.LoraConfig(
    r=2,
    lora_alpha=6,
    target_modules=["query", "value"],
    modules_to_save=["classifier"],
    init_lora_weights=False,
)
QUERY = "bert.encoder.layer.{}.attention.self.query"
KEY = f"base_model.model.{QUERY}.lora_A.weight"
IDS = torch.arange(3, 15).view(2, 6)


def base(seed: int = 0, **changes: Any) -> nn.Module:
    torch.manual_seed(seed)
    config = BertConfig(**{**SMALL.to_dict(), **changes})
    return BertForSequenceClassification(config).eval()


def adapted(seed: int = 0, **changes: Any) -> nn.Module:
    model = base(seed)
    lora.inject(model, CONFIG.replace(**changes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return lora.save_adapter(adapted(), tmp_path / "saved")


@dataclass(frozen=True)
class State:
    """Everything that a failed load could have changed."""

    values: dict[str, Tensor]
    objects: dict[str, int]
    classes: dict[str, type]
    gradients: dict[str, bool]
    attributes: dict[str, frozenset[str]]

    @staticmethod
    def of(model: nn.Module) -> State:
        return State(
            {name: tensor.clone() for name, tensor in model.state_dict().items()},
            {name: id(tensor) for name, tensor in model.state_dict(keep_vars=True).items()},
            {name: type(module) for name, module in model.named_modules()},
            {name: parameter.requires_grad for name, parameter in model.named_parameters()},
            {name: frozenset(module.__dict__) for name, module in model.named_modules()},
        )


def assert_unchanged(model: nn.Module, before: State) -> None:
    after = State.of(model)
    assert after.values.keys() == before.values.keys()
    for name, tensor in before.values.items():
        assert torch.equal(after.values[name], tensor), name
    assert after.objects == before.objects
    assert after.classes == before.classes
    assert after.gradients == before.gradients
    assert after.attributes == before.attributes


def files(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


@contextmanager
def refused(
    model: nn.Module, directory: Path, kind: type[LorakitError] = MismatchError
) -> Iterator[list[str]]:
    """One error inside, its problems afterwards; neither model nor disk has changed."""
    state, disk, problems = State.of(model), files(directory), []
    with pytest.raises(kind) as caught:
        yield problems
    assert type(caught.value) is kind
    problems += [caught.value.headline, *caught.value.problems]
    assert_unchanged(model, state)
    assert files(directory) == disk


def edit_config(directory: Path, **changes: Any) -> None:
    file = directory / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def edit_tensors(
    directory: Path,
    change: Callable[[dict[str, Tensor]], dict[str, Tensor] | None],
    header: bool = False,
) -> None:
    """Write the tensors anew, without lorakit's own header unless asked to keep it."""
    from safetensors import safe_open

    from lorakit.checkpoint.formats.tensor_files import save_safetensors

    file = directory / "adapter_model.safetensors"
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata() if header else {"format": "pt"}
    tensors = load_file(file)
    save_safetensors(change(tensors) or tensors, file, metadata)


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(IDS).logits


# --- what fits


def test_load_gives_the_saved_function_and_says_so(saved: Path) -> None:
    model = base()
    report = lora.load_adapter(model, saved)
    assert torch.equal(logits(model), logits(adapted()))
    assert (report.format, report.base_verified) == ("peft", True)
    assert [layer.r for layer in report.adapter.layers] == [2, 2, 2, 2]
    assert list(report.adapter.trained) == ["classifier.weight", "classifier.bias"]
    assert "base: the adapted weights are those that it was trained on" in str(report)


def test_what_was_loaded_trains_as_after_inject(saved: Path) -> None:
    model = base()
    lora.load_adapter(model, saved)
    expected = {name: p.requires_grad for name, p in adapted().named_parameters()}
    assert {name: p.requires_grad for name, p in model.named_parameters()} == expected


def test_load_leaves_the_pretrained_tensors_alone(saved: Path) -> None:
    model = base()
    before = State.of(model)
    lora.load_adapter(model, saved)
    lora.eject(model)
    assert_unchanged(model, before)


def test_load_onto_the_same_adapter_writes_into_its_parameters(saved: Path) -> None:
    model = base()
    lora.inject(model, CONFIG)
    parameters = {name: id(p) for name, p in model.named_parameters()}
    report = lora.load_adapter(model, saved)
    assert torch.equal(logits(model), logits(adapted()))
    assert {name: id(p) for name, p in model.named_parameters()} == parameters
    assert report.base_verified is True


def test_load_twice_is_the_last_one(saved: Path, tmp_path: Path) -> None:
    other = adapted()
    with torch.no_grad():
        for parameter in other.parameters():
            if parameter.requires_grad:
                parameter.mul_(-1)
    second = lora.save_adapter(other, tmp_path / "second")
    model = base()
    lora.load_adapter(model, saved)
    lora.load_adapter(model, second)
    assert torch.equal(logits(model), logits(other))
    lora.load_adapter(model, saved)
    assert torch.equal(logits(model), logits(adapted()))


def test_load_drops_a_merged_weight(saved: Path, tmp_path: Path) -> None:
    model = base()
    lora.inject(model, CONFIG.replace(merge_weights=True))
    logits(model)
    lora.load_adapter(model, saved)
    torch.testing.assert_close(logits(model), logits(adapted()), **TOLERANCES[torch.float32])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_base_in_another_precision_is_known_and_keeps_float32_adapters(
    dtype: torch.dtype, saved: Path
) -> None:
    model = base().to(dtype)
    report = lora.load_adapter(model, saved)
    assert report.base_verified is True
    assert report.worst_rounding is not None
    assert 0 < report.worst_rounding < 1
    layer = model.get_submodule(QUERY.format(0))
    assert (layer.lora_A.dtype, layer.weight.dtype) == (torch.float32, dtype)
    assert model.classifier.weight.dtype == dtype


def test_base_is_not_verified_where_it_cannot_be(saved: Path) -> None:
    edit_tensors(saved, lambda tensors: None)
    report = lora.load_adapter(base(seed=5), saved)
    assert report.base_verified is None
    assert "base: not verified" in str(report)


def test_model_on_the_meta_device_gets_the_values(saved: Path) -> None:
    with torch.device("meta"):
        model = BertForSequenceClassification(SMALL).eval()
    report = lora.load_adapter(model, saved)
    assert report.base_verified is None
    expected = adapted().state_dict()
    found = {n: t for n, t in model.state_dict().items() if not t.is_meta}
    assert {n.rpartition(".")[2] for n in found} == {"lora_A", "lora_B", "weight", "bias"}
    assert len(found) == 10
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], **EXACT)
    for name in found:
        assert dict(model.named_parameters())[name].requires_grad
    weights = {n: t for n, t in base().state_dict().items() if n not in found}
    model.load_state_dict(weights, strict=False, assign=True)
    numbers = {"position_ids": torch.arange(24)[None], "token_type_ids": torch.zeros(1, 24).long()}
    for name, tensor in numbers.items():
        model.bert.embeddings.register_buffer(name, tensor, persistent=False)
    assert torch.equal(logits(model), logits(adapted()))


# --- another base


def test_another_base_is_refused_by_its_fingerprint(saved: Path) -> None:
    model = base(seed=5)
    with refused(model, saved) as problems:
        lora.load_adapter(model, saved)
    assert len(problems) == 2
    assert "differ from those that the adapter was trained on" in problems[1]
    assert "check_base=False" in problems[1]
    assert "--no-check-base" in problems[1]


def test_another_base_may_be_meant(saved: Path) -> None:
    model = base(seed=5)
    report = lora.load_adapter(model, saved, check_base=False)
    assert report.base_verified is False
    assert "base: the adapted weights differ from those that it was trained on" in str(report)


def test_folded_base_is_another_base(saved: Path) -> None:
    model = base()
    lora.load_adapter(model, saved)
    lora.fold(model)
    with refused(model, saved) as problems:
        lora.load_adapter(model, saved)
    assert "fingerprint" in problems[1]


@pytest.mark.parametrize("check_base", [True, False])
def test_base_of_another_size_is_refused_with_every_shape(check_base: bool, saved: Path) -> None:
    model = base(hidden_size=32)
    with refused(model, saved) as problems:
        lora.load_adapter(model, saved, check_base=check_base)
    text = "\n".join(problems)
    assert "attention.self.query" in text
    assert "attention.self.value" in text
    assert "(32, 32)" in text
    assert "A (2, 16) and B (16, 2)" in text
    assert "classifier.weight has a size mismatch: expected (3, 32), got (3, 16)" in text


def test_base_with_more_layers_is_refused(saved: Path) -> None:
    model = base(num_hidden_layers=3)
    with refused(model, saved) as problems:
        lora.load_adapter(model, saved)
    text = "\n".join(problems)
    assert QUERY.format(2) in text
    assert "missing from the file" in text


def test_base_with_fewer_layers_is_refused(saved: Path) -> None:
    model = base(num_hidden_layers=1)
    with refused(model, saved) as problems:
        lora.load_adapter(model, saved)
    assert any(
        QUERY.format(1) in p and "is unexpected: the model has no such module" in p
        for p in problems
    )


def test_model_without_the_head_is_refused(saved: Path) -> None:
    torch.manual_seed(0)
    model = BertModel(SMALL)
    with refused(model, saved) as problems:
        lora.load_adapter(model, saved)
    text = "is unexpected: the model has no such parameter; load a base with that head"
    assert set(problems[1:]) == {f"classifier.weight {text}", f"classifier.bias {text}"}


def test_head_with_another_number_of_labels_is_refused(saved: Path) -> None:
    model = base(num_labels=2, id2label=None, label2id=None)
    with refused(model, saved) as problems:
        lora.load_adapter(model, saved)
    assert set(problems[1:]) == {
        "classifier.weight has a size mismatch: expected (2, 16), got (3, 16); load the base with "
        "num_labels=3",
        "classifier.bias has a size mismatch: expected (2,), got (3,)",
    }


# --- keys


def renamed(old: str, new: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {key.replace(old, new): value for key, value in tensors.items()}


@pytest.mark.parametrize("header", [True, False], ids=["ours", "PEFT's"])
def test_one_wrong_key_is_refused_with_its_neighbour(header: bool, saved: Path) -> None:
    edit_tensors(
        saved, renamed("layer.0.attention.self.query", "layer.0.attention.self.qurey"), header
    )
    model = base()
    with refused(model, saved) as problems:
        lora.load_adapter(model, saved)
    text = "\n".join(problems)
    assert QUERY.format(0).replace("query", "qurey") in text
    assert f"did you mean '{QUERY.format(0)}'" in text
    assert f"{QUERY.format(0)} is a target module, but missing from the file" in text


def test_every_wrong_key_is_refused(saved: Path) -> None:
    edit_tensors(saved, renamed("base_model.model.bert", "base_model.model.roberta"))
    model = base()
    with refused(model, saved) as problems:
        lora.load_adapter(model, saved)
    text = "\n".join(problems)
    for name in ("query", "value"):
        layers = f"encoder.layer.{{0,1}}.attention.self.{name}"
        assert f"roberta.{layers} is unexpected: the model has no such module" in text
        assert f"bert.{layers} is a target module, but missing from the file" in text


def test_key_without_its_partner_is_refused(saved: Path) -> None:
    edit_tensors(saved, lambda t: {k: v for k, v in t.items() if k != KEY.format(0)})
    model = base()
    with refused(model, saved, FormatError) as problems:
        lora.load_adapter(model, saved)
    assert problems[1:] == [f"{QUERY.format(0)}: lora_A is missing (found lora_B)"]


def test_missing_layer_is_refused(saved: Path) -> None:
    edit_tensors(saved, lambda t: {k: v for k, v in t.items() if QUERY.format(1) not in k})
    model = base()
    with refused(model, saved) as problems:
        lora.load_adapter(model, saved)
    assert problems[1:] == [f"{QUERY.format(1)} is a target module, but missing from the file"]


@pytest.mark.parametrize("missing", [["weight", "bias"], ["weight"], ["bias"]], ids=str)
def test_missing_head_is_refused(missing: list[str], saved: Path) -> None:
    names = [f"classifier.{leaf}" for leaf in missing]
    edit_tensors(saved, lambda t: {k: v for k, v in t.items() if not k.endswith(tuple(names))})
    model = base()
    with refused(model, saved) as problems:
        lora.load_adapter(model, saved)
    assert problems[1:] == [
        f"{n} is in modules_to_save of the file's config, but missing from the file" for n in names
    ]


@pytest.mark.parametrize(
    ("key", "shape", "word"),
    [
        ("score.weight", (3, 16), "score.weight is unexpected: the model has no such parameter"),
        (
            "bert.encoder.layer.0.weight",
            (2, 2),
            "bert.encoder.layer.0.weight is unexpected: the model has no such parameter",
        ),
        (f"{QUERY.format(0)}.lora_C.weight", (2, 2), "lora_C.weight (this type of adapter is not"),
    ],
)
def test_extra_key_is_refused(key: str, shape: tuple[int, ...], word: str, saved: Path) -> None:
    edit_tensors(saved, lambda t: {**t, f"base_model.model.{key}": torch.ones(shape)})
    model = base()
    kind = FormatError if "lora_C" in key else MismatchError
    with refused(model, saved, kind) as problems:
        lora.load_adapter(model, saved)
    assert any(word in problem for problem in problems)


def test_extra_adapter_that_the_config_does_not_target_is_refused(saved: Path) -> None:
    name = "bert.encoder.layer.0.attention.self.key"

    def add(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        prefix = f"base_model.model.{name}"
        factors = {"lora_A": torch.ones(2, 16), "lora_B": torch.ones(16, 2)}
        return {**tensors, **{f"{prefix}.{k}.weight": v for k, v in factors.items()}}

    edit_tensors(saved, add)
    model = base()
    with refused(model, saved) as problems:
        lora.load_adapter(model, saved)
    assert problems[1:] == [f"{name} is in the file, but not a target module of its config"]


def test_everything_that_is_wrong_is_in_one_error(saved: Path) -> None:
    def spoil(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        wrong = {
            k.replace("layer.0.attention.self.query", "nowhere"): v for k, v in tensors.items()
        }
        value = KEY.format(1).replace("query", "value")
        wrong[value] = torch.ones(2, 7)
        wrong["base_model.model.classifier.weight"] = torch.ones(5, 16)
        wrong["base_model.model.extra.weight"] = torch.ones(2)
        return wrong

    edit_tensors(saved, spoil)
    model = base()
    with refused(model, saved) as problems:
        lora.load_adapter(model, saved)
    text = "\n".join(problems)
    for word in (
        "nowhere is unexpected: the model has no such module",
        "A (2, 7)",
        f"{QUERY.format(0)} is a target module, but missing from the file",
        "classifier.weight has a size mismatch: expected (3, 16), got (5, 16)",
        "extra.weight is unexpected: the model has no such parameter",
    ):
        assert word in text.replace("bert.encoder.nowhere", "nowhere"), word


def test_unknown_settings_of_another_tool_are_named_in_the_report(saved: Path) -> None:
    edit_config(saved, invented_next_year=3, off=False, auto_mapping={"unsloth_fixed": True})
    report = lora.load_adapter(base(), saved)
    assert report.unknown_settings == {"invented_next_year": 3}
    said = "unknown settings, which could mean another function: invented_next_year=3"
    assert said in str(report)


# --- configs that lie


@pytest.mark.parametrize("header", [True, False], ids=["ours", "PEFT's"])
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"r": 4}, FormatError),
        ({"rank_pattern": {"layer.0.*query": 1}}, FormatError),
        ({"target_modules": ["query"]}, MismatchError),
        ({"target_modules": ["query", "value", "key"]}, MismatchError),
        ({"target_modules": ["qurey", "value"]}, MismatchError),
        ({"target_modules": ".*nothing"}, MismatchError),
        ({"layers_to_transform": [0]}, MismatchError),
        ({"use_dora": True}, FormatError),
        ({"lora_bias": True}, FormatError),
        ({"target_parameters": ["experts.weight"]}, FormatError),
    ],
    ids=str,
)
def test_config_that_lies_is_refused(
    change: dict[str, Any], kind: type[LorakitError], header: bool, saved: Path
) -> None:
    edit_tensors(saved, lambda tensors: None, header)
    edit_config(saved, **change)
    model = base()
    with refused(model, saved, kind) as problems:
        lora.load_adapter(model, saved)
    assert len(problems) > 1


@pytest.mark.parametrize(
    "change", [{"lora_alpha": 12}, {"use_rslora": True}, {"alpha_pattern": {"query": 1}}]
)
def test_scale_that_contradicts_the_header_is_refused(change: dict[str, Any], saved: Path) -> None:
    edit_config(saved, **change)
    model = base()
    with refused(model, saved, FormatError) as problems:
        lora.load_adapter(model, saved)
    assert next(iter(change)) in problems[1]


def test_scale_that_contradicts_the_caller_is_refused(saved: Path) -> None:
    model = base()
    with refused(model, saved, FormatError) as problems:
        lora.load_adapter(model, saved, lora_alpha=16)
    assert problems[1:] == ["lora_alpha=16 was passed, but the file says lora_alpha=6"]


# --- damaged files


@pytest.mark.parametrize("key", [KEY.format(0), "base_model.model.classifier.bias"])
def test_values_that_are_no_numbers_are_refused(key: str, saved: Path) -> None:
    def spoil(tensors: dict[str, Tensor]) -> None:
        tensors[key].view(-1)[0] = float("nan")

    edit_tensors(saved, spoil, header=True)
    model = base()
    with refused(model, saved, FormatError) as problems:
        lora.load_adapter(model, saved)
    assert len(problems) == 2
    assert "1 of" in problems[1]


def test_truncated_tensor_file_is_refused(saved: Path) -> None:
    file = saved / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    model = base()
    with refused(model, saved, FormatError):
        lora.load_adapter(model, saved)


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.path,)


def test_pickle_with_code_in_it_is_refused_and_does_not_run(tmp_path: Path) -> None:
    state = {f"{QUERY.format(0)}.lora_A": torch.ones(2, 16), "x": Runs(tmp_path / "ran")}
    torch.save(state, tmp_path / "a.bin")
    model = base()
    with refused(model, tmp_path, FormatError) as problems:
        lora.load_adapter(model, tmp_path / "a.bin", lora_alpha=1)
    assert "could run code (Unsupported global" in problems[0]
    assert not (tmp_path / "ran").exists()


# --- a base that is not whole


def test_newly_initialised_weight_that_the_adapter_brings_is_no_obstacle(
    tmp_path: Path, saved: Path
) -> None:
    base().bert.save_pretrained(tmp_path / "backbone")
    model = BertForSequenceClassification.from_pretrained(tmp_path / "backbone", num_labels=3)
    lora.load_adapter(model.eval(), saved)
    assert torch.equal(logits(model), logits(adapted()))


def test_newly_initialised_weight_that_nobody_brings_is_refused(tmp_path: Path) -> None:
    base().bert.save_pretrained(tmp_path / "backbone")
    path = lora.save_adapter(adapted(modules_to_save=None), tmp_path / "adapter")
    model = BertForSequenceClassification.from_pretrained(tmp_path / "backbone", num_labels=3)
    with refused(model, path) as problems:
        lora.load_adapter(model, path)
    text = "\n".join(problems[1:])
    assert "classifier.weight" in text
    assert "classifier.bias" in text
    assert "newly initialized" in text


# --- a model that is adapted already


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"r": 3}, "is adapted with rank 3, but the file has rank 2"),
        ({"lora_alpha": 12}, "is adapted with scaling 6.0, but the file has scaling 3.0"),
        ({"use_rslora": True}, "is adapted with scaling"),
        ({"target_modules": ["query"]}, "is in the file, but not adapted in this model"),
        (
            {"target_modules": ["query", "value", "key"]},
            "is adapted, but missing from the file",
        ),
        ({"bias": "all"}, "is trained in full in this model, but missing from the file"),
    ],
    ids=str,
)
def test_another_adapter_on_the_model_is_refused(
    changes: dict[str, Any], word: str, saved: Path
) -> None:
    model = adapted(**changes)
    with refused(model, saved) as problems:
        lora.load_adapter(model, saved)
    assert any(word in problem for problem in problems), problems


def test_head_that_trains_here_and_is_not_in_the_file_is_refused(tmp_path: Path) -> None:
    path = lora.save_adapter(adapted(modules_to_save=None), tmp_path / "a")
    model = adapted()
    with refused(model, path) as problems:
        lora.load_adapter(model, path)
    assert len(problems) == 3
    assert "classifier.weight is trained in full in this model, but missing" in problems[1]


def test_head_in_the_file_joins_an_adapted_model(saved: Path) -> None:
    model = adapted(modules_to_save=None)
    original = model.classifier.weight
    lora.load_adapter(model, saved)
    assert torch.equal(logits(model), logits(adapted()))
    lora.eject(model)
    assert model.classifier.weight is original


def test_disabled_model_cannot_be_loaded_onto(saved: Path) -> None:
    model = adapted()
    with lora.disabled(model), pytest.raises(StateError):
        lora.load_adapter(model, saved)


# --- the Hub


def test_hub_id_and_revision_are_asked_for(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def snapshot_download(repo_id: str, **options: Any) -> str:
        asked.append((repo_id, options["revision"], options["allow_patterns"]))
        return str(saved)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(saved.parent)
    for revision in (None, "v1.2"):
        model = base()
        lora.load_adapter(model, "someone/an-adapter", revision=revision)
        assert torch.equal(logits(model), logits(adapted()))
    wanted = ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"]
    wanted += [
        "trained.safetensors",
        "adapter.safetensors",
        "pytorch_adapter.bin",
        "pytorch_lora_weights.safetensors",
        "adapters.safetensors",
    ]
    assert asked == [("someone/an-adapter", None, wanted), ("someone/an-adapter", "v1.2", wanted)]


def test_hub_that_cannot_be_reached_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = base()
    with refused(model, tmp_path, FormatError) as problems:
        lora.load_adapter(model, "someone/never-downloaded", revision="main")
    assert "someone/never-downloaded is not a local path, and could not be downl" in problems[0]


def test_directory_with_the_name_of_a_hub_id_is_the_directory(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(saved.parent.parent)
    lora.load_adapter(base(), f"{saved.parent.name}/{saved.name}")


def test_revision_of_a_local_path_is_refused(saved: Path) -> None:
    model = base()
    with refused(model, saved, ConfigError) as problems:
        lora.load_adapter(model, saved, revision="main")
    assert "revision='main' only applies to a Hub repository" in problems[0]


def test_missing_path_is_refused(tmp_path: Path) -> None:
    model = base()
    with refused(model, tmp_path, FormatError) as problems:
        lora.load_adapter(model, tmp_path / "nowhere")
    assert "no such file or directory" in problems[0]


def test_reading_needs_no_model(saved: Path) -> None:
    bundle = read(saved)
    assert set(bundle.adapters) == {
        f"bert.encoder.layer.{n}.attention.self.{name}"
        for n in (0, 1)
        for name in ("query", "value")
    }
    assert set(bundle.trained) == {"classifier.weight", "classifier.bias"}


# --- base weights in files, wrong bases beside other problems, many lost names


@pytest.mark.parametrize("header", [True, False], ids=["ours", "PEFT's"])
@pytest.mark.parametrize("value", ["the model's own", "another"])
def test_base_weight_in_a_file_never_trains(value: str, header: bool, saved: Path) -> None:
    model = base()
    weight = model.get_submodule(QUERY.format(0)).weight.detach().clone()
    key = f"base_model.model.{QUERY.format(0)}.base_layer.weight"
    if value == "the model's own":
        edit_tensors(saved, lambda tensors: tensors | {key: weight}, header)
        assert f"{QUERY.format(0)}.weight" not in lora.load_adapter(model, saved).adapter.trained
        assert not model.get_submodule(QUERY.format(0)).weight.requires_grad
        return
    edit_tensors(saved, lambda tensors: tensors | {key: weight + 1}, header)
    with refused(model, saved) as problems:
        lora.load_adapter(model, saved)
    assert len(problems) == 2
    assert problems[1].startswith(f"{QUERY.format(0)}.weight is the base weight of an adapted")


def test_another_base_is_named_beside_other_problems(saved: Path) -> None:
    edit_tensors(
        saved, lambda tensors: tensors | {"base_model.model.extra.weight": torch.ones(2)}, True
    )
    model = base(seed=5)
    with refused(model, saved) as problems:
        lora.load_adapter(model, saved)
    assert len(problems) == 3
    assert "extra.weight is unexpected: the model has no such parameter" in problems[1]
    assert "differ from those that the adapter was trained on" in problems[2]


def test_suggestions_for_many_lost_tensors_are_few(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {f"base_model.model.h{n}ead.part{n % 2}.weight": torch.ones(2) for n in range(500)}
    edit_tensors(saved, lambda tensors: tensors | extra, True)
    asked: list[str] = []

    def count(name: str, candidates: object) -> str:
        asked.append(name)
        return f" (did you mean {name}'s neighbour?)"

    monkeypatch.setattr("lorakit.injection.transfer.trained_tensors.suggest", count)
    with refused(base(), saved) as problems:
        lora.load_adapter(base(), saved)
    assert len(asked) == 10
    assert len(problems) == 1 + 500
    assert sum("neighbour" in problem for problem in problems) == 10


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([0, 1], "l.{0,1}.q is lost"),
        ([10, 9, 2], "l.{2,9,10}.q is lost"),
        ([*range(12), 20], "l.{0-11,20}.q is lost"),
        ([3, 11, 1, 2, 12, 13, 5, 6], "l.{1-3,5,6,11-13}.q is lost"),
        ([7], "l.7.q is lost"),
    ],
    ids=str,
)
def test_layers_with_one_problem_are_named_in_order(numbers: list[int], expected: str) -> None:
    assert group_layers((f"l.{n}.q", "is lost") for n in numbers) == [expected]


def test_a_child_that_its_parent_only_reads_is_refused_in_the_list(tmp_path: Path) -> None:
    """With dropout on its input: attention never calls its out_proj."""
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["self_attn"]))
    lora.save_adapter(model, tmp_path)
    edit_config(tmp_path, lora_dropout=0.1)
    plain = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    with pytest.raises(lora.errors.MismatchError, match=r"out_proj .*lora_dropout must be 0"):
        lora.load_adapter(plain, tmp_path)
    assert type(plain.self_attn) is nn.MultiheadAttention
