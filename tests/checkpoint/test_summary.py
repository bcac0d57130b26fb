"""What `lorakit inspect` says of the file of each method."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lorakit as lora
from lorakit.checkpoint import AdapterBundle, read
from lorakit.checkpoint.summary import Summary, summarise
from lorakit.methods import METHODS
from lorakit.variants import LinearSite
from tests.checkpoint.test_forms import DORA, adapter
from tests.methods.bottlenecks import HEAD, bert

LORA = {"r": 2, "target_modules": ["query"]}
SETTINGS = {
    "lora": LORA,
    "last_layers": {"count": 1},
    "adapter_drop": {"bottleneck": 3, "dropped": 1},
    "prefix_embedding": {"prefix": 3},
    "prefix_layer": {"prefix": 3},
    "lora_prefix": {"prefix": 3, "infix": 1, "lora": LORA},
}


def summary_of(name: str, path: Path) -> tuple[Summary, int]:
    """Of a file of this method, and how many parameters the method trains, heads apart."""
    model, method = bert(), METHODS[name]
    report = method.apply(model, method.config_type(**SETTINGS.get(name, {})), HEAD)
    lora.save_adapter(model, path)
    return summarise(read(path)), report.adapter_parameters


def rows(summary: Summary) -> dict[str, str]:
    """The lines before the table of layers."""
    lines = str(summary).partition("\n\n")[0].splitlines()
    return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in lines)


@pytest.mark.parametrize("name", METHODS)
def test_each_method_is_named_with_its_parameters_heads_apart(name, tmp_path):
    summary, expected = summary_of(name, tmp_path)
    found = rows(summary)
    assert summary.method == name
    assert found.get("method", "lora") == name
    parts = found["parameters"].split(", ")
    own = [part for part in parts if not part.endswith("trained in full")]
    assert sum(int(part.split()[0].replace(",", "")) for part in own) == expected
    if name != "full":  # whose head is in everything
        assert parts[-1] == "34 trained in full"


def test_both_parts_of_lora_with_a_prefix_are_shown(tmp_path):
    summary, _ = summary_of("lora_prefix", tmp_path)
    found = rows(summary)
    assert found["rank, alpha"] == "2, 8"
    assert found["targets"] == "query"
    assert found["modules"] == "3 of rank 2"
    assert found["parameters"] == "192 in the adapter, 64 in 1 tensor, 34 trained in full"
    assert found["settings"] == (
        "infix=1, modules_to_save=['classifier'], prefix=3, where='embedding'"
    )
    assert found["trained"].startswith("bert.embeddings.word_embeddings.prefix.weight")
    assert (summary.r, summary.lora_alpha, summary.target_modules) == (2, 8, ["query"])
    assert summary.method_config["lora"]["lora_dropout"] == 0, "the value leaves nothing out"


def test_modules_that_lora_beside_a_prefix_saves_are_trained_in_full(tmp_path):
    model, method = bert(), METHODS["lora_prefix"]
    settings = {"prefix": 1, "lora": {**LORA, "modules_to_save": ["classifier"]}}
    method.apply(model, method.config_type(**settings))
    lora.save_adapter(model, tmp_path)
    said = rows(summarise(read(tmp_path)))["parameters"]
    assert said == "192 in the adapter, 16 in 1 tensor, 34 trained in full"


def test_settings_that_are_not_set_are_left_out(tmp_path):
    summary, _ = summary_of("prefix_layer", tmp_path)
    assert rows(summary)["settings"] == "infix=0, modules_to_save=['classifier'], prefix=3"


@pytest.mark.parametrize(("name", "whose"), [("lora", "adapted"), ("lora_prefix", "frozen")])
def test_the_weights_that_were_compared_are_named(name, whose, tmp_path):
    summary_of(name, tmp_path)
    summary = summarise(read(tmp_path), "base", True)
    assert rows(summary)["fits"].startswith(f"base (the {whose} weights are those")


def test_layers_are_shown_by_kind_with_rank_scale_and_norm(tmp_path):
    summary, _ = summary_of("lora", tmp_path)
    bundle = read(tmp_path)
    assert [layer.name for layer in summary.layers] == list(bundle.adapters)
    assert [layer.norm for layer in summary.layers] == [0.0, 0.0, 0.0]
    table = str(summary).partition("\n\n")[2].splitlines()
    assert re.split(r"\s{2,}", table[0]) == [
        "layers", "modules", "rank", "scale", "norm of the update",
    ]  # fmt: skip
    kind = next(iter(bundle.adapters)).replace(".0.", ".*.")
    assert table[1].split() == [kind, "3", "2", "4", "0"]


def test_norm_of_an_update_is_its_frobenius_norm_or_unknown(tmp_path):
    pairs = {"a.0.q": adapter(LinearSite(4, 3)), "a.1.q": DORA}
    found = summarise(AdapterBundle(lora.LoraConfig(target_modules=["q"]), pairs)).layers
    assert found[0].norm == pytest.approx(float(pairs["a.0.q"].delta().norm()), rel=1e-5)
    assert found[1].norm is None
