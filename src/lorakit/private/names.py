"""A private name of another library, and what lorakit does on a release without it."""

from __future__ import annotations

import pkgutil
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lorakit.errors import MissingDependencyError


@dataclass(frozen=True)
class PrivateName:
    """One private name of another library."""

    path: str
    """Where it stands, as `pkgutil.resolve_name` takes it: `torch.nn.modules.conv:_ConvNd`."""
    since: str
    """A release that has it; it may be older."""
    why: str
    """What lorakit does with it that no documented name does, or not as fast."""
    without: str
    """What lorakit does on a release that does not have it."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return re.split("[.:]", self.path)[-1]

    def find(self, otherwise: Any = None) -> Any:
        """The object, or `otherwise` if the installed release has no such name."""
        try:
            return pkgutil.resolve_name(self.path)
        except (ImportError, AttributeError):
            return otherwise

    def missing(self) -> MissingDependencyError:
        """The error to raise where the name has no substitute."""
        full_name = self.path.replace(":", ".")
        library = full_name.partition(".")[0]
        return MissingDependencyError(
            f"{library} {_installed(library)} has no {full_name}, which lorakit needs: {self.why}. "
            f"Install the version of {library} that lorakit was tested with (constraints.txt)."
        )


def by_name(*names: PrivateName) -> dict[str, PrivateName]:
    """The names, each under the last part of its path."""
    return {name.name: name for name in names}


def _installed(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "(not installed)"
