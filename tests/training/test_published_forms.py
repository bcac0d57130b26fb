"""Adapters in the forms that microsoft/LoRA published for GLUE, on random bases.

Their keys are those of the vendored transformers 4.4 of its example; what they compute is the base
with scale * BA added to each weight, and their own head.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

import lorakit as lora
from lorakit.checkpoint.releases import RELEASES
from lorakit.errors import MismatchError
from lorakit.inference.prediction import evaluate
from lorakit.inference.session import LoadOptions, evaluation_tables, open_session
from lorakit.tasks.glue.benchmark import GLUE
from tests import glue_samples
from tests.checkpoint.http_files import serving
from tests.tolerances import MODEL
from tests.training import tiny

FORMS = ["roberta-base", "roberta-large", "deberta-v2-xxlarge"]
HEADS = {"mnli": 3, "rte": 2, "stsb": 1}


def _config(form: str) -> Any:
    """The architecture of this form, narrow and of two layers."""
    width = 32 if form.endswith("large") else 16
    settings: dict[str, Any] = {
        "vocab_size": len(tiny.WORDS),
        "hidden_size": width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 2 * width,
        "max_position_embeddings": 48,
        "pad_token_id": 0,
    }
    if form.startswith("roberta"):
        return RobertaConfig(**settings)
    return DebertaV2Config(
        **settings,
        relative_attention=True,
        position_buckets=8,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
        conv_kernel_size=3,
        conv_act="gelu",
    )


@pytest.fixture(scope="module", params=FORMS)
def form(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def base(form, tmp_path_factory) -> Path:
    """A pretrained model without a head, as the bases of the releases are."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp(form)
    model_class = RobertaForMaskedLM if form.startswith("roberta") else DebertaV2ForMaskedLM
    model_class(_config(form)).save_pretrained(path)
    tiny.tokenizer().save_pretrained(path)
    return path


def published(form: str, labels: int) -> dict[str, torch.Tensor]:
    """Random values under the keys of a release."""
    release, config = RELEASES[f"{form}-mnli"], _config(form)
    width, r = config.hidden_size, release.r
    family = form.partition("-")[0]
    names = ("query", "value") if family == "roberta" else ("query_proj", "value_proj")
    tensors = {}
    for layer in range(config.num_hidden_layers):
        for name in names:
            key = f"{family}.encoder.layer.{layer}.attention.self.{name}"
            tensors[f"{key}.lora_A"] = torch.randn(r, width)
            tensors[f"{key}.lora_B"] = torch.randn(width, r) / r
    dense, last = release.head
    for name, height in ((dense, width), (last, labels)):
        tensors[f"{name}.weight"] = torch.randn(height, width)
        tensors[f"{name}.bias"] = torch.randn(height)
    return tensors


def by_hand(base: Path, tensors: dict[str, torch.Tensor], labels: int, scale: float) -> Any:
    """transformers' model with every update added to its weight."""
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=labels).eval()
    state = model.state_dict()
    with torch.no_grad():
        for name, value in tensors.items():
            if name.endswith(".lora_A"):
                module = name.removesuffix(".lora_A")
                state[f"{module}.weight"] += scale * tensors[f"{module}.lora_B"] @ value
            elif not name.endswith(".lora_B"):
                state[name].copy_(value)
    return model


@pytest.mark.parametrize("task", HEADS)
def test_it_computes_what_the_original_does(form, base, task, tmp_path):
    labels, alpha = HEADS[task], RELEASES[f"{form}-{task}"].lora_alpha
    tensors = published(form, labels)
    torch.save(tensors, tmp_path / "lora.bin")
    expected = by_hand(base, tensors, labels, alpha / RELEASES[f"{form}-{task}"].r)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=labels)
    report = lora.load_adapter(model, tmp_path / "lora.bin", lora_alpha=alpha)
    assert report.adapter.adapter_parameters == sum(
        value.numel() for name, value in tensors.items() if "lora_" in name
    )
    ids = torch.randint(5, len(tiny.WORDS), (4, 9))
    with torch.no_grad():
        found, wanted = (m.eval()(input_ids=ids).logits for m in (model, expected))
    torch.testing.assert_close(found, wanted, **MODEL)
    assert (wanted.abs() > 0.01).any()


@pytest.mark.parametrize("task", HEADS)
def test_it_is_evaluated_on_its_task(form, base, task, tmp_path):
    tensors = published(form, HEADS[task])
    torch.save(tensors, tmp_path / "lora.bin")
    folder = glue_samples.write_folder(tmp_path / "glue")
    alpha = RELEASES[f"{form}-{task}"].lora_alpha
    ask = LoadOptions(base=str(base), lora_alpha=alpha, task=task)
    saved = open_session(str(tmp_path / "lora.bin"), ask)
    tables = evaluation_tables(saved, str(folder))
    metrics = evaluate(saved, tables["test"], "its rows", False).metrics
    assert set(GLUE[task].metrics) <= set(metrics)


def test_a_name_of_the_catalogue_says_base_alpha_and_task(form, base, tmp_path, monkeypatch):
    torch.save(published(form, 3), tmp_path / "lora.bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = f"{form}-mnli"
    with serving((tmp_path / "lora.bin").read_bytes()) as server:
        here = replace(
            RELEASES[name], address=server.address, base=str(base), size=None, sha256=None
        )
        monkeypatch.setitem(RELEASES, name, here)
        saved = open_session(name)
    assert (saved.base, saved.spec.name) == (str(base), "mnli")
    layers = [m for m in saved.model.modules() if hasattr(m, "lora_A")]
    assert {layer.scaling for layer in layers} == {here.lora_alpha / here.r}


def test_a_file_without_a_part_of_its_head_is_refused(form, base, tmp_path):
    """The base has no head, so what the file lacks would be random."""
    tensors = published(form, 3)
    dense = RELEASES[f"{form}-mnli"].head[0]
    torch.save({k: v for k, v in tensors.items() if not k.startswith(dense)}, tmp_path / "a.bin")
    with pytest.raises(MismatchError) as caught:
        open_session(
            str(tmp_path / "a.bin"), LoadOptions(base=str(base), lora_alpha=16, task="mnli")
        )
    expected = f"{dense}.weight is newly initialized: it is missing from the base checkpoint"
    assert expected in str(caught.value)
