"""Modules whose input does not begin with the rows of a batch are refused by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit
from lorakit import AdapterSet, LoraConfig
from lorakit.errors import StateError, TargetError
from tests.adapters.files import Build, alone, loaded_set, output, row_by_row, save, save_all
from tests.injection import zoo
from tests.tolerances import MODEL

ROWS: list[str | None] = ["a", "b", None, "a"]


def made(model: str, config: str, **settings: Any) -> Build:
    def build() -> nn.Module:
        torch.manual_seed(1)
        cls, config_class = getattr(transformers, model), getattr(transformers, config)
        found: nn.Module = cls(config_class(vocab_size=40, **settings)).eval()
        return found

    return build


BERT_LIKE = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 34,
}
BART_LIKE = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
}


def longformer() -> nn.Module:
    return made("LongformerModel", "LongformerConfig", attention_window=[4], **BERT_LIKE)()


def led() -> nn.Module:
    return made("LEDModel", "LEDConfig", attention_window=4, **BART_LIKE)()


def xlnet() -> nn.Module:
    return made("XLNetModel", "XLNetConfig", d_model=16, n_layer=1, n_head=2, d_inner=24)()


def fsmt() -> nn.Module:
    words = {"src_vocab_size": 40, "tgt_vocab_size": 40, "langs": ["en", "de"]}
    return made("FSMTModel", "FSMTConfig", **BART_LIKE, **words)()


def deberta() -> nn.Module:
    relative = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
    return made("DebertaModel", "DebertaConfig", **BERT_LIKE, **relative)()


class Toy(nn.Module):
    """Embeds ids, and computes further in a way of its own."""

    def __init__(self, make: Callable[[], nn.Module], run: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 8)
        self.inner = make()
        self._run = run

    def forward(self, input_ids: Tensor) -> Tensor:
        return self._run(self, self.embed(input_ids))


def toy(make: Callable[[], nn.Module], run: Callable[[Any, Tensor], Tensor]) -> Build:
    def build() -> nn.Module:
        torch.manual_seed(1)
        return Toy(make, run).eval()

    return build


def transposed(model: Any, x: Tensor) -> Tensor:
    y: Tensor = model.inner(x.transpose(0, 1)).transpose(0, 1)
    return y


def with_positions(model: Any, x: Tensor) -> Tensor:
    y: Tensor = x + model.inner(torch.arange(x.shape[1]))
    return y


def in_expert(model: Any, x: Tensor) -> Tensor:
    chosen = torch.arange(x.shape[0] * x.shape[1]).reshape(x.shape[:2]) % 4 == 0
    y = x.clone()
    y[chosen] = model.inner(x[chosen])
    return y


def torch_layer(batch_first: bool) -> Callable[[], nn.Module]:
    settings: Any = {"dropout": 0.0, "activation": torch.tanh, "batch_first": batch_first}
    return lambda: nn.TransformerEncoderLayer(8, 2, 8, **settings)


def experts() -> nn.Module:
    return nn.ModuleDict({"experts": nn.ModuleList([nn.Linear(8, 8)])})


def linear() -> nn.Module:
    return nn.Linear(8, 8)


def ids(length: int = 8) -> Tensor:
    return 3 + torch.arange(4 * length).reshape(4, length) % 37


KNOWN: dict[str, tuple[Build, list[str], str]] = {
    "Longformer": (longformer, ["query"], r"self\.query.* is in LongformerSelfAttention"),
    "LED": (led, ["value"], r"value.* is in LEDEncoderSelfAttention"),
    "XLNet": (xlnet, ["layer_1"], r"ff\.layer_1.* is in XLNetModel"),
    "FSMT": (fsmt, ["fc1"], r"fc1.* is in FSMTModel"),
    "torch": (toy(torch_layer(False), transposed), ["linear1"], "is in TransformerEncoderLayer"),
    "experts": (toy(experts, in_expert), [r"inner.experts.0"], "is an expert's"),
    "DeBERTa": (deberta, ["pos_proj"], r"pos_proj.* relative positions"),
    "DeBERTa v3": (
        lambda: zoo.deberta(share_att_key=True),
        ["query_proj"],
        r"query_proj.* relative positions",
    ),
}


def two(build: Build, targets: Sequence[str], directory: Path) -> dict[str, Path]:
    config = {"r": 2, "target_modules": [*targets]}
    return save_all(build, directory, {"a": config, "b": config})


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_layout_is_refused_before_a_forward(name: str, tmp_path: Path) -> None:
    build, targets, message = KNOWN[name]
    adapters = loaded_set(build(), two(build, targets, tmp_path))
    with pytest.raises(StateError, match=message), adapters.rows(ROWS):
        pass
    with adapters.rows([None] * 4):
        pass


@pytest.mark.parametrize("name", ["Longformer", "XLNet", "DeBERTa v3"])
def test_such_adapters_are_activated(name: str, tmp_path: Path) -> None:
    build, targets, _ = KNOWN[name]
    path = save(build, tmp_path, target_modules=targets)
    model = build()
    loaded_set(model, {"a": path}).activate("a")
    assert_close(
        output(model, input_ids=ids()), output(alone(build, path), input_ids=ids()), **MODEL
    )


@pytest.mark.parametrize("name", KNOWN)
def test_such_adapters_are_not_shared(name: str) -> None:
    build, targets, message = KNOWN[name]
    model, config = build(), LoraConfig(target_modules=targets)
    lorakit.inject(model, config)
    adapters = AdapterSet(build())
    with pytest.raises(TargetError, match=message):
        adapters.share("a", model, config)
    assert adapters.list() == []


UNKNOWN: dict[str, tuple[Build, str, tuple[int, ...]]] = {
    "sequence first": (toy(linear, transposed), "inner", (8, 4, 8)),
    "positions": (toy(lambda: nn.Embedding(16, 8), with_positions), "inner", (8,)),
    "chosen tokens": (toy(linear, in_expert), "inner", (8, 8)),
    "BERT's positions": (zoo.bert, "position_embeddings", (1, 8)),
    "GPT-2's positions": (zoo.gpt2, "wpe", (1, 8)),
}


@pytest.mark.parametrize("names", [ROWS, ["a"] * 4], ids=["mixed", "one"])
@pytest.mark.parametrize("name", UNKNOWN)
def test_an_input_that_does_not_begin_with_the_rows_is_refused(
    name: str, names: list[str | None], tmp_path: Path
) -> None:
    build, target, shape = UNKNOWN[name]
    model = build()
    adapters = loaded_set(model, two(build, [target], tmp_path))
    with adapters.rows(names), pytest.raises(StateError) as error:
        output(model, input_ids=ids())
    assert f"{target} has an input of the shape {shape} in a batch of 4 rows" in str(error.value)
    with adapters.rows([None] * 4):
        output(model, input_ids=ids())


def test_as_many_positions_as_rows_are_refused(tmp_path: Path) -> None:
    build, target, _ = UNKNOWN["positions"]
    model = build()
    adapters = loaded_set(model, two(build, [target], tmp_path))
    with adapters.rows(ROWS), pytest.raises(StateError, match=r"the shape \(4,\)"):
        output(model, input_ids=ids(4))


def straight(model: Any, x: Tensor) -> Tensor:
    y: Tensor = model.inner(x)
    return y


def flattened(model: Any, x: Tensor) -> Tensor:
    y: Tensor = model.inner(x.flatten(0, 1)).view(x.shape)
    return y


def pooled(model: Any, x: Tensor) -> Tensor:
    y: Tensor = model.inner(x.mean(1))
    return y


def windows() -> nn.Module:
    torch.manual_seed(1)
    sizes = {"image_size": 8, "patch_size": 2, "window_size": 2, "embed_dim": 8}
    config = transformers.SwinConfig(**sizes, depths=[2], num_heads=[2])
    return transformers.SwinModel(config).eval()


FITTING: dict[str, tuple[Build, list[str], dict[str, Tensor]]] = {
    "flattened": (toy(linear, flattened), ["inner"], {"input_ids": ids()}),
    "pooled": (toy(linear, pooled), ["inner"], {"input_ids": ids()}),
    "pooled, as many tokens": (toy(linear, pooled), ["inner"], {"input_ids": ids(4)}),
    "torch, rows first": (toy(torch_layer(True), straight), ["linear1"], {"input_ids": ids()}),
    "Longformer's other layers": (longformer, ["intermediate.dense"], {"input_ids": ids()}),
    "DeBERTa v3's values": (KNOWN["DeBERTa v3"][0], ["value_proj"], {"input_ids": ids()}),
    "windows": (windows, ["q_proj", "query"], {"pixel_values": torch.randn(4, 3, 8, 8)}),
    "choices": (
        lambda: zoo.bert("BertForMultipleChoice"),
        ["query"],
        {"input_ids": ids(12).view(4, 2, 6)},
    ),
}


@pytest.mark.parametrize("name", FITTING)
def test_rows_that_are_known_are_computed(name: str, tmp_path: Path) -> None:
    build, targets, batch = FITTING[name]
    targets = targets if name != "windows" else [t for t in targets if has(build(), t)]
    paths, model = two(build, targets, tmp_path), build()
    with loaded_set(model, paths).rows(ROWS):
        got = output(model, **batch)
    assert_close(got, row_by_row(build, paths, ROWS, **batch), **MODEL)


def has(model: nn.Module, leaf: str) -> bool:
    return any(name.endswith(f".{leaf}") for name, _ in model.named_modules())


def test_rows_without_adapters_are_counted(tmp_path: Path) -> None:
    model = zoo.llama()
    adapters = loaded_set(model, two(zoo.llama, ["q_proj"], tmp_path))
    for names in ([None] * 3, [None] * 8):
        with adapters.rows(names), pytest.raises(StateError, match=rf"of 4.*named {len(names)}"):
            output(model, input_ids=ids())
    with adapters.rows([None, None]):  # as two beams of each
        output(model, input_ids=ids())


def test_a_refused_forward_leaves_nothing_behind(tmp_path: Path) -> None:
    model = zoo.llama()
    adapters = loaded_set(model, two(zoo.llama, ["q_proj"], tmp_path))
    with adapters.rows(ROWS):
        with pytest.raises(StateError):
            output(model, input_ids=ids()[:3])
        expected = output(model, input_ids=ids())
        for q_proj in [m for n, m in model.named_modules() if n.endswith("q_proj")]:
            q_proj(torch.randn(8, 3, 16))  # by itself a module has no batch to be compared with
        assert_close(output(model, input_ids=ids()), expected, **MODEL)
