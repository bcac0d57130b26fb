"""The sections of the report on checks of devices, one a result file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu import goals, result_file
from benchmarks.tables import markdown


def sections(directory: Path) -> Iterator[str]:
    """Those of the result files in this directory, in the order of their names."""
    for path in sorted(directory.glob("*.json")):
        yield from section(json.loads(path.read_text(encoding="utf-8")))


def section(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"## `gpu_check` on {device(result)['name']}"
    yield source(result)
    yield "### The goals there"
    yield markdown(list(goals.table(result["parts"])))
    yield "### Its parts"
    yield markdown(result_file.summary(result))
    for name, part in result["parts"].items():
        yield from details(name, part)


def device(result: Mapping[str, Any]) -> dict[str, Any]:
    found = result["provenance"]["hardware"]["device"]
    return {"name": found} if isinstance(found, str) else found


def source(result: Mapping[str, Any]) -> str:
    """Where the numbers come from, in a line."""
    provenance = result["provenance"]
    facts = [f"{key.replace('_', ' ')} {value}" for key, value in device(result).items()]
    packages = [f"{name} {version or 'not installed'}" for name, version in
                provenance["versions"].items()]  # fmt: skip
    return (
        f"`{provenance['command']}`{', in small' if result['small'] else ''}, "
        f"{provenance['date'][:10]}, commit {(provenance['commit'] or 'none')[:12]}"
        f"{' with changes' if provenance['uncommitted_changes'] else ''}, lorakit's source "
        f"{provenance['lorakit_sha256'][:12]}; {', '.join(facts)}; {', '.join(packages)}."
    )


def details(name: str, part: Mapping[str, Any]) -> Iterator[str]:
    """A part's rows and what it held fixed; its failures and its error."""
    if part["rows"]:
        yield f"### {name}"
        yield f"{part['title']}."
        if part.get("conditions"):
            yield "\n".join(f"- {key}: {value}" for key, value in part["conditions"].items())
        yield markdown(part["rows"])
    for title, lines in (
        ("Failed", [f"{f['test']}: {first_line(f['message'])}" for f in part.get("failures", [])]),
        ("Skipped", [f"{count} x {why}" for why, count in part.get("skips", {}).items()]),
        ("Never ended", part.get("not_ended", [])),
    ):
        if lines:
            yield f"{title}:\n\n" + "\n".join(f"- {line}" for line in lines)
    if part.get("error"):
        yield f"The last that `{name}` said:\n\n```\n{part['error']}\n```"


def first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""
