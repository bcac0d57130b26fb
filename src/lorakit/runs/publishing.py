"""A finished run on the Hub: its adapter and what it takes to use it, with a model card.

What goes up is first a folder, which can be looked at instead: the adapter with the hub id of its
base, tokenizer, task and stop tokens. No checkpoints, no optimizer states, no local paths.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from httpx2 import HTTPError  # what huggingface_hub's client raises
from huggingface_hub import HfApi, get_token

from lorakit.checkpoint import read
from lorakit.checkpoint.base_name import copy_with_base
from lorakit.errors import ConfigError, FormatError, SaveError, StateError
from lorakit.files import atomic_write_text
from lorakit.foreign_files import local_path, read_json
from lorakit.recipe.schema import from_mapping
from lorakit.recipe.yaml_file import load_recipe
from lorakit.runs.directory import ADAPTER, BESIDE, RECIPE, missing_adapter, read_result
from lorakit.runs.model_card import SharedRun, model_card
from lorakit.tables.reading import SUFFIXES
from lorakit.tables.text_files import kind_of
from lorakit.tasks.task_file import TASK_FILE, load_task
from lorakit.text import size_text, to_json

CARD = "README.md"
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_NAMES = ("name_or_path", "_name_or_path")
"""Where a tokenizer's config may say from which directory it was loaded."""
_OWN = ".gitattributes"  # the Hub's, in every repository


@dataclass(frozen=True)
class Published:
    """The files of a shared run, and where they are."""

    repo: str
    files: dict[str, int]
    """Their sizes in bytes."""
    place: str
    """The address of the commit, or the folder that was written instead."""
    base_model: str | None

    def __str__(self) -> str:
        lines = [f"{name}  {size_text(size)}" for name, size in self.files.items()]
        if self.base_model is None:
            lines.append(
                "The card names no base_model, since the base is a local directory; name its id on "
                "the Hub with --base."
            )
        return "\n".join([*lines, "The card has no licence; add yours.", self.place])


def open_run(run: str | Path, repo: str, base: str | None = None) -> SharedRun:
    """A finished run as it is to be shared; `base` is its base's id on the Hub, if it was local.

    Raises ConfigError for a repo that is no USER/NAME or a base that is no hub id, StateError for
    a run that is not finished, FormatError for a directory that is none.
    """
    directory = local_path(run)
    problems = []
    if not _REPO.fullmatch(repo):
        problems.append(f"the repository is {repo!r}; it must be USER/NAME or ORGANISATION/NAME")
    if base is not None and (not _HUB_ID.fullmatch(base) or local_path(base).exists()):
        problems.append(f"--base is {base!r}; it must be the id of a model on the Hub")
    if problems:
        raise ConfigError(f"{directory} cannot be shared:", problems)
    if not (directory / RECIPE).is_file():
        raise FormatError(f"{directory} is not a run directory: it has no {RECIPE}.")
    recipe, result = from_mapping(load_recipe(directory / RECIPE)), read_result(directory, _silent)
    if result is None or not (directory / ADAPTER).is_dir():
        raise StateError(missing_adapter(directory))
    task = load_task(directory / ADAPTER)
    if task is None:
        raise FormatError(f"{directory / ADAPTER} has no {TASK_FILE}; train the run again.")
    named = base or (recipe.base if _is_hub_id(recipe.base) else None)
    bundle = read(directory / ADAPTER)
    data = [source.partition(":")[0] for source in recipe.data.sources]
    on_hub = tuple(name for name in data if _is_hub_id(name))
    files = tuple(Path(name).name for name in data if name not in on_hub)
    return SharedRun(directory, recipe, result, bundle, task, repo, named, on_hub, files)


def write_folder(run: SharedRun, folder: Path) -> dict[str, int]:
    """Write what is shared into a new or empty folder; the files and their sizes.

    Raises SaveError if the folder is not empty, cannot be written, or would tell a local path.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise SaveError(f"{folder} is not empty; choose another folder.")
        copy_with_base(run.directory / ADAPTER, folder, run.base)
        for pattern in BESIDE:
            for file in sorted((run.directory / ADAPTER).glob(pattern)):
                shutil.copyfile(file, folder / file.name)
        _forget_names(folder / "tokenizer_config.json")
        atomic_write_text(folder / CARD, model_card(run))
    except OSError as error:
        if isinstance(error, SaveError):
            raise
        raise SaveError(f"{folder} cannot be written: {error}") from error
    _require_no_paths(run, folder)
    return {file.name: file.stat().st_size for file in sorted(folder.iterdir())}


def upload(
    run: SharedRun,
    folder: Path,
    api: HfApi,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
) -> str:
    """Upload the folder to the run's repository, which is made; the address of the commit.

    Raises StateError if the repository holds other files or is public and should be private,
    SaveError for what the Hub refuses.
    """
    names = {file.name for file in folder.iterdir()}
    with _told(run.repo):
        if api.repo_exists(run.repo):
            _require_fit(api, run.repo, names, private, revision)
        api.create_repo(run.repo, private=private or None, exist_ok=True)
        if revision is not None:
            api.create_branch(run.repo, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=run.repo,
            folder_path=folder,
            revision=revision,
            commit_message=message or f"{run.recipe.method} of {run.base_name} by lorakit",
        )
    return str(commit.commit_url)


def hub_api() -> HfApi:
    """The Hub's client; raises ConfigError if nobody is logged in."""
    if get_token() is None:
        raise ConfigError(
            "Nobody is logged in to the Hub; run `hf auth login`, or set HF_TOKEN to a token that "
            "may write (https://huggingface.co/settings/tokens)."
        )
    return HfApi()


def _require_fit(
    api: HfApi, repo: str, names: set[str], private: bool, revision: str | None
) -> None:
    """Raise StateError if the repository cannot take these files as its whole content."""
    if private and not api.model_info(repo).private:
        raise StateError(f"{repo} exists and is public; make it private on the Hub first.")
    branches = {branch.name for branch in api.list_repo_refs(repo).branches}
    there = api.list_repo_files(repo, revision=revision if revision in branches else None)
    others = sorted(set(there) - names - {_OWN})
    if others:
        raise StateError(
            f"{repo} exists and holds files that do not belong to this run; delete them there, or "
            "choose another repository:",
            others,
        )


@contextmanager
def _told(repo: str) -> Iterator[None]:
    """What the Hub or the network refuses, as a SaveError."""
    try:
        yield
    except StateError:
        raise
    except (HTTPError, OSError, ValueError) as error:
        raise SaveError(f"The run could not be uploaded to {repo}: {error}") from error


def _is_hub_id(name: str) -> bool:
    path = local_path(name)
    is_file = path.exists() or kind_of(path) in SUFFIXES  # which may be gone since
    return _HUB_ID.fullmatch(name) is not None and not is_file


def _forget_names(config: Path) -> None:
    if not config.is_file():
        return
    settings = read_json(config)
    kept = {name: value for name, value in settings.items() if name not in _NAMES}
    if kept != settings:
        atomic_write_text(config, to_json(kept, indent=2, ensure_ascii=False) + "\n")


def _require_no_paths(run: SharedRun, folder: Path) -> None:
    """Raise SaveError that lists the files in which a local path of the run stands."""
    local = [run.recipe.base, *run.recipe.data.sources, str(run.directory.absolute())]
    paths = [path for path in local if Path(path).is_absolute()]
    written = {path: json.dumps(path)[1:-1].encode() for path in paths}
    found = [
        f"{file.name}: {path}"
        for file in sorted(folder.iterdir())
        for path, text in written.items()
        if text in file.read_bytes()
    ]
    if found:
        raise SaveError("These files tell a local path, so they are not shared:", found)


def _silent(text: str) -> None:
    """A result that cannot be read is none."""
