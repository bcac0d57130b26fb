"""The small files beside a base's weights, in a directory or in a repository on the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from lorakit.errors import FormatError

TOKENIZER = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "*.model")
TEMPLATES = ("chat_template*", "added_tokens.json")
"""What else a tokenizer may have; a processor has a template, too."""


def download(base: str, patterns: Sequence[str], revision: str | None = None) -> Path:
    """The directory with these files of a repository; FormatError if the Hub cannot be reached."""
    try:
        return Path(snapshot_download(base, revision=revision, allow_patterns=list(patterns)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise FormatError(f"The files of {base} cannot be read from the Hub: {error}") from error


def small_files(base: str, patterns: Sequence[str]) -> list[Path]:
    """The files of a base that match; raises FormatError if the Hub cannot be reached."""
    directory = Path(base)
    if not directory.exists():
        directory = download(base, patterns)
    return sorted({file for pattern in patterns for file in directory.glob(pattern)})
