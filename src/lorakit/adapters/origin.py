"""The file of an adapter, which is read again when it comes back from disk."""

from __future__ import annotations

from typing import NamedTuple

from lorakit.adapters.loaded import Loaded
from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.reading import decode
from lorakit.checkpoint.source import Source
from lorakit.config import LoraConfig
from lorakit.digests import tensors_digest
from lorakit.errors import FormatError


class Origin(NamedTuple):
    """Where an adapter was read, and what was found there."""

    source: Source
    lora_alpha: float | None
    check_base: bool
    config: LoraConfig
    digest: str
    """Of its tensors, and of what the header says besides."""


def origin_of(
    source: Source, lora_alpha: float | None, check_base: bool, bundle: AdapterBundle
) -> Origin:
    """That of a bundle which was just read so."""
    return Origin(source, lora_alpha, check_base, bundle.config, digest_of(bundle))


def digest_of(bundle: AdapterBundle) -> str:
    """The checksum in the file, which its content was compared with, or one of the tensors."""
    return bundle.checksum or tensors_digest(bundle.tensors)


def read_again(loaded: Loaded, origin: Origin) -> AdapterBundle:
    """The same bundle once more; raises FormatError if it is gone, or is another one."""
    again = f"unload({loaded.name!r}) and load it again"
    try:
        bundle = decode(origin.source, origin.lora_alpha)
    except FormatError as error:
        raise FormatError(
            f"The adapter {loaded.name!r} is not in memory, and {loaded.source} can no longer be "
            f"read; {again}: {error.headline}",
            error.problems,
        ) from error
    if bundle.config != origin.config or digest_of(bundle) != origin.digest:
        raise FormatError(
            f"The adapter {loaded.name!r} is not in memory, and {loaded.source} has changed since "
            f"it was loaded (its checksum differs), so its answers would be others; {again}."
        )
    return bundle
