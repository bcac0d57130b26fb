"""Completions of an interrupted generation, kept line by line beside the output.

The file's name has a digest of the prompts, the generation settings and the model, so completions
of others are not used, and two commands that write to one place do not mix theirs.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from lorakit.digests import SHA256, tensors_digest, values_digest
from lorakit.errors import SaveError


class PartialOutputs:
    """A file of completions by the index of their prompt; each process appends to its own."""

    def __init__(self, output: Path, about: Mapping[str, Any], process: int = 0) -> None:
        digest = values_digest([about]).removeprefix(SHA256)[:16]
        self.file = output.with_name(f"{_prefix(output)}{process}-{digest}")

    def read(self) -> dict[int, str]:
        """The completions in the file, if they are of the same prompts, settings and model.

        A line that was not written to its end, or is damaged, ends them.
        """
        found: dict[int, str] = {}
        if not self.file.is_file():
            return found
        lines = self.file.read_bytes().split(b"\n")
        with suppress(ValueError, AttributeError):
            for line in lines[:-1]:
                found |= {int(n): str(text) for n, text in json.loads(line).items()}
        return found

    def start(self, texts: Mapping[int, str]) -> None:
        """Begin the file, with the completions that exist already."""
        self._write("w", _line(texts) if texts else "")

    def add(self, texts: Mapping[int, str]) -> None:
        """One more batch."""
        self._write("a", _line(texts))

    def _write(self, mode: str, text: str) -> None:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise SaveError(f"{self.file} cannot be written: {error}") from error


def remove_partial(output: Path) -> None:
    """Delete the partial outputs of all processes; the output is complete."""
    for file in output.parent.glob(f"{glob.escape(_prefix(output))}*"):
        file.unlink(missing_ok=True)


def _prefix(output: Path) -> str:
    return f".{output.name}.partial-"


def weights_digest(model: nn.Module) -> str:
    """The digest of the trainable parameters, or of all of them where none is trainable."""
    named = dict(model.named_parameters())
    trained = {name: tensor for name, tensor in named.items() if tensor.requires_grad}
    return tensors_digest(trained or named)


def _line(texts: Mapping[int, str]) -> str:
    return json.dumps(texts, ensure_ascii=False) + "\n"
