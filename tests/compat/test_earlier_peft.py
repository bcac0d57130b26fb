"""Earlier releases of PEFT load what lorakit saves, with the same function.

They need installations of their own, which LORAKIT_EARLIER_PEFT names: paths of Pythons that have
them, separated as in PATH. Tested with 0.11.1 and 0.13.2.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import lorakit as lora
from tests.injection import zoo
from tests.tolerances import MODEL

VARIABLE = "LORAKIT_EARLIER_PEFT"
PYTHONS = [path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]

pytestmark = pytest.mark.skipif(
    not PYTHONS,
    reason=f"{VARIABLE} is not set: paths of Pythons with earlier releases of PEFT",
)

TARGETS = ["q_proj", "v_proj"]
PATTERN = {
    "target_modules": TARGETS,
    "rank_pattern": {"layers.0.self_attn.q_proj": 3},
    "alpha_pattern": {"layers.1.self_attn.q_proj": 5, "layers.0.self_attn.v_proj": 20},
}
CASES: dict[str, tuple[nn.Module, dict[str, Any]]] = {
    "plain": (zoo.llama(), {"target_modules": TARGETS}),
    "patterns": (zoo.llama(), PATTERN),
    "rslora": (zoo.llama(), {"target_modules": TARGETS, "use_rslora": True}),
    "dora": (zoo.llama(), {"target_modules": TARGETS, "use_dora": True}),
    "layers": (zoo.llama(), {"target_modules": TARGETS, "layers_to_transform": [1]}),
    "head": (zoo.llama(), {"target_modules": TARGETS, "modules_to_save": ["lm_head"]}),
    "embedding": (zoo.llama(), {"target_modules": ["embed_tokens"]}),
    "expression": (zoo.llama(), {"target_modules": r".*\.0\..*q_proj"}),
    "conv1d": (zoo.gpt2(), {"target_modules": ["c_attn"]}),
    "slices": (
        zoo.gpt2(),
        {"target_modules": ["c_attn"], "slices": {"c_attn": [True, False, True]}},
    ),
    "classifier": (
        zoo.roberta(),
        {"target_modules": ["query"], "modules_to_save": ["classifier"], "bias": "lora_only"},
    ),
}


def save(directory: Path) -> dict[str, torch.Tensor]:
    """Save every case; returns the logits."""
    logits = {}
    for name, (model, fields) in CASES.items():
        case = directory / name
        model.save_pretrained(case / "base")
        lora.inject(model, lora.LoraConfig(r=2, init_lora_weights=False, **fields))
        lora.save_adapter(model, case / "adapter")
        (case / "case.json").write_text(json.dumps(type(model).__name__))
        with torch.no_grad():
            logits[name] = model(input_ids=torch.arange(3, 9)[None]).logits
        lora.eject(model)
    return logits


@pytest.mark.parametrize("python", PYTHONS)
def test_earlier_peft_loads_our_files(python: str, tmp_path: Path) -> None:
    expected = save(tmp_path)
    script = Path(__file__).with_name("earlier_peft.py")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    result = subprocess.run(
        [python, str(script), str(tmp_path)], capture_output=True, text=True, env=environment
    )
    assert result.returncode == 0, result.stderr
    for name, logits in expected.items():
        assert_close(torch.load(tmp_path / name / "logits.pt"), logits, **MODEL)
