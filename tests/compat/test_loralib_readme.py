"""Every Python snippet of loralib's README runs with its import changed, and does what it says.

The snippets are read from the installed package, so it is the published text that runs.
"""

from __future__ import annotations

import re
import textwrap
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit as lora
from tests.tolerances import EXACT, TOLERANCES

FP32 = TOLERANCES[torch.float32]
WIDTH = 8

README = str(metadata("loralib").get_payload())
SNIPPETS = [
    textwrap.dedent(code).replace("import loralib as lora", "import lorakit as lora")
    for code in re.findall(r"^ *```python\n(.*?)^ *```", README, flags=re.MULTILINE | re.DOTALL)
]
OF_SNIPPET = {
    "replace a layer": "layer = lora.Linear",
    "mark before the training loop": "for batch in dataloader",
    "save": "torch.save(lora.lora_state_dict(model), checkpoint_path)",
    "load": "ckpt_pretrained.pt",
    "qkv": "qkv_proj = lora.MergedLinear",
    "biases": "bias='lora_only'",
}


def snippet(name: str) -> str:
    """The one snippet with that piece of code."""
    (code,) = [code for code in SNIPPETS if OF_SNIPPET[name] in code]
    return code


def run(name: str, **names: Any) -> dict[str, Any]:
    """Run a snippet with these names defined; the names afterwards."""
    namespace: dict[str, Any] = {"torch": torch, "nn": nn, "lora": lora, **names}
    exec(snippet(name), namespace)
    return namespace


class BigModel(nn.Module):
    """One attention block whose q and v are adapted, as the README suggests."""

    def __init__(self, r: int = 2) -> None:
        super().__init__()
        self.table = lora.Embedding(20, WIDTH, r=r)
        enabled = [True, False, True]
        self.qkv = lora.MergedLinear(WIDTH, 3 * WIDTH, r=r, enable_lora=enabled)
        self.norm = nn.LayerNorm(WIDTH)
        self.out = lora.Linear(WIDTH, 3, r=r)

    def forward(self, ids: Tensor) -> Tensor:
        q, k, v = self.qkv(self.table(ids)).chunk(3, dim=-1)
        return self.out(self.norm(F.scaled_dot_product_attention(q, k, v)))


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of the test's own: the snippets use relative paths."""
    monkeypatch.chdir(tmp_path)


def plain() -> BigModel:
    """The same of torch's layers alone: what was pretrained."""
    model = BigModel(r=0)
    model.table = nn.Embedding(20, WIDTH)
    model.qkv = nn.Linear(WIDTH, 3 * WIDTH)
    model.out = nn.Linear(WIDTH, 3)
    return model


def trainable(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def train(model: nn.Module, steps: int = 8) -> list[float]:
    """Fit random labels; the losses."""
    ids, labels = torch.randint(20, (16, 5)), torch.randint(3, (16 * 5,))
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.02)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(ids).flatten(0, 1), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}


# --- the snippets


def test_readme_has_these_snippets_and_no_others() -> None:
    assert len(SNIPPETS) == len(OF_SNIPPET)
    assert {snippet(name) for name in OF_SNIPPET} == set(SNIPPETS)
    assert not any("loralib" in code for code in SNIPPETS)


def test_replacing_a_layer_adds_a_pair_of_rank_16() -> None:
    layer = run("replace a layer", in_features=32, out_features=24)["layer"]
    assert type(layer) is lora.Linear
    assert (layer.lora_A.shape, layer.lora_B.shape) == ((16, 32), (24, 16))
    x = torch.randn(3, 32)
    assert_close(layer(x), F.linear(x, layer.weight, layer.bias), **EXACT)


def test_marking_leaves_the_adapters_trainable() -> None:
    batches = iter([1, 2, 3])
    model = run("mark before the training loop", BigModel=BigModel, dataloader=batches)["model"]
    assert next(batches, None) is None
    assert trainable(model) == {
        f"{layer}.{factor}" for layer in ("table", "qkv", "out") for factor in ("lora_A", "lora_B")
    }


def test_training_moves_the_adapters_alone() -> None:
    model = run("mark before the training loop", BigModel=BigModel, dataloader=())["model"]
    before = snapshot(model)
    losses = train(model)
    assert losses[-1] < losses[0]
    assert changed(model, before) == trainable(model)


@pytest.mark.usefixtures("in_folder")
def test_saving_and_loading_gives_the_trained_model() -> None:
    torch.save(plain().state_dict(), "ckpt_pretrained.pt")
    model = BigModel()
    model.load_state_dict(torch.load("ckpt_pretrained.pt"), strict=False)
    lora.mark_only_lora_as_trainable(model)
    train(model)
    run("save", model=model, checkpoint_path="ckpt_lora.pt")

    fresh, ids = BigModel(), torch.randint(20, (4, 5))
    assert not torch.allclose(fresh(ids), model(ids))
    run("load", model=fresh)
    assert_close(fresh(ids), model(ids), **EXACT)
    assert set(torch.load("ckpt_lora.pt")) == trainable(model)


@pytest.mark.usefixtures("in_folder")
@pytest.mark.parametrize("evaluated", [False, True], ids=["in training", "in evaluation"])
def test_loading_works_in_either_mode(evaluated: bool) -> None:
    torch.save(plain().state_dict(), "ckpt_pretrained.pt")
    model, ids = BigModel(), torch.randint(20, (4, 5))
    run("save", model=BigModel(), checkpoint_path="ckpt_lora.pt")
    expected = BigModel()
    run("load", model=expected)
    model.train(not evaluated)
    with torch.no_grad():
        model(ids)
        run("load", model=model)
        assert_close(model(ids), expected(ids), **FP32)


def test_qkv_comes_in_parts_or_whole() -> None:
    names = run("qkv", d_model=WIDTH)
    q, k, v, qkv = (names[f"{name}_proj"] for name in ("q", "k", "v", "qkv"))
    assert [type(layer) for layer in (q, k, v)] == [lora.Linear, nn.Linear, lora.Linear]
    for layer in (q, v, qkv):
        nn.init.normal_(layer.lora_B)
    with torch.no_grad():
        qkv.weight.copy_(torch.cat([q.weight, k.weight, v.weight]))
        qkv.bias.copy_(torch.cat([q.bias, k.bias, v.bias]))
        qkv.lora_A.copy_(torch.cat([q.lora_A, v.lora_A]))
        qkv.lora_B.copy_(torch.cat([q.lora_B, v.lora_B]))
    x = torch.randn(2, 5, WIDTH)
    assert_close(qkv(x), torch.cat([q(x), k(x), v(x)], dim=-1), **FP32)


@pytest.mark.usefixtures("in_folder")
def test_biases_are_trained_and_saved_as_asked() -> None:
    model = BigModel()
    run("biases", model=model, checkpoint_path="ckpt.pt")
    factors = {name for name in model.state_dict() if "lora_" in name}
    biases = {"qkv.bias", "norm.bias", "out.bias"}
    assert trainable(model) == set(torch.load("ckpt.pt")) == factors | biases


@pytest.mark.usefixtures("in_folder")
@pytest.mark.parametrize("bias", ["none", "lora_only", "all"])
def test_each_bias_mode_trains_saves_and_loads(bias: str) -> None:
    base, ids = plain().state_dict(), torch.randint(20, (4, 5))
    model, fresh = BigModel(), BigModel()
    model.load_state_dict(base, strict=False)
    lora.mark_only_lora_as_trainable(model, bias=bias)
    before = snapshot(model)
    train(model)
    assert changed(model, before) == trainable(model)
    torch.save(lora.lora_state_dict(model, bias=bias), "ckpt.pt")
    fresh.load_state_dict(base, strict=False)
    fresh.load_state_dict(torch.load("ckpt.pt"), strict=False)
    assert_close(fresh(ids), model(ids), **EXACT)


@pytest.mark.parametrize("merge_weights", [True, False])
def test_eval_merges_unless_told_not_to(merge_weights: bool) -> None:
    layer = lora.Linear(WIDTH, WIDTH, r=2, merge_weights=merge_weights)
    nn.init.normal_(layer.lora_B)
    base, x = layer.weight.clone(), torch.randn(3, WIDTH)
    expected = layer(x).detach()
    layer.eval()
    with torch.no_grad():
        assert_close(layer(x), expected, **FP32)
    assert layer.merged is merge_weights
    layer.train()
    assert layer.merged is False
    assert_close(layer.weight, base, **EXACT)
    assert_close(layer(x), expected, **EXACT)


# --- breaking up a fused projection, with its checkpoint


def broken_up(sizes: list[int] | None = None) -> nn.Module:
    model = plain()
    assert lora.surgery.split_linear(model, "qkv", ["q", "k", "v"], sizes) == ["qkv"]
    return model


def test_breaking_up_keeps_the_function() -> None:
    model, ids = plain(), torch.randint(20, (4, 5))
    expected = model(ids)
    lora.surgery.split_linear(model, "qkv", ["q", "k", "v"])
    assert_close(model(ids), expected, **FP32)
    assert [type(model.qkv.get_submodule(name)) for name in "qkv"] == [nn.Linear] * 3


@pytest.mark.parametrize("sizes", [None, [WIDTH, WIDTH, WIDTH]])
def test_breaking_up_a_checkpoint_fits_the_model(sizes: list[int] | None) -> None:
    fused, ids = plain(), torch.randint(20, (4, 5))
    state = lora.surgery.split_linear_state_dict(fused.state_dict(), "qkv", ["q", "k", "v"], sizes)
    model = broken_up(sizes)
    model.load_state_dict(state)
    assert_close(model(ids), fused(ids), **FP32)


def test_breaking_up_constrains_each_rank_as_merged_linear_does() -> None:
    """q and v adapted after the split equal MergedLinear on the whole, and train alike."""
    whole, parts = BigModel(r=2), broken_up()
    state = {name: value for name, value in whole.state_dict().items() if "lora_" not in name}
    state = lora.surgery.split_linear_state_dict(state, "qkv", ["q", "k", "v"])
    parts.load_state_dict(state)
    config = lora.LoraConfig(r=2, lora_alpha=1, target_modules=["table", "q", "v", "out"])
    lora.inject(parts, config)
    nn.init.normal_(whole.qkv.lora_B)
    with torch.no_grad():
        for fused, split in ((whole.table, parts.table), (whole.out, parts.out)):
            split.lora_A.copy_(fused.lora_A)
            split.lora_B.copy_(fused.lora_B)
        for i, part in enumerate((parts.qkv.q, parts.qkv.v)):
            part.lora_A.copy_(whole.qkv.lora_A.chunk(2)[i])
            part.lora_B.copy_(whole.qkv.lora_B.chunk(2)[i])
    ids = torch.randint(20, (4, 5))
    for model in (whole, parts):
        model(ids).square().sum().backward()
    assert_close(parts(ids), whole(ids), **FP32)
    for name in ("lora_A", "lora_B"):
        expected = getattr(whole.qkv, name).grad.chunk(2)
        got = [getattr(part, name).grad for part in (parts.qkv.q, parts.qkv.v)]
        assert_close(got, list(expected), **FP32)
