"""From an AdapterBundle to a file: the format is asked for, or the first that loses nothing."""

from __future__ import annotations

from pathlib import Path

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.checkpoint.formats.codec import Codec, Decoder
from lorakit.checkpoint.formats.registry import FORMATS
from lorakit.errors import ConfigError, SaveError, suggest


def write(bundle: AdapterBundle, path: str | Path, format: str | None = None) -> Path:
    """Write the bundle there; other files in a directory stay.

    `format` is a name in `FORMATS`; without it, the first that can hold the bundle: PEFT's
    directory for LoRA, lorakit's own for other methods.

    Raises ConfigError for a format that is not written, and SaveError if the format cannot hold the
    bundle or writing fails; what was there before is then untouched, unless the error says
    that the new tensors are there and only the files beside them are missing.
    """
    path = Path(path)
    codec = _first_that_holds(bundle) if format is None else _named(format)
    if problems := _problems(codec, bundle):
        raise SaveError(f"The format {codec.name} cannot hold this adapter:", problems)
    if others := [name for name, other in FORMATS.items() if _is_of(other, path, codec)]:
        raise SaveError(
            f"{path} holds an adapter in another format, {', '.join(others)}, and nobody could "
            "tell which is meant; choose another directory."
        )
    try:
        codec.write(bundle, path)
    except SaveError:
        raise
    except Exception as error:  # safetensors has errors of its own
        raise SaveError(
            f"The adapter could not be saved to {path}: {error}. Nothing there was changed."
        ) from error
    return path


def _problems(codec: Codec, bundle: AdapterBundle) -> list[str]:
    if bundle.spelling is not None and bundle.format != codec.name:
        return [
            f"its names are spelt as {bundle.format} does, which only a model can tell; load it "
            "onto one and save it from there"
        ]
    return codec.problems(bundle)


def _is_of(other: Decoder, path: Path, codec: Codec) -> bool:
    return other is not codec and not other.is_fallback and path.is_dir() and other.sniff(path)


def _writable() -> dict[str, Codec]:
    return {name: codec for name, codec in FORMATS.items() if isinstance(codec, Codec)}


def _first_that_holds(bundle: AdapterBundle) -> Codec:
    problems = []
    for codec in _writable().values():
        found = _problems(codec, bundle)
        if not found:
            return codec
        problems += [f"{codec.name}: {problem}" for problem in found]
    raise SaveError("No format can hold this adapter:", problems)


def _named(name: str) -> Codec:
    codecs = _writable()
    if name not in codecs:
        why = "is read, and not written" if name in FORMATS else "is unknown"
        raise ConfigError(
            f"The format {name!r} {why}{suggest(name, codecs)}; write one of {', '.join(codecs)}."
        )
    return codecs[name]
