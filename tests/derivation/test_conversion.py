"""Adapters from one format to another, with the tools of the formats as readers."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import AutoModel, AutoModelForCausalLM, GPT2Config, LlamaConfig

import lorakit as lora
from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.cli import main
from lorakit.derivation import conversion
from lorakit.derivation.conversion import convert
from lorakit.errors import ConfigError, FormatError, MismatchError, SaveError
from tests.tolerances import MODEL

LLAMA = LlamaConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
)
GPT2 = GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64)
IDS = torch.arange(12).reshape(2, 6)


@pytest.fixture(scope="module", params=[LLAMA, GPT2], ids=["llama", "gpt2"])
def base(request, tmp_path_factory) -> Path:
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp(request.param.model_type)
    AutoModelForCausalLM.from_config(request.param).save_pretrained(directory)
    return directory


SETTINGS: dict[str, dict[str, Any]] = {
    "llama": {"target_modules": ["q_proj", "k_proj", "down_proj"], "rank_pattern": {"k_proj": 2}},
    "gpt2": {"target_modules": ["c_attn", "mlp.c_proj"], "rank_pattern": {"c_proj": 2}},
}


def model(base: Path) -> nn.Module:
    return AutoModelForCausalLM.from_pretrained(base).eval()


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(IDS).logits


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    """Ranks and scales that differ, and rsLoRA: what readers of a few settings get wrong."""
    adapted = model(base)
    settings = SETTINGS[adapted.config.model_type]
    config = lora.LoraConfig(
        r=4,
        lora_alpha=6,
        use_rslora=True,
        alpha_pattern={"1.*": 11},
        init_lora_weights=False,
        **settings,
    )
    lora.inject(adapted, config)
    return lora.save_adapter(adapted, tmp_path / "adapter")


def with_adapter(base: Path, adapter: Path, **options: Any) -> Tensor:
    adapted = model(base)
    lora.load_adapter(adapted, adapter, **options)
    return logits(adapted)


def test_portable_is_the_same_function_for_a_reader_of_r_and_alpha_alone(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    report = convert(str(adapter), tmp_path / "portable", "portable")
    assert report.scale_in_B
    assert "the rest of the scale is in B" in str(report)
    expected = with_adapter(base, adapter)
    assert (expected - logits(model(base))).abs().max() > 0.1
    assert_close(with_adapter(base, tmp_path / "portable"), expected, **MODEL)
    theirs = peft.PeftModel.from_pretrained(model(base), tmp_path / "portable")
    assert_close(logits(theirs), expected, **MODEL)
    layers = [m for m in theirs.modules() if isinstance(m, LoraLayer)]
    assert {layer.scaling["default"] for layer in layers} == {1.0}


@pytest.mark.parametrize("format", ["peft", "portable", "vllm", "gguf", "mlx", "lorakit"])
def test_adapter_of_some_layers_is_read_back_as_one_of_these(
    base: Path, tmp_path: Path, format: str
) -> None:
    adapted = model(base)
    names = SETTINGS[adapted.config.model_type]["target_modules"]
    settings = {"target_modules": names, "layers_to_transform": [0], "init_lora_weights": False}
    lora.inject(adapted, lora.LoraConfig(r=2, **settings))
    adapter = lora.save_adapter(adapted, tmp_path / "adapter")
    target = tmp_path / ("out.gguf" if format == "gguf" else "out")
    convert(str(adapter), target, format, base=str(base))
    assert_close(with_adapter(base, target), logits(adapted), **MODEL)


@pytest.mark.parametrize("name", ["out", "out.gguf"])
def test_table_of_the_base_in_a_file_of_peft_is_left_out(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    base, target = tmp_path / "base", tmp_path / name
    AutoModelForCausalLM.from_config(LLAMA).save_pretrained(base)
    config = peft.LoraConfig(r=2, target_modules=["embed_tokens"], init_lora_weights=False)
    theirs = peft.get_peft_model(model(base), config)
    theirs.save_pretrained(tmp_path / "theirs", save_embedding_layers=True)
    assert read(tmp_path / "theirs").trained
    convert(str(tmp_path / "theirs"), target, target.suffix[1:] or "peft", base=str(base))
    assert not read(target).trained
    assert_close(with_adapter(base, target), logits(theirs), **MODEL)


def test_vllm_form_says_the_rank_to_serve_it_with(adapter: Path, tmp_path: Path) -> None:
    report = convert(str(adapter), tmp_path / "vllm", "vllm")
    assert report.reader_options == {"max_lora_rank": 8}
    assert "to be passed to whatever reads it: max_lora_rank 8" in str(report)


def test_loralib_and_back_needs_the_bases_config_alone(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    report = convert(str(adapter), tmp_path / "lora.pt", "loralib")
    expected, alpha = with_adapter(base, adapter), report.lora_alpha
    assert report.reader_options == {"lora_alpha": alpha}
    assert f"to be passed to whatever reads it: lora_alpha {alpha:g}" in str(report)
    assert_close(with_adapter(base, tmp_path / "lora.pt", lora_alpha=alpha), expected, **MODEL)
    there = str(tmp_path / "lora.pt")
    with pytest.raises(ConfigError, match="pass it with --base"):
        convert(there, tmp_path / "back", "peft", lora_alpha=alpha)
    (base / "model.safetensors").rename(base / "elsewhere")
    try:
        convert(there, tmp_path / "back", "peft", lora_alpha=alpha, base=str(base))
    finally:
        (base / "elsewhere").rename(base / "model.safetensors")
    assert_close(with_adapter(base, tmp_path / "back"), expected, **MODEL)
    assert read(tmp_path / "back").base_model == str(base)


def test_base_of_another_shape_is_refused(adapter: Path, base: Path, tmp_path: Path) -> None:
    report = convert(str(adapter), tmp_path / "lora.pt", "loralib")
    config = model(base).config
    config.update({"hidden_size": 16} if config.model_type == "llama" else {"n_embd": 16})
    config.save_pretrained(tmp_path / "other")
    with pytest.raises(MismatchError, match="size mismatch"):
        convert(
            str(tmp_path / "lora.pt"),
            tmp_path / "back",
            "peft",
            lora_alpha=report.lora_alpha,
            base=str(tmp_path / "other"),
        )
    assert not (tmp_path / "back").exists()


def test_target_that_exists_is_only_replaced_if_asked_for(adapter: Path, tmp_path: Path) -> None:
    convert(str(adapter), tmp_path / "a", "portable")
    before = (tmp_path / "a" / "adapter_config.json").read_bytes()
    with pytest.raises(SaveError, match="exists already; pass --overwrite"):
        convert(str(adapter), tmp_path / "a", "peft")
    assert (tmp_path / "a" / "adapter_config.json").read_bytes() == before
    convert(str(adapter), tmp_path / "a", "peft", overwrite=True)
    assert (tmp_path / "a" / "adapter_config.json").read_bytes() != before


def test_what_does_not_read_back_is_removed(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(bundle: AdapterBundle, path: Path, format: str, **options: Any) -> None:
        write(bundle, path, format, **options)
        file = path / "adapter_model.safetensors"
        file.write_bytes(file.read_bytes()[:-1] + b"x")

    monkeypatch.setattr(conversion, "write", failing)
    with pytest.raises(FormatError):
        convert(str(adapter), tmp_path / "in" / "new", "portable")
    assert not (tmp_path / "in").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(FormatError):
        convert(str(adapter), tmp_path / "mine", "portable", overwrite=True)
    assert os.listdir(tmp_path / "mine") == ["notes.txt"]


@pytest.mark.parametrize("place", [".", "model.safetensors"])
def test_model_is_not_replaced_by_an_adapter(
    adapter: Path, base: Path, tmp_path: Path, place: str
) -> None:
    copy = shutil.copytree(base, tmp_path / "copy")
    before = {file.name: file.read_bytes() for file in copy.iterdir()}
    format = "peft" if place == "." else "kohya"
    with pytest.raises(SaveError, match="holds the weights of a model and no adapter"):
        convert(str(adapter), copy / place, format, overwrite=True)
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == before


def test_adapter_beside_a_model_is_replaced(adapter: Path, base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "both")
    shutil.copytree(adapter, tmp_path / "both", dirs_exist_ok=True)
    convert(str(adapter), tmp_path / "both", "portable", overwrite=True)
    assert read(tmp_path / "both").config.alpha_pattern == {}


def test_peft_to_peft_is_the_same_file(adapter: Path, tmp_path: Path) -> None:
    convert(str(adapter), tmp_path / "again", "peft")
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "again" / file).read_bytes() == (adapter / file).read_bytes()


def test_command_converts_and_lists_what_a_format_cannot_hold(
    adapter: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    def run(*arguments: str) -> tuple[str, str]:
        monkeypatch.setattr("sys.argv", ["lorakit", *arguments])
        with pytest.raises(SystemExit):
            main()
        return capsys.readouterr()

    out, _ = run("convert", str(adapter), str(tmp_path / "v"), "--to", "vllm", "--json")
    assert '"max_lora_rank": 8' in out
    _, error = run("convert", str(adapter), str(tmp_path / "v"), "--to", "portabel")
    assert "'portabel' is unknown (did you mean 'portable'?)" in error


def test_renamed_adapter_loads_where_its_names_are(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    prefix = model(base).base_model_prefix
    report = convert(str(adapter), tmp_path / "bare", "peft", rename={rf"^{prefix}\.": ""})
    assert len(report.renamed) == report.adapted_modules
    assert "renamed: " in str(report)
    assert report.not_stored == ["the base's fingerprint"]
    bare = getattr(model(base), prefix)
    assert lora.load_adapter(bare, tmp_path / "bare").base_verified is None
    with torch.no_grad():
        found = bare(IDS).last_hidden_state
        whole = model(base)
        lora.load_adapter(whole, adapter)
        expected = getattr(whole, prefix)(IDS).last_hidden_state
    assert_close(found, expected, **MODEL)


def test_renamed_rows_of_tokens_load_in_peft(tmp_path: Path) -> None:
    torch.manual_seed(0)
    body = AutoModel.from_config(LLAMA).eval()
    adapted = nn.ModuleDict({"model": copy.deepcopy(body)})
    config = lora.LoraConfig(
        r=2,
        target_modules=["q_proj"],
        trainable_token_indices={"embed_tokens": [1, 3]},
        init_lora_weights=False,
    )
    lora.inject(adapted, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "embed_tokens" in name and parameter.requires_grad:
                parameter.add_(0.5)
    lora.save_adapter(adapted, tmp_path / "adapter")
    convert(str(tmp_path / "adapter"), tmp_path / "bare", "peft", rename={r"^model\.": ""})
    expected = adapted["model"](IDS).last_hidden_state
    theirs = peft.PeftModel.from_pretrained(copy.deepcopy(body), tmp_path / "bare")
    assert_close(theirs(IDS).last_hidden_state, expected, **MODEL)
    assert (body(IDS).last_hidden_state - expected).abs().max() > 0.1
    lora.load_adapter(body, tmp_path / "bare")
    assert_close(body(IDS).last_hidden_state, expected, **MODEL)
