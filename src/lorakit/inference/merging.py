"""An adapter and its base become one plain model on disk."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from lorakit.checkpoint import read
from lorakit.errors import ConfigError, SaveError
from lorakit.locks import new_directory
from lorakit.methods import find, load
from lorakit.models.loading import load_base


@dataclass(frozen=True)
class MergedModel:
    """The report of a merge."""

    output: str
    base: str
    model_class: str
    folded_layers: int
    worst_rounding: float
    """The largest rounding error of a layer, relative to its update."""
    base_verified: bool | None
    bytes: int

    def __str__(self) -> str:
        verified = {True: "verified", False: "not the one it was trained on", None: "not verified"}
        return "\n".join(
            [
                f"{self.output}: {self.model_class}, {self.bytes / 1e6:,.1f} MB, "
                f"{self.folded_layers} layers folded",
                f"base: {self.base} ({verified[self.base_verified]})",
                f"rounding error: at most {self.worst_rounding:.2g} of a layer's update",
            ]
        )


def merge_to_directory(
    adapter: str,
    base: str | None,
    output: Path,
    *,
    lora_alpha: float | None = None,
    check_base: bool = True,
    revision: str | None = None,
) -> MergedModel:
    """Load `adapter` onto `base`, fold it, and save the model and its tokenizer to `output`.

    `output` must not exist or be empty; it appears complete or not at all. Raises what reading,
    loading and saving raise, ConfigError if the adapter does not name its base.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise SaveError(
            f"{output} exists already and is not an empty directory; pass a new directory with "
            "--output."
        )
    bundle = read(adapter, lora_alpha, revision)
    base = base or bundle.base_model
    if base is None:
        raise ConfigError(
            f"The files of {adapter} do not name the base model; pass it with --base MODEL."
        )
    with new_directory(output) as directory:
        model: Any = load_base(base, bundle=bundle)
        loaded = load(model, bundle, adapter, check_base)
        report = find(bundle.method).fold(model)
        size = _save(model, base, directory)
    return MergedModel(
        output=str(output),
        base=base,
        model_class=type(model).__name__,
        folded_layers=len(report.rounding),
        worst_rounding=report.worst_rounding,
        base_verified=loaded.base_verified,
        bytes=size,
    )


def _save(model: Any, base: str, directory: Path) -> int:
    """Write model and tokenizer; returns the bytes written."""
    try:
        model.save_pretrained(directory)
    except SafetensorError as error:
        raise SaveError(f"The merged model could not be saved: {error}") from error
    _copy_tokenizer(base, directory)
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def _copy_tokenizer(base: str, directory: Path) -> None:
    """The base's tokenizer, or processor files, where it is a directory on this machine."""
    source = Path(base)
    for pattern in ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json",
                    "*.model", "preprocessor_config.json", "processor_config.json",
                    "chat_template*"):  # fmt: skip
        for file in source.glob(pattern) if source.is_dir() else ():
            if file.is_file() and not (directory / file.name).exists():
                shutil.copy2(file, directory / file.name)
