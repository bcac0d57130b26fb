"""Run with the `adapters` library: what its adapters compute, and the files it saves.

    pip install adapters==1.3.0 torch==2.13.0 safetensors
    PYTHONPATH=. python tests/compat/adapterhub_library.py tests/compat/adapterhub.safetensors

The file has, for each model and kind of adapter, the model's output, and the gradient of each
tensor of `adapter.safetensors` under its name there; the tensors follow from their names. Its
header has the `adapter_config.json` of each, and the versions.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.compat.adapterhub_cases import (
    KINDS,
    MODELS,
    D,
    R,
    fill,
    fill_base,
    inputs,
    loss_of,
)  # fmt: skip

CONFIGS = {"houlsby": "DoubleSeqBnConfig", "pfeiffer": "SeqBnConfig"}
NAME = "reviews"


def main() -> None:
    import adapters

    tensors, header = (
        {},
        {
            "versions": json.dumps(
                {
                    package.__name__: package.__version__
                    for package in (adapters, transformers, torch)
                }
            )
        },
    )
    for model_type in MODELS:
        for kind in KINDS:
            found, config = compute(model_type, kind)
            tensors |= {f"{model_type}/{kind}/{key}": value for key, value in found.items()}
            header[f"{model_type}/{kind}"] = json.dumps(config)
    save_file(tensors, sys.argv[1], metadata=header)


def compute(model_type: str, kind: str) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """The gradients by the names of the saved tensors, and the output; the saved config."""
    import adapters

    config = transformers.AutoConfig.for_model(model_type, **MODELS[model_type])
    model = transformers.AutoModel.from_config(config).eval()
    adapters.init(model)
    model.add_adapter(NAME, config=getattr(adapters, CONFIGS[kind])(reduction_factor=D / R))
    model.train_adapter(NAME)
    model.eval()
    fill_base(model)
    own = {name: p for name, p in model.named_parameters() if f".{NAME}." in name}
    with torch.no_grad():
        for name, parameter in own.items():
            fill(name, parameter)
    output = model(**inputs(model))[0]
    loss_of(output).backward()
    with tempfile.TemporaryDirectory() as folder:
        model.save_adapter(folder, NAME, use_safetensors=True)
        saved = load_file(Path(folder, "adapter.safetensors"))
        said = json.loads(Path(folder, "adapter_config.json").read_text())
    assert saved.keys() == own.keys()
    assert all(torch.equal(saved[name], p) for name, p in own.items())
    gradients = {f"gradient/{name}": p.grad for name, p in own.items()}
    return gradients | {"output": output.detach()}, said


if __name__ == "__main__":
    main()
