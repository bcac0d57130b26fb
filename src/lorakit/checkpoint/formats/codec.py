"""The interface of a file format: recognise its files, decode them, and write them.

A format is recognised by file names and headers, never by trying to decode: a corrupted file is
then an error of its own format, instead of "unknown format".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from lorakit.checkpoint.bundle import AdapterBundle


class Decoder(ABC):
    """A format that can be read."""

    name: str
    """Its name in `AdapterBundle.format`, `write(format=...)` and errors."""
    files: tuple[str, ...] = ()
    """File names by which a directory or a Hub repository of this format is recognised; none for a
    format of single files with arbitrary names."""

    is_fallback: bool = False
    """Whether it takes files that no other format recognises."""

    def for_base(self, config: Mapping[str, Any]) -> Self:
        """The format with what it has to know of a base, by the base's config; by default nothing.

        Raises ConfigError for a base that the format does not know.
        """
        return self

    @abstractmethod
    def sniff(self, path: Path) -> bool:
        """Whether this file or directory is of this format, by its names and header.

        Raises FormatError if the header is invalid.
        """

    @abstractmethod
    def decode(self, path: Path, lora_alpha: float | None) -> AdapterBundle:
        """The bundle in it; raises FormatError that lists everything that is wrong.

        `lora_alpha` is the caller's, for files that do not store it.
        """


class Codec(Decoder):
    """A format that can be read and written."""

    read_as: str | None = None
    """The format whose files it writes, where that is another one's."""
    suffixes: tuple[str, ...] = ()
    """How the name of its file ends; none for a format of directories."""
    needs_base: bool = False
    """Whether it writes only what it is made `for_base`."""

    def reader_options(self, form: AdapterBundle) -> Mapping[str, float]:
        """What has to be passed to whatever reads the file, by its name there; by default nothing.

        `form` is the bundle `in_form`.
        """
        return {}

    def is_default_for(self, bundle: AdapterBundle) -> bool:
        """Whether such a bundle is written in this format where none is asked for.

        The first that says so is taken; where none does, lorakit's own file is.
        """
        return False

    @abstractmethod
    def problems(self, bundle: AdapterBundle) -> list[str]:
        """What of this bundle the format cannot store; empty if `write` would lose nothing."""

    def in_form(self, bundle: AdapterBundle) -> AdapterBundle:
        """The same function as the format stores it, which is what reading its file gives.

        By default the bundle as it is. `bundle` has no `problems`.
        """
        return bundle

    @abstractmethod
    def write(self, bundle: AdapterBundle, path: Path) -> None:
        """Write a bundle `in_form`, atomically; raises OSError and SaveError.

        On an error nothing is changed on disk, unless the SaveError says otherwise.
        """
