"""What a file format is: a name, a way to know its files, and the way to and from an AdapterBundle.

A format is known by names and headers, never by trying to decode: a damaged file is then an error
of its own format, and not one more that "no format fits".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from lorakit.checkpoint.bundle import AdapterBundle


class Decoder(ABC):
    """A format that is read."""

    name: str
    """What `AdapterBundle.format`, `write(format=...)` and errors call it."""
    files: tuple[str, ...] = ()
    """Names by which a directory or a Hub repository of this format is known; none for a format
    of single files with names of their own."""

    is_fallback: bool = False
    """Whether it takes every file of some kind that is of no other format."""

    @abstractmethod
    def sniff(self, path: Path) -> bool:
        """Whether this file or directory is of this format, by its names and header.

        Raises FormatError if the header that would tell is damaged.
        """

    @abstractmethod
    def decode(self, path: Path, lora_alpha: float | None) -> AdapterBundle:
        """The bundle that it holds; raises FormatError that lists everything that is wrong.

        `lora_alpha` is what the caller says of it, for files that do not.
        """


class Codec(Decoder):
    """A format that is read and written."""

    def is_default_for(self, bundle: AdapterBundle) -> bool:
        """Whether such a bundle is written in this format where none is asked for.

        The first that says so is taken; where none does, lorakit's own file is.
        """
        return False

    @abstractmethod
    def problems(self, bundle: AdapterBundle) -> list[str]:
        """What of this bundle the format cannot hold; empty if `write` would lose nothing."""

    @abstractmethod
    def write(self, bundle: AdapterBundle, path: Path) -> None:
        """Write a bundle without `problems`, atomically; raises OSError and SaveError.

        Nothing is left behind or changed then, unless the SaveError says otherwise.
        """
