"""The adapters that microsoft/LoRA has published, by name, with what their files do not store.

loralib's files store neither alpha nor base nor task. Ranks, alphas and heads are those of the
repository's scripts, of its README files and of the paper (arXiv 2106.09685v2); `alpha_from` says
which. Sizes are those that the README files give.

The repository's README links RoBERTa base, DeBERTa and GPT-2. RoBERTa large is linked only by
examples/NLU/README.md, under an owner that is no longer there; its addresses here have the
repository's own. That file also names MNLI in every link of its DeBERTa column.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorakit.errors import ConfigError, suggest

if TYPE_CHECKING:
    from lorakit.checkpoint.download import Progress

_ROOT = "https://github.com/microsoft/LoRA/releases/download"


@dataclass(frozen=True)
class Release:
    """One published adapter."""

    name: str
    address: str
    base: str
    """Hub id of the model that it was trained on."""
    task: str
    r: int
    lora_alpha: float
    alpha_from: str
    head: tuple[str, ...]
    """Other modules that the file contains."""
    labels: int | None
    """Outputs of the head."""
    megabytes: float
    """About, in units of 2**20 bytes."""
    size: int | None = None
    """In bytes, where it is known."""
    sha256: str | None = None

    @property
    def cached(self) -> Path:
        """Where `fetch` keeps it: $XDG_CACHE_HOME/lorakit/checkpoints, or in ~/.cache."""
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        folder = Path(home).expanduser() / "lorakit" / "checkpoints"
        return folder / Path(self.address).name


def fetch(release: Release, folder: Path | None = None, progress: Progress | None = None) -> Path:
    """The file, downloaded into `folder` or the cache unless it is there; see `download`."""
    from lorakit.checkpoint.download import download

    target = folder / release.cached.name if folder is not None else release.cached
    return download(
        release.address,
        target,
        size=release.size,
        sha256=release.sha256,
        progress=progress,
    )


_LABELS = {"mnli": 3, "stsb": 1}  # the other tasks have two
_GLUE = ("mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb")
_ROBERTA_HEAD = ("classifier.dense", "classifier.out_proj")
_DEBERTA_HEAD = ("pooler.dense", "classifier")


def _roberta_base() -> Iterator[Release]:
    for task in _GLUE:
        exact = {
            "size": 3_568_073,
            "sha256": "343c48c79db5dd6190696e5fcbd547f58862a3e162b6cdc12337b41acc894116",
        }
        yield Release(
            name=f"roberta-base-{task}",
            address=f"{_ROOT}/RoBERTa-base/roberta_base_lora_{task}.bin",
            base="FacebookAI/roberta-base",
            task=task,
            r=8,
            lora_alpha=16,
            alpha_from=f"roberta_base_{task}.sh; the paper's table 9 has 8",
            head=_ROBERTA_HEAD,
            labels=_LABELS.get(task, 2),
            megabytes=3.4,
            **(exact if task == "mnli" else {}),  # type: ignore[arg-type]
        )


def _roberta_large() -> Iterator[Release]:
    for task in _GLUE:
        yield Release(
            name=f"roberta-large-{task}",
            address=f"{_ROOT}/RoBERTa-large/roberta_large_lora_{task}.bin",
            base="FacebookAI/roberta-large",
            task=task,
            r=8,
            lora_alpha=16,
            alpha_from=f"roberta_large_{task}.sh and the paper's table 9",
            head=_ROBERTA_HEAD,
            labels=_LABELS.get(task, 2),
            megabytes=7.1,
        )


def _deberta() -> Iterator[Release]:
    for task in _GLUE:
        yield Release(
            name=f"deberta-v2-xxlarge-{task}",
            address=f"{_ROOT}/DeBERTa/deberta_v2_xxlarge_lora_{task}.bin",
            base="microsoft/deberta-v2-xxlarge",
            task=task,
            r=16,
            lora_alpha=32,
            alpha_from=f"deberta_v2_xxlarge_{task}.sh; the paper's table 10 has 8, with r 8",
            head=_DEBERTA_HEAD,
            labels=_LABELS.get(task, 2),
            megabytes=27.1,
        )


def _gpt2() -> Iterator[Release]:
    for size, short, megabytes in (("medium", "md", 1.5), ("large", "lg", 2.3)):
        for task in ("e2e", "dart", "webnlg"):
            command = " and examples/NLG/README.md" if (size, task) == ("medium", "e2e") else ""
            yield Release(
                name=f"gpt2-{size}-{task}",
                address=f"{_ROOT}/GPT-2/gpt2_{short}_lora_{task}.pt",
                base=f"openai-community/gpt2-{size}",
                task=task,
                r=4,
                lora_alpha=32,
                alpha_from=f"the paper's table 11{command}",
                head=(),
                labels=None,
                megabytes=megabytes,
            )


RELEASES = {
    release.name: release
    for family in (_roberta_base, _roberta_large, _deberta, _gpt2)
    for release in family()
}


def release_of(source: str | Path) -> Release | None:
    """The release of this name, unless a file or directory here has it."""
    return None if Path(source).exists() else RELEASES.get(str(source))


def find(names: Iterable[str]) -> list[Release]:
    """The releases of these names; raises ConfigError that lists the names that there are not."""
    names = list(dict.fromkeys(names))
    unknown = [f"{name}{suggest(name, RELEASES)}" for name in names if name not in RELEASES]
    if unknown:
        raise ConfigError("Unknown checkpoints (`lorakit checkpoints list` shows all):", unknown)
    return [RELEASES[name] for name in names]
