"""What is said of versions is what the tests run with."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PINNED = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if "==" in line
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = {
    requirement.name.replace("_", "-"): requirement
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for requirement in map(Requirement, group)
    if requirement.name != PROJECT["name"]
}


def to_second_number(version: str) -> str:
    return ".".join(version.split(".")[:2])


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_a_lower_bound_is_the_tested_version(name: str) -> None:
    pinned, stated = PINNED[name], str(REQUIREMENTS[name].specifier)
    assert stated in (f">={to_second_number(pinned)}", f"=={pinned}"), (
        f"pyproject.toml says {name}{stated} and constraints.txt {pinned}: nothing has run on "
        "what lies between. Raise the bound, or show in a comment that lower ones work."
    )


TESTED = {name: PINNED[name.lower()] for name in ("torch", "transformers", "PEFT", "loralib")}
TESTED["Python"] = PROJECT["requires-python"].removeprefix(">=")


@pytest.mark.parametrize("name", TESTED)
def test_the_readme_names_the_tested_version(name: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Tested on")[2]
    (stated,) = re.findall(rf"\b{name} (\d[\d.]*\d)", readme.partition("\n## ")[0])
    assert stated == TESTED[name]
