"""Each row of a batch computes what its adapter alone gives, whatever the adapters are."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from tests.adapters.files import Build, loaded_set, output, row_by_row, save_all
from tests.injection import zoo
from tests.tolerances import EXACT, MODEL

IDS = 3 + torch.arange(8 * 6).reshape(8, 6) % 37
TEXT = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
TEXT["attention_mask"][1, :2] = 0


class Mixed(nn.Module):
    """A layer of each kind that has adapters, apart from attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 8)
        self.conv = nn.Conv1d(8, 12, 3, padding=1)
        self.norm = nn.LayerNorm(12)
        self.linear = nn.Linear(12, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.conv(self.embed(input_ids).transpose(1, 2)).transpose(1, 2)
        y: Tensor = self.head(torch.tanh(self.linear(self.norm(x))).mean(1))
        return y


def mixed() -> nn.Module:
    torch.manual_seed(1)
    return Mixed().eval()


QV = {"target_modules": ["q_proj", "v_proj"]}
WORLDS: dict[str, tuple[Build, dict[str, dict[str, object]]]] = {
    "ranks, scales and targets": (
        zoo.llama,
        {
            "a": {"r": 4, "lora_alpha": 8, **QV},
            "b": {"r": 2, "use_rslora": True, "target_modules": "all-linear"},
            "c": {"r": 4, "lora_alpha": 1, "target_modules": ["down_proj"]},
        },
    ),
    "DoRA beside LoRA": (
        zoo.llama,
        {
            "a": {"r": 4, **QV},
            "b": {"r": 4, "use_dora": True, **QV},
            "c": {"r": 3, "use_dora": True, "target_modules": "all-linear"},
        },
    ),
    "slices of GPT-2's Conv1D": (
        zoo.gpt2,
        {
            "a": {"r": 2, "slices": {"c_attn": [True, False, True]}},
            "b": {"r": 4, "target_modules": ["c_attn"]},
            "c": {"r": 2, "slices": {"c_attn": [False, True, True]}},
        },
    ),
    "heads and biases": (
        partial(zoo.bert, "BertForSequenceClassification", num_labels=3),
        {
            "a": {"r": 2, "target_modules": ["query"], "modules_to_save": ["classifier"]},
            "b": {"r": 2, "target_modules": ["query"], "bias": "all"},
            "c": {
                "r": 3,
                "target_modules": ["value"],
                "variant": "lora_bias",
                "modules_to_save": ["LayerNorm", "pooler"],
            },
        },
    ),
    "trainable tokens": (
        zoo.gpt2,
        {
            "a": {"r": 2, "target_modules": ["c_attn"], "trainable_token_indices": [5, 7, 9]},
            "b": {"r": 2, "target_modules": ["c_attn"], "trainable_token_indices": [6, 7]},
            "c": {"r": 2, "target_modules": ["c_proj"]},
        },
    ),
    "embeddings and convolutions": (
        mixed,
        {
            "a": {"r": 2, "target_modules": ["embed", "linear"]},
            "b": {"r": 3, "target_modules": ["conv"], "modules_to_save": ["norm"]},
            "c": {"r": 4, "target_modules": ["embed", "conv", "head"]},
        },
    ),
}
NAMES = ["b", None, "a", "a", "c", "b", None, "c"]


def batch_of(build: Build) -> dict[str, Tensor]:
    return {"input_ids": IDS} if build is mixed else TEXT


@pytest.mark.parametrize("world", WORLDS)
def test_each_row_is_what_its_adapter_alone_gives(world: str, tmp_path: Path) -> None:
    build, configs = WORLDS[world]
    paths, batch, model = save_all(build, tmp_path, configs), batch_of(build), build()
    with loaded_set(model, paths).rows(NAMES):
        got = output(model, **batch)
    assert_close(got, row_by_row(build, paths, NAMES, **batch), **MODEL)


@pytest.mark.parametrize("world", WORLDS)
def test_the_model_is_given_back(world: str, tmp_path: Path) -> None:
    build, configs = WORLDS[world]
    paths, batch, model = save_all(build, tmp_path, configs), batch_of(build), build()
    before, state = output(model, **batch), {k: v.clone() for k, v in model.state_dict().items()}
    kinds = {name: (id(m), type(m), set(m.__dict__)) for name, m in model.named_modules()}
    parameters = {name: id(parameter) for name, parameter in model.named_parameters()}
    adapters = loaded_set(model, paths)
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == parameters
    assert_close(model.state_dict(), state, **EXACT)
    assert_close(output(model, **batch), before, **EXACT)
    with adapters.rows(NAMES):
        assert not torch.equal(output(model, **batch), before)
    adapters.close()
    assert {n: (id(m), type(m), set(m.__dict__)) for n, m in model.named_modules()} == kinds
    assert_close(output(model, **batch), before, **EXACT)


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_all(zoo.llama, tmp_path_factory.mktemp("llamas"), WORLDS["DoRA beside LoRA"][1])


@settings(max_examples=15)
@given(st.lists(st.sampled_from([None, "a", "b", "c"]), min_size=8, max_size=8), st.randoms())
def test_permuted_rows_give_permuted_outputs(
    llamas: dict[str, Path], names: list[str | None], random: object
) -> None:
    model = zoo.llama()
    adapters, order = loaded_set(model, llamas), torch.randperm(8)
    with adapters.rows(names):
        straight = output(model, **TEXT)
    with adapters.rows([names[n] for n in order]):
        permuted = output(model, **{key: value[order] for key, value in TEXT.items()})
    assert_close(permuted, straight[order], **MODEL)


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_one_adapter_in_all_rows_is_that_adapter_activated(
    llamas: dict[str, Path], name: str
) -> None:
    model = zoo.llama()
    adapters = loaded_set(model, llamas)
    adapters.activate(name)
    activated = output(model, **TEXT)
    assert_close(activated, row_by_row(zoo.llama, llamas, [name] * 8, **TEXT), **MODEL)
    adapters.deactivate()
    with adapters.rows([name] * 8):
        assert_close(output(model, **TEXT), activated, **EXACT)


def test_rows_of_none_are_the_base_bit_for_bit(llamas: dict[str, Path]) -> None:
    base, model = output(zoo.llama(), **TEXT), zoo.llama()
    adapters = loaded_set(model, llamas)
    adapters.activate("a")
    with adapters.rows([None] * 8):
        assert_close(output(model, **TEXT), base, **EXACT)
