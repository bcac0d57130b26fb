"""The small files beside a base's weights, in a directory or in a repository on the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from lorakit.errors import FormatError

TOKENIZER = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "*.model")
PROCESSOR = (
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "chat_template.json",
)
"""Images and sound, and the template of a processor before transformers 5."""


def small_files(base: str, patterns: Sequence[str]) -> list[Path]:
    """The files of a base that match; raises FormatError if the Hub cannot be reached."""
    directory = Path(base)
    if not directory.exists():
        try:
            directory = Path(snapshot_download(base, allow_patterns=list(patterns)))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
            raise FormatError(
                f"The files of {base} cannot be read from the Hub: {error}"
            ) from error
    return sorted({file for pattern in patterns for file in directory.glob(pattern)})
