"""Find an adapter: a path, the name of a release, or a repository on the Hub."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from lorakit.checkpoint.releases import RELEASES, fetch, release_of
from lorakit.errors import ConfigError, FormatError, MissingDependencyError, suggest
from lorakit.foreign_files import local_path

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Source:
    """A local file or directory, and what is known about it besides its content."""

    path: Path
    base_model: str | None = None
    lora_alpha: float | None = None


def locate(
    path: str | Path,
    revision: str | None,
    hub_files: Iterable[str],
    subfolder: str | None = None,
) -> Source:
    """The local path, downloaded if it has to be; of a Hub repository only `hub_files`.

    `subfolder` is where in a directory or a repository they are.

    Raises FormatError if there is no such adapter, MissingDependencyError for a Hub id without
    huggingface_hub, ConfigError for a `revision` of something that is not on the Hub, and for a
    `subfolder` that is none.
    """
    if subfolder is not None:
        _require_within(subfolder)
        source = locate(path, revision, (f"{subfolder}/{name}" for name in hub_files))
        if not (source.path / subfolder).is_dir():
            raise FormatError(f"{path} has no directory {subfolder}.")
        return replace(source, path=source.path / subfolder)
    local = local_path(path)
    release = release_of(path)
    if revision is not None and (local.exists() or release is not None):
        where = "a local path" if release is None else "a release of microsoft/LoRA"
        raise ConfigError(
            f"revision={revision!r} only applies to a Hub repository, but {path} is {where}."
        )
    if local.exists():
        return Source(local)
    if release is not None:
        return Source(fetch(release), release.base, release.lora_alpha)
    if _HUB_ID.fullmatch(str(path)):
        return Source(_download(str(path), revision, hub_files))
    near = suggest(str(path), RELEASES)
    raise FormatError(f"No adapter found at {path}: no such file or directory{near}.")


def _require_within(subfolder: str) -> None:
    """Raise ConfigError for a subfolder that leads out of its directory."""
    parts = PurePosixPath(subfolder).parts
    if not parts or ".." in parts or PurePosixPath(subfolder).is_absolute():
        raise ConfigError(f"subfolder={subfolder!r} is no directory within another one.")


def _download(hub_id: str, revision: str | None, files: Iterable[str]) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingDependencyError(
            f"{hub_id} is not a local path, and loading it from the Hub needs huggingface_hub: "
            "pip install 'lorakit[hub]'"
        ) from error
    try:
        return Path(
            snapshot_download(hub_id, revision=revision, allow_patterns=list(dict.fromkeys(files)))
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise FormatError(
            f"{hub_id} is not a local path, and could not be downloaded from the Hub: {error}"
        ) from error
