"""The file of an adapter, which is read again when it comes back from disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lorakit.adapters.loaded import Loaded
from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.reading import decode
from lorakit.checkpoint.renaming import renamed_by
from lorakit.checkpoint.source import Source
from lorakit.config import LoraConfig
from lorakit.digests import tensors_digest
from lorakit.errors import FormatError


class Reading(NamedTuple):
    """How an adapter is read."""

    source: Source
    lora_alpha: float | None
    rename: Mapping[str, str] | None
    check_base: bool
    base: Mapping[str, Any] | None
    """The config of the base, for formats whose names depend on it."""

    def bundle(self) -> AdapterBundle:
        """What is in the file, with its names there."""
        return decode(self.source, self.lora_alpha, self.base)

    def renamed(self, bundle: AdapterBundle) -> AdapterBundle:
        """The same with the names that were asked for."""
        return bundle if self.rename is None else renamed_by(bundle, self.rename)


class Origin(NamedTuple):
    """How an adapter was read, and what was found there."""

    reading: Reading
    config: LoraConfig
    digest: str
    """Of its tensors, and of what the header says besides."""


def origin_of(reading: Reading, bundle: AdapterBundle) -> Origin:
    """That of a bundle which was just read so."""
    return Origin(reading, bundle.config, digest_of(bundle))


def digest_of(bundle: AdapterBundle) -> str:
    """The checksum in the file, which its content was compared with, or one of the tensors."""
    return bundle.checksum or tensors_digest(bundle.tensors)


def read_again(loaded: Loaded, origin: Origin) -> AdapterBundle:
    """The same bundle once more, renamed; raises FormatError if it is gone, or is another one."""
    again = f"unload({loaded.name!r}) and load it again"
    try:
        bundle = origin.reading.bundle()
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
    return origin.reading.renamed(bundle)
