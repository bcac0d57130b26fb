"""Two processes do together what one does alone, and write once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lorakit.models.processes import gathered, sum_gradients, total
from lorakit.recipe.yaml_file import to_yaml
from tests.tolerances import MODEL
from tests.training import tiny, tiny_gpt2


def test_one_process_alone_changes_nothing():
    parameter = torch.nn.Parameter(torch.ones(2))
    loss = torch.ones(())
    assert sum_gradients([parameter], loss) is loss
    assert parameter.grad is None
    assert total(3.0, torch.device("cpu")) == 3.0
    assert gathered([(1, loss)]) == [(1, loss)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch(recipe: Path, processes: int) -> subprocess.CompletedProcess[str]:
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    torchrun += ["--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    command = [sys.executable, *torchrun, "-m", "lorakit", "train", str(recipe), "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PATH": ""}
    # no PATH: without Java there is no METEOR, which takes half a minute
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classification", "generation", "e2e"])
def test_two_processes_equal_one(kind, tmp_path):
    """49 or 17 rows in steps of 8: in the last step of an epoch one process has nothing."""
    outputs = []
    for processes in (1, 2):
        output = tmp_path / f"run{processes}"
        lora = {"lora_dropout": 0.0}
        if kind == "classification":
            base = tiny.save_encoder(tmp_path / "base", dropout=0.0)
            data = tiny.save_reviews(tmp_path / "data.csv", rows=61)
            more = {"validation": 10}
        elif kind == "e2e":
            base = tiny_gpt2.save_gpt2(tmp_path / "base", dropout=0.0, spread=0.6)
            data = tiny_gpt2.save_e2e(tmp_path / "data.csv")
            more = {"task": "e2e", "test": 5}
        else:
            base = tiny.save_decoder(tmp_path / "base")
            data = tiny.save_completions(tmp_path / "data.csv", rows=29)
            more = {}
        recipe = tmp_path / f"{processes}.yaml"
        recipe.write_text(to_yaml(tiny.recipe(base, data, output, lora=lora, data=more)))
        done = launch(recipe, processes)
        assert done.returncode == 0, done.stderr[-3000:]
        assert json.loads(done.stdout)["output"] == str(output), "one JSON object, printed once"
        outputs.append(output)
    one, two = outputs
    adapters = [load_file(output / "adapter/adapter_model.safetensors") for output in outputs]
    tiny.assert_same(*adapters, **MODEL)
    logs = [json.loads((output / "log.json").read_text()) for output in outputs]
    assert len(logs[0]) == len(logs[1])
    for first, second in zip(*logs, strict=True):
        assert first == pytest.approx(second, rel=1e-4)
    results = [json.loads((output / "result.json").read_text()) for output in outputs]
    assert results[0]["metrics"] == pytest.approx(results[1]["metrics"], rel=1e-4)
    texts = [(output / "predictions.jsonl").read_text() for output in outputs]
    assert texts[0] == texts[1]
    names = [sorted(str(p.relative_to(o)) for p in o.rglob("*")) for o in (one, two)]
    assert [n for n in names[1] if "rng_state_" not in n] == [
        n for n in names[0] if "rng_state" not in n
    ]
