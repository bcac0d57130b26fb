"""`lorakit checkpoints` as a user meets it."""

from __future__ import annotations

import json
from dataclasses import replace

from lorakit.checkpoint.releases import RELEASES
from tests.checkpoint.http_files import serving


def test_the_list_has_a_row_for_each(run):
    code, out, _ = run("checkpoints", "list")
    assert code == 0
    header, *rows = out.splitlines()
    assert header.split() == ["name", "base", "task", "r", "alpha", "size"]
    assert [row.split()[0] for row in rows] == list(RELEASES)
    assert rows[0].split()[1:] == ["FacebookAI/roberta-base", "mnli", "8", "16", "3.4", "MB"]


def test_the_list_as_json_says_where_alpha_is_known_from(run):
    code, out, _ = run("checkpoints", "list", "--json")
    assert code == 0
    first = json.loads(out)["checkpoints"][0]
    assert first["alpha_from"] == "roberta_base_mnli.sh; the paper's table 9 has 8"
    assert first["address"] == RELEASES["roberta-base-mnli"].address
    assert first["head"] == ["classifier.dense", "classifier.out_proj"]


def test_downloads_are_named(run, tmp_path, monkeypatch):
    with serving(b"content") as server:
        name = "gpt2-medium-e2e"
        monkeypatch.setitem(RELEASES, name, replace(RELEASES[name], address=server.address))
        code, out, _ = run("checkpoints", "download", "gpt2-medium-e2e", "--output", tmp_path)
        assert (code, out) == (0, f"{tmp_path / 'file.bin'}\n")
        assert (tmp_path / "file.bin").read_bytes() == b"content"
        code, out, _ = run(
            "checkpoints", "download", "gpt2-medium-e2e", "--output", tmp_path, "--json"
        )
        assert json.loads(out) == {"files": [str(tmp_path / "file.bin")]}


def test_an_unknown_name_is_refused_before_anything_is_fetched(run, tmp_path):
    code, _, err = run("checkpoints", "download", "gpt2-medium-e2", "--output", tmp_path)
    assert code == 1
    assert "did you mean 'gpt2-medium-e2e'" in err
    assert not list(tmp_path.iterdir())
