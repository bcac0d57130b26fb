"""From a path or Hub id to an AdapterBundle; the format is recognised, never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorakit.checkpoint.bundle import AdapterBundle, not_finite
from lorakit.checkpoint.checksum import checked_beside
from lorakit.checkpoint.formats.registry import FORMATS, format_of
from lorakit.checkpoint.source import Source, locate
from lorakit.errors import FormatError


def read(
    path: str | Path,
    lora_alpha: float | None = None,
    revision: str | None = None,
    *,
    subfolder: str | None = None,
    base: Mapping[str, Any] | None = None,
) -> AdapterBundle:
    """Read `path`: a file or directory of a format in `FORMATS`, a hub id or a release.

    A release is a name in `releases.RELEASES`; it is downloaded when it is first read, and its base
    and alpha are known. Otherwise `lora_alpha` is required where the file does not store it.
    `subfolder` is where in a directory or a repository the adapter is. `base` is the config of the
    base, for files in whose format names or numbers depend on it (GGUF's, unless lorakit wrote
    them). Pickles are loaded with `weights_only=True`, so no code in them runs.

    Raises FormatError that says what is wrong with the file, MissingAlphaError for a missing
    `lora_alpha`, MissingDependencyError for a hub id without huggingface_hub, ConfigError for a
    `revision` of a local path.
    """
    return decode(find(path, revision, subfolder), lora_alpha, base)


def find(path: str | Path, revision: str | None = None, subfolder: str | None = None) -> Source:
    """What `read` reads, downloaded if it has to be; raises as that does."""
    names = (name for codec in FORMATS.values() for name in codec.files)
    return locate(path, revision, names, subfolder)


def decode(
    source: Source, lora_alpha: float | None = None, base: Mapping[str, Any] | None = None
) -> AdapterBundle:
    """The bundle in the local files of a source; raises FormatError and MissingAlphaError."""
    alpha = source.lora_alpha if lora_alpha is None else lora_alpha
    codec = format_of(source.path)
    codec = codec if base is None else codec.for_base(base)
    with checked_beside():
        bundle = codec.decode(source.path, alpha)
    if not bundle.tensors:
        raise FormatError(f"{source.path} cannot be loaded: it contains no tensors.")
    if broken := not_finite(bundle):
        raise FormatError(f"{source.path} contains NaN or infinite values:", broken)
    return bundle if source.base_model is None else replace(bundle, base_model=source.base_model)
