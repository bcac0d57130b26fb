"""Candidates of a study: what they share, what they compute, and what is refused."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import BartConfig, BertConfig, GPT2Config, ViTConfig

from lorakit import timing
from lorakit.errors import ConfigError, FormatError
from lorakit.experiments.latency import LatencyStudy, measure_latency, measurement
from lorakit.recipe.method_configs import method_configs

SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIGS = {
    "bert": BertConfig(vocab_size=11, intermediate_size=16, max_position_embeddings=16, **SIZES),
    "gpt2": GPT2Config(vocab_size=11, n_embd=8, n_layer=2, n_head=2, n_positions=16),
    "bart": BartConfig(
        vocab_size=11,
        d_model=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
    ),
}
MERGING = ("LoRA, merged", "LoRA, unmerged", "LoRA, folded")


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "CALL_SECONDS", 1e-4)


@pytest.fixture
def model_of(tmp_path: Path):
    """The directory of a config, without weights."""

    def save(name: str) -> str:
        CONFIGS[name].save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return save


def study_of(model: str, methods: tuple[str, ...] = ("lora",), **options) -> LatencyStudy:
    sizes = {"batches": (2, 1), "lengths": (4,), "seconds": 0.01, "rounds": 2}
    return LatencyStudy(model, method_configs(methods), **{**sizes, **options})


@pytest.mark.parametrize("name", CONFIGS)
def test_each_candidate_has_each_batch_in_order(name, model_of):
    said: list[str] = []
    table = measure_latency(study_of(model_of(name), ("lora", "bitfit")), said.append)
    names = ("base", "base again", *MERGING, "BitFit")
    assert [(c.batch, c.length, c.candidate) for c in table.cells] == [
        (batch, 4, name) for batch in (1, 2) for name in names
    ]
    assert said == [f"batch {batch}, length 4: 6 candidates" for batch in (1, 2)]
    assert all(cell.milliseconds.median > 0 and cell.rounds >= 2 for cell in table.cells)


def test_the_base_is_what_slowdowns_are_over(model_of):
    table = measure_latency(study_of(model_of("bert")), str)
    assert {str(c.slowdown) for c in table.cells if c.candidate == "base"} == {"1 (1 to 1)"}
    assert table.parameters["base"] == 0
    assert table.parameters["LoRA, folded"] == table.parameters["LoRA, merged"] > 0


def test_a_config_json_is_enough_of_a_model(model_of):
    file = Path(model_of("bert")) / "config.json"
    table = measure_latency(study_of(str(file)), str)
    assert (table.model_class, table.device) == ("BertModel", "cpu")


METHODS = ("houlsby", "pfeiffer", "lin", "adapter_drop", "prefix_embedding", "prefix_layer")


@pytest.mark.parametrize("method", METHODS)
def test_methods_that_add_modules_are_candidates_with_their_parameters(model_of, method):
    settings = {
        "adapter_drop": ["adapter_drop.dropped=1"],
        "prefix_embedding": ["prefix_embedding.prefix=2"],
        "prefix_layer": ["prefix_layer.prefix=2"],
    }
    configs = method_configs([method], settings.get(method, ()))
    sizes = {"batches": (1,), "lengths": (4,), "seconds": 0.01, "rounds": 1}
    table = measure_latency(LatencyStudy(model_of("bert"), configs, **sizes), str)
    assert len(table.parameters) == len(table.cells) == 3
    assert list(table.parameters.values())[2] > 0


def test_what_has_no_plain_form_is_merged_and_unmerged(model_of):
    settings = ["lora_prefix.prefix=2", "lora_prefix.lora.target_modules=[query]"]
    configs = method_configs(["lora_prefix"], settings)
    study = LatencyStudy(model_of("bert"), configs, (1,), (4,), seconds=0.01, rounds=1)
    names = list(measure_latency(study, str).parameters)
    assert [name.rpartition(", ")[2] for name in names[2:]] == ["merged", "unmerged"]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_copies_share_the_weights_of_the_base_and_compute_the_same(model_of, dtype):
    study = study_of(model_of("gpt2"), ("lora", "bitfit"), dtype=dtype)
    base = measurement._base(study, "cpu")
    before = {name: value.clone() for name, value in base.state_dict().items()}
    ids = torch.tensor([[1, 2, 3]])
    with ExitStack() as stack, torch.no_grad(), torch.autocast("cpu", enabled=dtype == "bf16"):
        candidates = measurement._adapted(study, base, stack)
        expected = base(ids).last_hidden_state
        for one in candidates:
            shared = dict(one.model.named_parameters())["wte.weight"]
            assert shared.data_ptr() == base.wte.weight.data_ptr()
            torch.testing.assert_close(one.model(ids).last_hidden_state, expected)
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())


def test_copies_keep_ties():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    copy = measurement.sharing_copy(model)
    assert copy[0].weight is copy[1].weight is not model[0].weight


def test_methods_that_do_not_fit_are_named_together(model_of):
    wrong = method_configs(["head", "lora"], ["lora.target_modules=nope"])
    study = LatencyStudy(model_of("bert"), wrong, lengths=(4,))
    with pytest.raises(ConfigError, match="These methods do not fit BertModel") as error:
        measure_latency(study, str)
    assert [problem.partition(":")[0] for problem in error.value.problems] == ["head", "lora"]


def test_lengths_beyond_the_positions_are_refused_before_anything_runs(model_of):
    said: list[str] = []
    with pytest.raises(ConfigError, match=r"length is 17, and .* has 16 positions"):
        measure_latency(study_of(model_of("bert"), lengths=(4, 17)), said.append)
    assert said == []


def test_a_method_that_lengthens_the_text_beyond_the_positions_is_named_before_anything_runs(
    model_of,
):
    said: list[str] = []
    configs = method_configs(["lora", "prefix_embedding"], ["prefix_embedding.prefix=3"])
    study = LatencyStudy(model_of("bert"), configs, lengths=(4, 16))
    with pytest.raises(ConfigError, match="do not take the longest text") as error:
        measure_latency(study, said.append)
    (problem,) = error.value.problems
    assert problem.startswith("prefix embedding: The inputs are longer than")
    assert said == []


def test_a_model_that_reads_no_tokens_is_refused(tmp_path):
    ViTConfig(image_size=4, patch_size=2, intermediate_size=8, **SIZES).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="ViTModel, which reads no tokens"):
        measure_latency(study_of(str(tmp_path)), str)


def test_a_cpu_with_a_number_is_the_cpu(model_of):
    assert measure_latency(study_of(model_of("bert"), device="cpu:0"), str).device == "cpu"


def test_no_model_and_no_device_are_errors(model_of):
    with pytest.raises(FormatError, match="No transformers model found at /nowhere/m"):
        measure_latency(study_of("/nowhere/m"), str)
    with pytest.raises(ConfigError, match="There is no device cuda:77 here"):
        measure_latency(study_of(model_of("bert"), device="cuda:77"), str)
