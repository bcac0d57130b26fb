"""A file of each format that is read, and what it means that a damaged one is the same."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.checkpoint.summary import summarise
from lorakit.config import LoraConfig
from lorakit.errors import LorakitError
from lorakit.variants import LinearSite
from tests.checkpoint.test_forms import adapter
from tests.checkpoint.test_gguf import LLAMA

MODULES = {
    "model.layers.0.self_attn.q_proj": LinearSite(64, 32),
    "model.layers.1.mlp.down_proj": LinearSite(48, 64),
}
PARTS = {"unet.down.0.to_q": LinearSite(64, 32), "text_encoder.x.fc1": LinearSite(48, 64)}
SECONDS = 10
"""In which a damaged file is read or refused."""


@dataclass(frozen=True)
class Written:
    """A file with tensors, and what is read."""

    file: Path
    target: Path
    lora_alpha: float | None = None
    """For a format that does not store it."""

    def read(self) -> AdapterBundle:
        return read(self.target, self.lora_alpha)


def bundle(sites: Mapping[str, LinearSite] = MODULES) -> AdapterBundle:
    adapters = {name: adapter(site, 16) for name, site in sites.items()}
    config = LoraConfig(r=16, lora_alpha=6, target_modules=list(adapters))
    return AdapterBundle(config, adapters, base_model="org/base")


def by_lorakit(
    format: str, target: str, file: str = "", sites: Mapping[str, LinearSite] = MODULES
) -> Callable[[Path], Written]:
    """What `write` writes."""

    def save(directory: Path) -> Written:
        base = LLAMA if format in ("gguf", "mlx") else None
        path = write(bundle(sites), directory / target, format, base=base)
        return Written(path / file, path, 6 if format == "loralib" else None)

    return save


def peft_tensors(found: AdapterBundle) -> dict[str, Tensor]:
    return {f"base_model.model.{name}.weight": t for name, t in found.tensors.items()}


def peft_pickle(directory: Path) -> Written:
    """As PEFT wrote before safetensors."""
    config = {"peft_type": "LORA", "r": 16, "lora_alpha": 6, "target_modules": list(MODULES)}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    torch.save(peft_tensors(bundle()), directory / "adapter_model.bin")
    return Written(directory / "adapter_model.bin", directory)


def old_pickle(directory: Path) -> Written:
    """As torch wrote before 1.6: no zip, so that nothing in it is a checksum."""
    file = directory / "lora.pt"
    torch.save(dict(bundle().tensors), file, _use_new_zipfile_serialization=False)
    return Written(file, file, 6)


def prompt(directory: Path) -> Written:
    """PEFT's."""
    settings = {"num_virtual_tokens": 64, "token_dim": 96, "task_type": "CAUSAL_LM"}
    config = {"peft_type": "PROMPT_TUNING", "base_model_name_or_path": "org/base", **settings}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    file = directory / "adapter_model.safetensors"
    save_file({"prompt_embeddings": torch.randn(64, 96)}, file)
    return Written(file, directory)


def adapterhub(directory: Path) -> Written:
    """Pfeiffer's adapters in two layers of a BERT."""
    settings = {"mh_adapter": False, "output_adapter": True, "original_ln_before": True}
    config = {"model_type": "bert", "name": "a", "config": {**settings, "non_linearity": "relu"}}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    sizes = {"down.0.weight": (8, 64), "down.0.bias": (8,), "up.weight": (64, 8), "up.bias": (64,)}
    tensors = {
        f"encoder.layer.{n}.output.adapters.a.adapter_{leaf}": torch.randn(shape)
        for n in range(3)
        for leaf, shape in sizes.items()
    }
    torch.save(tensors, directory / "pytorch_adapter.bin")
    return Written(directory / "pytorch_adapter.bin", directory)


FILES: dict[str, Callable[[Path], Written]] = {
    "peft": by_lorakit("peft", "a", "adapter_model.safetensors"),
    "peft, .bin": peft_pickle,
    "lorakit": by_lorakit("lorakit", "a", "trained.safetensors"),
    "loralib": by_lorakit("loralib", "a.pt"),
    "loralib, old": old_pickle,
    "portable": by_lorakit("portable", "a", "adapter_model.safetensors"),
    "vllm": by_lorakit("vllm", "a", "adapter_model.safetensors"),
    "gguf": by_lorakit("gguf", "a.gguf"),
    "diffusers": by_lorakit("diffusers", "a", "pytorch_lora_weights.safetensors", PARTS),
    "kohya": by_lorakit("kohya", "a.safetensors", sites=PARTS),
    "mlx": by_lorakit("mlx", "a", "adapters.safetensors"),
    "adapterhub": adapterhub,
    "prompt_tuning": prompt,
}
"""Format, and in which form -> how one is written into a directory."""
WITHOUT_CHECKSUM = ("loralib, old", "prompt_tuning")
"""Files of other tools, which say nothing of their content; torch's zips have CRCs."""


def said(found: AdapterBundle) -> str:
    """Everything in a bundle, as text."""
    numbers = {name: tensor.tolist() for name, tensor in found.tensors.items()}
    specs = {name: (x.spec, x.site) for name, x in found.adapters.items()}
    facts = (found.base_model, found.fingerprint, found.task_type, found.format)
    return repr((numbers, specs, facts))


def outcome(written: Written, whole: str) -> str:
    """ "same", "another" or "refused" by one clear error, in bounded time."""
    found = read_or_refuse(written)
    if found is None:
        return "refused"
    return "same" if said(found) == whole else "another"


def read_or_refuse(written: Written) -> AdapterBundle | None:
    """What is read, of finite numbers; None for one clear error. Both in bounded time."""
    start, found, message = time.monotonic(), None, ""
    try:
        found = written.read()
        assert str(summarise(found))
        assert all(tensor.isfinite().all() for tensor in found.tensors.values())
    except LorakitError as error:
        found, message = None, str(error)
    assert time.monotonic() - start < SECONDS
    assert len(message) < 200_000
    assert message or found is not None
    return found


def flips(content: bytes, count: int, seed: str) -> Iterator[bytes]:
    """The content with another byte at a random place."""
    draw = random.Random(seed)
    for _ in range(count):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= draw.randrange(1, 256)
        yield bytes(flipped)


def unsigned(content: bytes) -> bytes:
    """The content as another tool would write it: under the checksum's name is nothing."""
    return content.replace(b"lorakit_checksum", b"lorakit_checksux")


def place_of(tensor: Tensor, content: bytes) -> int:
    """Where the numbers of a tensor are, as it is or transposed."""
    layouts = (t.contiguous().numpy().tobytes() for t in (tensor, tensor.t()))
    return next(place for layout in layouts if (place := content.find(layout)) > 0)
