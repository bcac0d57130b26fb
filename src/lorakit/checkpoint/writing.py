"""From an AdapterBundle to a file, in the given format or in its default one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorakit.checkpoint.bundle import AdapterBundle, not_finite
from lorakit.checkpoint.formats.codec import Codec, Decoder
from lorakit.checkpoint.formats.registry import FORMATS, NATIVE
from lorakit.errors import ConfigError, FormatError, SaveError, suggest
from lorakit.foreign_files import local_path
from lorakit.layer_groups import group_sentences
from lorakit.variants import ParameterSite


def write(
    bundle: AdapterBundle,
    path: str | Path,
    format: str | None = None,
    *,
    base: Mapping[str, Any] | None = None,
) -> Path:
    """Write `bundle` to `path`; other files in a directory are kept.

    `format` is a name in `FORMATS`; by default, PEFT's directory is written for LoRA and the other
    variants that PEFT supports, and lorakit's own file for everything else. `base` is the config of
    the base, for a format with its names (GGUF). The fingerprint of an adapter whose modules were
    renamed is left out, since it holds their names.

    Raises ConfigError for a format that cannot be written, and SaveError if the format cannot store
    the bundle, a value is NaN or infinite or becomes so or 0 in the format, another process or
    thread is saving there, or writing fails; existing files are then unchanged, unless the error
    says that the new tensors are in place and only the other files could not be replaced.
    """
    try:
        path = local_path(path)
    except FormatError as error:
        raise SaveError(f"The adapter could not be saved: {error}") from error
    codec = default_codec(bundle) if format is None else codec_named(format)
    codec = codec if base is None else codec.for_base(base)
    if problems := _problems(codec, bundle):
        headline = f"This adapter cannot be saved in the format {codec.name}:"
        raise SaveError(headline, group_sentences(problems))
    if codec.suffixes and (path.suffix not in codec.suffixes or path.is_dir()):
        raise SaveError(
            f"The format {codec.name} is one file, whose name ends in "
            f"{' or '.join(codec.suffixes)}; {path} is none."
        )
    if not codec.suffixes and path.is_file():
        raise SaveError(f"The format {codec.name} is a directory; {path} is a file.")
    if broken := not_finite(bundle):
        raise SaveError("This adapter contains NaN or infinite values, so it is not saved:", broken)
    if others := [name for name, other in FORMATS.items() if _is_of(other, path, codec)]:
        raise SaveError(
            f"{path} already contains an adapter in another format ({', '.join(others)}), so "
            "loading it would be ambiguous; choose another directory."
        )
    if bundle.renamed:  # the fingerprint is of weights under the names before
        bundle = replace(bundle, fingerprint=None, renamed={})
    try:
        form = codec.in_form(bundle)
        if lost := [*not_finite(form), *_vanished(bundle, form)]:
            raise SaveError(
                f"The format {codec.name} stores this adapter in other numbers, which leave the "
                "range of their type; a format that stores each scale (lorakit) holds it:",
                lost,
            )
        codec.write(form, path)
    except SaveError:
        raise
    except Exception as error:  # safetensors' errors are no OSError
        raise SaveError(
            f"The adapter could not be saved to {path}: {error}. Nothing there was changed."
        ) from error
    return path


def codec_named(name: str) -> Codec:
    """The format of this name; raises ConfigError if there is none that can be written."""
    codecs = _writable()
    if name not in codecs:
        why = "can be loaded but not saved" if name in FORMATS else "is unknown"
        raise ConfigError(
            f"The format {name!r} {why}{suggest(name, codecs)}; choose one of {', '.join(codecs)}."
        )
    return codecs[name]


def _problems(codec: Codec, bundle: AdapterBundle) -> list[str]:
    if bundle.spelling is not None and bundle.format != codec.name:
        return [
            f"its module names are those of the format {bundle.format}, and converting them takes "
            "the model; load it onto one and save it from there"
        ]
    matrices = {
        name
        for name, adapter in bundle.adapters.items()
        if isinstance(adapter.site, ParameterSite) and not adapter.site.experts
    }
    return [
        f"{problem}; where that is a linear layer, train it by target_modules instead"
        if problem.partition(" ")[0] in matrices
        else problem
        for problem in codec.problems(bundle)
    ]


def _vanished(bundle: AdapterBundle, form: AdapterBundle) -> list[str]:
    """How many values of each tensor are 0 in the form alone."""
    before = bundle.tensors
    lost = {
        name: int(before[name].count_nonzero()) - int(tensor.count_nonzero())
        for name, tensor in form.tensors.items()
        if tensor is not before[name]
    }
    return [f"{name}: {count} values become 0" for name, count in lost.items() if count > 0]


def _is_of(other: Decoder, path: Path, codec: Codec) -> bool:
    is_own = other.name in (codec.name, codec.read_as)
    return not is_own and not other.is_fallback and path.is_dir() and other.sniff(path)


def _writable() -> dict[str, Codec]:
    return {name: codec for name, codec in FORMATS.items() if isinstance(codec, Codec)}


def default_codec(bundle: AdapterBundle) -> Codec:
    """The format in which this bundle is written where none is named."""
    chosen = (codec for codec in _writable().values() if codec.is_default_for(bundle))
    return next(chosen, NATIVE)
