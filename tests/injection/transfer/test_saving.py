"""What is saved: all that trains, under names that mean it, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    AutoModel,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTModel,
)

import lorakit as lora
from lorakit.checkpoint import read
from lorakit.errors import SaveError, StateError
from lorakit.injection.selection.naming import shortest_suffixes
from lorakit.injection.transfer.saving import bundle_of
from tests.injection import zoo
from tests.tolerances import EXACT

ENCODER = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
}
QUERY = lora.LoraConfig(r=2, target_modules=["query"], init_lora_weights=False)


def net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))


def keys(path: Path) -> set[str]:
    prefix = "base_model.model."
    found = load_file(path / "adapter_model.safetensors")
    assert all(key.startswith(prefix) for key in found)
    return {key.removeprefix(prefix) for key in found}


def config(path: Path) -> dict[str, Any]:
    return dict(json.loads((path / "adapter_config.json").read_text()))


def header(path: Path) -> dict[str, Any]:
    with safe_open(path / "adapter_model.safetensors", framework="pt") as opened:
        return dict(json.loads(opened.metadata()["lorakit"]))


LORA_0 = {"0.lora_A.weight", "0.lora_B.weight"}
LORA_3 = {"3.lora_A.weight", "3.lora_B.weight"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, LORA_0),
        ({"target_modules": "all-linear"}, LORA_0 | LORA_3),
        ({"bias": "lora_only"}, LORA_0 | {"0.base_layer.bias"}),
        ({"bias": "all"}, LORA_0 | {"0.base_layer.bias", "1.bias", "3.bias"}),
        ({"modules_to_save": ["3"]}, LORA_0 | {"3.weight", "3.bias"}),
        (
            {"modules_to_save": ["1"]},
            LORA_0
            | {"1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"},
        ),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),  # in every process
)
def test_file_holds_what_trains_and_nothing_else(
    changes: dict[str, Any], expected: set[str], tmp_path: Path
) -> None:
    model = net()
    lora.inject(model, lora.LoraConfig(**{"r": 2, "target_modules": ["0"]} | changes))
    assert keys(lora.save_adapter(model, tmp_path)) == expected


def test_parameter_that_the_user_unfroze_is_saved_and_loaded(tmp_path: Path) -> None:
    model = net()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"]))
    model[3].weight.requires_grad_(True)
    with torch.no_grad():
        model[3].weight.add_(1)
    path = lora.save_adapter(model, tmp_path)
    assert keys(path) == LORA_0 | {"3.weight", "3.bias"}
    assert config(path)["modules_to_save"] == ["3"]
    again = net()
    lora.load_adapter(again, path)
    torch.testing.assert_close(again[3].weight, model[3].weight, **EXACT)


def test_tensors_are_the_model_s_own(tmp_path: Path) -> None:
    model = net()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"], init_lora_weights=False))
    found = load_file(lora.save_adapter(model, tmp_path) / "adapter_model.safetensors")
    assert torch.equal(found["base_model.model.0.lora_A.weight"], model[0].lora_A)
    assert torch.equal(found["base_model.model.0.lora_B.weight"], model[0].lora_B)


@pytest.mark.parametrize("mode", ["train", "eval", "merged", "disabled"])
def test_file_does_not_depend_on_the_mode(mode: str, tmp_path: Path) -> None:
    model = net().eval()
    lora.inject(
        model,
        lora.LoraConfig(
            r=2, target_modules=["0"], modules_to_save=["3"], init_lora_weights=False,
            merge_weights=True,
        ),
    )  # fmt: skip
    with torch.no_grad():
        model[3].weight.add_(1)
    expected = load_file(lora.save_adapter(model, tmp_path / "a") / "adapter_model.safetensors")
    if mode == "disabled":
        with lora.disabled(model), pytest.raises(StateError):
            lora.save_adapter(model, tmp_path / "b")
        assert not (tmp_path / "b").exists()
        return
    model.train(mode == "train")
    with torch.no_grad():
        model(torch.ones(2, 5))
    if mode == "merged":
        with lora.merged(model):
            path = lora.save_adapter(model, tmp_path / "b")
    else:
        path = lora.save_adapter(model, tmp_path / "b")
    found = load_file(path / "adapter_model.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, **EXACT)


def test_saving_changes_nothing_in_the_model(tmp_path: Path) -> None:
    model = net()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"], bias="all"))
    before = {name: (id(t), t.clone()) for name, t in model.state_dict(keep_vars=True).items()}
    lora.save_adapter(model, tmp_path)
    for name, tensor in model.state_dict(keep_vars=True).items():
        assert id(tensor) == before[name][0]
        assert torch.equal(tensor, before[name][1])


def test_tied_tensors_that_train_are_saved_under_both_names(tmp_path: Path) -> None:
    def gpt2() -> nn.Module:
        torch.manual_seed(2)
        small = GPT2Config(
            vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=24,
            bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        return GPT2LMHeadModel(small).eval()

    model = gpt2()
    lora.inject(
        model,
        lora.LoraConfig(
            r=2, target_modules=["c_fc"], modules_to_save=["wte", "lm_head"],
            init_lora_weights=False,
        ),
    )  # fmt: skip
    assert model.lm_head.weight is model.transformer.wte.weight
    with torch.no_grad():
        model.lm_head.weight.add_(torch.randn_like(model.lm_head.weight))
    path = lora.save_adapter(model, tmp_path)
    assert {"lm_head.weight", "transformer.wte.weight"} <= keys(path)
    again = gpt2()
    lora.load_adapter(again, path)
    assert again.lm_head.weight is again.transformer.wte.weight
    ids = torch.arange(6)[None]
    with torch.no_grad():
        assert torch.equal(again(ids).logits, model(ids).logits)


def test_settings_that_changed_since_are_the_ones_saved(tmp_path: Path) -> None:
    model = net()
    lora.inject(model, lora.LoraConfig(r=2, lora_alpha=4, target_modules=["0", "3"]))
    model[3].lora_alpha = 10
    model[0].lora_dropout = 0.25
    path = lora.save_adapter(model, tmp_path)
    assert (config(path)["lora_alpha"], config(path)["alpha_pattern"]) == (4, {"3": 10})
    assert config(path)["lora_dropout"] == 0.25
    again = net()
    lora.load_adapter(again, path)
    assert (again[0].scaling, again[3].scaling) == (2, 5)


def test_layers_of_loralib_are_saved_without_an_injection(tmp_path: Path) -> None:
    model = nn.Sequential(lora.Linear(5, 4, r=2, lora_alpha=6), nn.Linear(4, 3))
    lora.mark_only_lora_as_trainable(model, bias="lora_only")
    path = lora.save_adapter(model, tmp_path)
    assert keys(path) == LORA_0 | {"0.base_layer.bias"}
    assert (config(path)["r"], config(path)["lora_alpha"], config(path)["bias"]) == (
        2, 6, "lora_only",
    )  # fmt: skip


def test_plain_model_has_nothing_to_save(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="has no adapters"):
        lora.save_adapter(net(), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_values_on_the_meta_device_cannot_be_saved(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = net()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"]))
    with pytest.raises(SaveError, match="0 is on the meta device"):
        lora.save_adapter(model, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_adapter_and_head_of_a_half_base_are_saved_in_float32(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    model = net().to(dtype)
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"], modules_to_save=["3"]))
    path = lora.save_adapter(model, tmp_path)
    name = str(dtype).removeprefix("torch.")
    assert header(path)["dtypes"] == ["float32"]
    assert list(header(path)["fingerprint"]) == [name]


# --- names


def test_base_model_and_task_are_named(minilm: Path, tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(minilm)
    lora.inject(model, QUERY)
    path = lora.save_adapter(model, tmp_path)
    assert config(path)["base_model_name_or_path"] == str(minilm)
    assert config(path)["target_modules"] == ["query"]
    assert config(path)["auto_mapping"] == {
        "base_model_class": "BertModel",
        "parent_library": "transformers.models.bert.modeling_bert",
    }
    assert f"base_model: {minilm}\n" in (path / "README.md").read_text()


@pytest.mark.parametrize(
    ("model", "changes", "task"),
    [
        (lambda: BertForSequenceClassification(BertConfig(**ENCODER)), {}, None),
        (
            lambda: BertForSequenceClassification(BertConfig(**ENCODER)),
            {"modules_to_save": ["classifier"]},
            "SEQ_CLS",
        ),
        (
            lambda: BertForTokenClassification(BertConfig(**ENCODER)),
            {"modules_to_save": ["classifier"]},
            "TOKEN_CLS",
        ),
        (
            lambda: ViTModel(
                ViTConfig(
                    hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                    intermediate_size=24, image_size=8, patch_size=4,
                )
            ),
            {"target_modules": ["q_proj"]},
            None,
        ),
        (zoo.llava, {"target_modules": ["q_proj"]}, "CAUSAL_LM"),
        (zoo.t5, {"target_modules": ["q"]}, "SEQ_2_SEQ_LM"),
    ],
    ids=["no head", "sequences", "tokens", "images", "images and text", "encoder-decoder"],
)  # fmt: skip
def test_task_is_named_where_peft_has_a_model_for_it(
    model: Any, changes: dict[str, Any], task: str | None, tmp_path: Path
) -> None:
    made = model()
    lora.inject(made, QUERY.replace(**changes))
    assert config(lora.save_adapter(made, tmp_path)).get("task_type") == task


class Tree(nn.Module):
    """A linear layer under each of the given dotted names."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        for name in names:
            module: nn.Module = self
            *parents, leaf = name.split(".")
            for parent in parents:
                if parent not in module._modules:
                    module.add_module(parent, nn.Module())
                module = module.get_submodule(parent)
            module.add_module(leaf, nn.Linear(2, 2))


NAMES = st.sets(
    st.lists(st.sampled_from(["a", "b", "0", "1", "a+b"]), min_size=1, max_size=3).map(".".join),
    min_size=2,
    max_size=7,
).map(sorted)


@given(data=st.data(), names=NAMES)
def test_target_modules_mean_exactly_the_adapted_layers(data: Any, names: list[str]) -> None:
    """Also where one name is another one's end, or holds signs that mean something to `re`."""
    model = Tree(names)
    linear = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    wanted = data.draw(st.sets(st.sampled_from(linear), min_size=1).map(sorted))
    patterns = shortest_suffixes(model, wanted)
    report = lora.inject(model, lora.LoraConfig(r=1, target_modules=patterns))
    assert sorted(layer.name for layer in report.layers) == wanted


@settings(max_examples=30)
@given(data=st.data(), names=NAMES)
def test_rank_and_scale_of_each_layer_come_back(
    data: Any, names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("adapter")
    model = Tree(names)
    linear = {name: m for name, m in model.named_modules() if type(m) is nn.Linear}
    numbers = st.integers(1, 3)
    patterns = {
        field: {f"^{re.escape(name)}": data.draw(numbers) for name in linear}
        for field in ("rank_pattern", "alpha_pattern")
    }
    lora.inject(
        model, lora.LoraConfig(target_modules="all-linear", init_lora_weights=False, **patterns)
    )
    again = Tree(names)
    again.load_state_dict({n: t for n, t in model.state_dict().items() if "lora_" not in n})
    lora.load_adapter(again, lora.save_adapter(model, path))
    for name, module in linear.items():
        found = again.get_submodule(name)
        assert (found.r, found.scaling) == (module.r, module.scaling), name
        assert torch.equal(found.lora_A, module.lora_A)
        assert torch.equal(found.lora_B, module.lora_B)


# --- the header


def test_header_says_what_the_tensors_are(tmp_path: Path) -> None:
    model = net()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"]))
    path = lora.save_adapter(model, tmp_path)
    found = header(path)
    assert found["version"] == 1
    assert found["config"] == config(path)
    assert list(found["fingerprint"]) == ["bfloat16", "float16", "float32"]
    assert found["dtypes"] == ["float32"]
    assert found["modules"] == {}


def test_header_keeps_slices(tmp_path: Path) -> None:
    model = net()
    parts = [(1, True), (1, False), (2, True)]
    lora.inject(model, lora.LoraConfig(r=1, target_modules=["0"], slices={"0": parts}))
    path = lora.save_adapter(model, tmp_path)
    assert header(path)["modules"] == {
        "0": {"r": 1, "lora_alpha": 8, "slices": [[1, True], [1, False], [2, True]]}
    }
    assert read(path).adapters["0"].site.slices == tuple(parts)
    assert (config(path)["r"], config(path)["lora_alpha"]) == (2, 16)


def test_bundle_holds_the_model_s_tensors_and_no_copies() -> None:
    model = net()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"]))
    found: Tensor = bundle_of(model).adapters["0"].tensors["lora_A"]
    assert found.data_ptr() == model[0].lora_A.data_ptr()
    assert not found.requires_grad


# --- adapters that were lost, and what cannot be stored


LLAMA = {**ENCODER, "num_key_value_heads": 2, "tie_word_embeddings": False}


@pytest.mark.parametrize(
    ("targets", "lost"),
    [
        (["lm_head"], r"lm_head was adapted, but has no adapter now"),
        (["q_proj", "lm_head"], r"lm_head was adapted, but has no adapter now"),
        (["embed_tokens"], r"model\.embed_tokens has a size .*A \(2, 50\).*got A \(2, 40\)"),
    ],
    ids=str,
)
def test_adapters_that_the_model_lost_are_not_saved_as_less(
    targets: list[str], lost: str, tmp_path: Path
) -> None:
    model = LlamaForCausalLM(LlamaConfig(**LLAMA))
    lora.inject(model, lora.LoraConfig(r=2, target_modules=targets))
    model.resize_token_embeddings(50, mean_resizing=False)
    with pytest.raises(StateError, match=lost) as caught:
        lora.save_adapter(model, tmp_path / "a")
    assert len(caught.value.problems) == 1
    assert not (tmp_path / "a").exists()


def test_every_lost_adapter_is_listed_by_its_full_name() -> None:
    body = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
    lora.inject(body, lora.LoraConfig(r=2, target_modules="all-linear"))
    model = nn.Sequential(body, nn.Linear(4, 2))
    body[0] = nn.Linear(4, 4)
    body[2].weight = nn.Parameter(torch.ones(7, 4))
    with pytest.raises(StateError) as caught:
        bundle_of(model)
    gone, outgrown = caught.value.problems
    assert gone.startswith("0.0 was adapted")
    assert outgrown.startswith("0.2 has a size mismatch: expected A (2, 4) and B (7, 2)")
    assert outgrown.endswith("weight (7, 4)), got A (2, 4) and B (4, 2)")


@pytest.mark.parametrize("fan_in_fan_out", [True, False])
def test_weight_that_is_stored_transposed_is_no_loss(fan_in_fan_out: bool, tmp_path: Path) -> None:
    def build() -> nn.Sequential:
        return nn.Sequential(lora.Linear(5, 3, r=2, fan_in_fan_out=fan_in_fan_out))

    model, again = build(), build()
    again[0].weight = model[0].weight
    lora.load_adapter(again, lora.save_adapter(model, tmp_path))
    torch.testing.assert_close(again[0].lora_A, model[0].lora_A, **EXACT)


class WithToken(nn.Module):
    """A model with a parameter of its own, as vision transformers' class token."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.q = nn.Linear(4, 4)
        self.token = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.q(x) + self.token.sum()
        return result


@pytest.mark.parametrize("value", [0.0, 2.0], ids=["unchanged", "changed"])
def test_parameter_of_the_model_itself_is_saved_and_loaded(value: float, tmp_path: Path) -> None:
    model = WithToken()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["q"]))
    model.token.requires_grad_(True)
    with torch.no_grad():
        model.token.fill_(value)
    path = lora.save_adapter(model, tmp_path)
    assert keys(path) == {"q.lora_A.weight", "q.lora_B.weight", "token"}
    again = WithToken()
    lora.load_adapter(again, path)
    assert again.token.requires_grad
    torch.testing.assert_close(again.token, model.token, **EXACT)
    in_peft = PeftModel.from_pretrained(WithToken(), path).base_model.model
    torch.testing.assert_close(in_peft.token.detach(), model.token.detach(), **EXACT)


def test_base_weight_that_trains_beside_its_adapter_is_named(tmp_path: Path) -> None:
    model = net()
    lora.inject(model, lora.LoraConfig(r=2, target_modules="all-linear"))
    model[0].weight.requires_grad_(True)
    model[3].weight.requires_grad_(True)
    with pytest.raises(SaveError) as caught:
        lora.save_adapter(model, tmp_path / "a")
    (problem,) = caught.value.problems
    assert problem.startswith("{0,3}.weight is the trainable weight of an adapted module")


def test_everything_without_values_is_listed() -> None:
    with torch.device("meta"):
        model = net()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"], modules_to_save=["3"]))
    with pytest.raises(SaveError) as caught:
        bundle_of(model)
    text = "\n".join(caught.value.problems)
    for name in ("0", "3.weight", "3.bias"):
        assert re.search(rf"\b{re.escape(name)}\b.* is on the meta device", text), name


# --- wrappers


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model)  # type: ignore[return-value]


def doubly(model: nn.Module) -> nn.Module:
    return nn.DataParallel(compiled(model))


@pytest.mark.parametrize("wrap", [compiled, nn.DataParallel, doubly])
@pytest.mark.parametrize("inside", [True, False], ids=["inject, wrap", "wrap, inject"])
def test_file_of_a_wrapped_model_is_the_plain_model_s(
    wrap: Callable[[nn.Module], nn.Module], inside: bool, tmp_path: Path
) -> None:
    def build() -> BertForSequenceClassification:
        torch.manual_seed(0)
        return BertForSequenceClassification(BertConfig(**ENCODER))

    changes = QUERY.replace(modules_to_save=["classifier"])
    plain = build()
    torch.manual_seed(1)
    lora.inject(plain, changes)
    expected = lora.save_adapter(plain, tmp_path / "plain")
    model = build()
    wrapped = wrap(model)
    torch.manual_seed(1)
    lora.inject(model if inside else wrapped, changes)
    path = lora.save_adapter(wrapped, tmp_path / "wrapped")
    assert (config(path), header(path)) == (config(expected), header(expected))
    found = load_file(path / "adapter_model.safetensors")
    for name, tensor in load_file(expected / "adapter_model.safetensors").items():
        torch.testing.assert_close(found.pop(name), tensor, **EXACT)
    assert not found
    again = build()
    assert lora.load_adapter(wrap(again), path).base_verified is True
    assert bundle_of(again).tensors.keys() == bundle_of(plain).tensors.keys()
    lora.load_adapter(wrapped, expected)


def test_file_of_a_distributed_model_is_the_plain_model_s(tmp_path: Path) -> None:
    model = net()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"], modules_to_save=["3"]))
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        path = lora.save_adapter(nn.parallel.DistributedDataParallel(model), tmp_path)
    finally:
        torch.distributed.destroy_process_group()
    assert keys(path) == LORA_0 | {"3.weight", "3.bias"}
    assert header(path)["base_class"] == ["torch.nn.modules.container", "Sequential"]
    again = net()
    assert lora.load_adapter(again, path).base_verified is True
