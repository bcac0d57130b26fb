"""An adapter from one file format to another; the base's weights are never read.

What is written is read again, and has to be the adapter, or is removed: a format that would lose
something has refused it before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.checkpoint.bundle import unknown_text
from lorakit.checkpoint.formats.codec import Codec
from lorakit.checkpoint.renaming import renamed_by, renaming_text
from lorakit.checkpoint.writing import codec_named
from lorakit.derivation.derived import require_free
from lorakit.derivation.replacement import replacement
from lorakit.errors import ConfigError, SaveError
from lorakit.foreign_files import local_path
from lorakit.injection.transfer.loading import fit
from lorakit.models.loading import load_config, meta_model
from lorakit.runs.adapter_place import place_of

_FACTS = {
    "base_model": "the base's name",
    "fingerprint": "the base's fingerprint",
    "task_type": "the task",
    "num_labels": "the number of labels",
}
"""What a bundle says beside its function, and a format may have no place for."""


@dataclass(frozen=True)
class Conversion:
    """The report of a conversion."""

    output: str
    """What was written."""
    format: str
    """Its format."""
    source_format: str
    """That of the source."""
    adapted_modules: int
    """How many there are."""
    bytes: int
    """The size of the tensors' file."""
    lora_alpha: float
    """As it is in the new file."""
    scale_in_B: bool
    """Whether B holds a part of the scale, so that the format computes the same function."""
    not_stored: list[str]
    """What the file does not say of the adapter."""
    reader_options: Mapping[str, float] = field(default_factory=dict)
    """What has to be passed to whatever reads it, by its name there."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Name of a module -> its name in the source, where that is another one."""
    unknown_settings: Mapping[str, Any] = field(default_factory=dict)
    """Those in the source that lorakit does not know, and has not written."""

    def __str__(self) -> str:
        lines = [
            f"{self.output}: {self.format}, {self.bytes / 1e6:,.2f} MB, {self.adapted_modules} "
            f"modules (from {self.source_format})"
        ]
        if self.scale_in_B:
            lines.append(f"lora_alpha is now {self.lora_alpha:g}; the rest of the scale is in B")
        if self.renamed:
            lines.append(renaming_text(self.renamed))
        if self.not_stored:
            lines.append(f"not in this format: {', '.join(self.not_stored)}")
        if self.unknown_settings:
            lines.append(unknown_text(self.unknown_settings))
        if self.reader_options:
            options = ", ".join(f"{name} {value:g}" for name, value in self.reader_options.items())
            lines.append(f"to be passed to whatever reads it: {options}")
        return "\n".join(lines)


def convert(
    source: str,
    target: Path,
    format: str,
    *,
    base: str | None = None,
    lora_alpha: float | None = None,
    revision: str | None = None,
    subfolder: str | None = None,
    rename: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Write the adapter of `source`, a run, directory, file or hub id, to `target`.

    `format` is a name of `lorakit.checkpoint.FORMATS`. `base` is only read where names or types of
    layers are the base's to say, and then its config alone. `lora_alpha`, `revision`, `subfolder`
    and `rename` are as for `lorakit.load_adapter`.

    Raises FormatError for the source, ConfigError for a missing `base`, MismatchError for one that
    the adapter does not fit, SaveError for what the format cannot hold and for a `target` that
    exists without `overwrite`, holds a model, cannot be written, or is a directory that another
    process or thread writes.
    """
    codec = codec_named(format)
    place = place_of(source, revision, subfolder)
    config = None if base is None else load_config(base).to_dict()
    bundle = place.read(lora_alpha, config)
    bundle = bundle if rename is None else renamed_by(bundle, rename)
    name = base or bundle.base_model
    if _needs_base(bundle, codec):
        bundle = _on_base(bundle, _required(name, source), source)
    if codec.needs_base:
        config = load_config(_required(name, source)).to_dict()
        codec = codec.for_base(config)
    bundle = bundle if config is None else _without_base_copies(bundle, config)
    require_free(target, overwrite, config)
    with replacement(local_path(target), codec):
        write(bundle, target, format, base=config)
        return _report(bundle, codec, target)


def _needs_base(bundle: AdapterBundle, codec: Codec) -> bool:
    """Whether the source leaves to its base what the other format has to say."""
    if bundle.format == codec.name:
        return False
    return bundle.spelling is not None or any(x.site is None for x in bundle.adapters.values())


def _without_base_copies(bundle: AdapterBundle, config: Mapping[str, Any]) -> AdapterBundle:
    """The bundle without tables of the base that are as large as the base's own."""
    sizes = {part.get("vocab_size") for part in (config, config.get("text_config") or {})}
    copies = {n for n, table in bundle.base_copies.items() if len(table) in sizes}
    return replace(bundle, trained={n: t for n, t in bundle.trained.items() if n not in copies})


def _required(base: str | None, source: str) -> str:
    """The base; raises ConfigError if nothing names it."""
    if base is None:
        raise ConfigError(
            f"Names or types of layers are the base's to say here, and {source} does not name its "
            "base; pass it with --base (base=...). Its config is read, and no weights."
        )
    return base


def _on_base(bundle: AdapterBundle, base: str, source: str) -> AdapterBundle:
    """The bundle with the names and types of layers of its base, built without weights."""
    named, placement = fit(meta_model(base, bundle=bundle), bundle, source)
    adapters = {
        name: replace(placement.adapters[name], tensors=adapter.tensors)
        for name, adapter in named.adapters.items()
    }
    return replace(named, adapters=adapters, config=placement.config, base_model=base)


def _report(bundle: AdapterBundle, codec: Codec, target: Path) -> Conversion:
    expected = codec.in_form(bundle)
    options = codec.reader_options(expected)
    found = read(target, options.get("lora_alpha"))
    _require_same(found.tensors, expected.tensors, target)
    lost = [
        text
        for name, text in _FACTS.items()
        if getattr(found, name) is None and getattr(bundle, name) is not None
    ]
    return Conversion(
        output=str(target),
        format=codec.name,
        source_format=bundle.format,
        adapted_modules=len(found.adapters),
        bytes=_size(target),
        lora_alpha=expected.config.lora_alpha,
        scale_in_B=_scale_moved(bundle, expected),
        not_stored=lost,
        reader_options=options,
        renamed=bundle.renamed,
        unknown_settings=bundle.unknown_settings,
    )


def _require_same(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], target: Path
) -> None:
    """Raise SaveError if what was written does not read as what it was written from."""
    others = found.keys() ^ expected.keys()
    others |= {n for n in found.keys() & expected if not torch.equal(found[n], expected[n])}
    if others:
        raise SaveError(
            f"{target} was written and does not read back as the adapter, so the disk or another "
            "process has changed it; it was removed:",
            sorted(others),
        )


def _scale_moved(bundle: AdapterBundle, form: AdapterBundle) -> bool:
    return any(
        form.adapters[name].spec.scaling != adapter.spec.scaling
        for name, adapter in bundle.adapters.items()
    )


def _size(target: Path) -> int:
    files = target.glob("*.safetensors") if target.is_dir() else [target]
    return sum(file.stat().st_size for file in files)
