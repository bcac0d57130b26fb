"""Bases that are not what they seem: one with an adapter in its folder, one that is quantised."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
from transformers import AutoModelForCausalLM

from lorakit.checkpoint import read
from tests.cli.files import write_csv
from tests.training import tiny
from tests.training.printed import run_lines

TRAINING = ("training.max_steps=1", "training.check=off", "data.task=generation")
SETTINGS = [part for setting in TRAINING for part in ("--set", setting)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_csv(
        tmp_path / "data.csv", [("prompt", "completion"), *[("the film", "good")] * 20]
    )


@pytest.fixture
def both(tmp_path: Path) -> Path:
    path = tiny.save_llama(tmp_path / "base")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(path), config).save_pretrained(path)
    return path


def test_train_leaves_the_adapter_in_a_bases_folder_aside_and_says_so(run, both, data, tmp_path):
    output = tmp_path / "run"
    code, out, err = run("train", "--base", both, "--data", data, "--output", output, *SETTINGS)
    assert code == 0, err
    assert err.splitlines()[-1] == (
        f"{both} also holds an adapter (adapter_config.json); the base is loaded without it. "
        "Training starts from that adapter if a recipe names it as init_adapter."
    )
    adapted = read(output / "adapter").adapters
    assert len(adapted) == 14
    assert not [name for name in adapted if "base_layer" in name or "lora_" in name]
    assert run_lines(out)["model"]
    code, out, err = run("generate", output, "--prompt", "the", "--max-new-tokens", 4, "--json")
    assert (code, len(json.loads(out)["generated"])) == (0, 1)
    assert "also holds an adapter" in err


@pytest.mark.parametrize("command", ["train", "targets"])
def test_a_quantised_base_is_one_sentence(command, run, data, tmp_path):
    base = tiny.save_llama(tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (base / "config.json").write_text(json.dumps(config))
    (base / "model.safetensors").unlink()
    rest = ["--base", base, "--data", data, "--output", tmp_path / "run", *SETTINGS]
    code, _, err = run(command, *(rest if command == "train" else [base]))
    assert code == 1
    assert err.startswith(f"The base model {base} is quantised (bitsandbytes 4 bits)")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run" / "recipe.yaml").exists()
