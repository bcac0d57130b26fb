"""The lines that `train` prints name what the run was trained on."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lorakit.recipe.schema import Recipe
from lorakit.recipe.yaml_file import to_yaml
from lorakit.runs.directory import missing_adapter
from lorakit.runs.next_steps import usage
from lorakit.training import train
from tests.training import tiny
from tests.training.printed import run_lines


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """That of a finished run on a revision; transformers reads a directory whatever that is."""
    place = tmp_path_factory.mktemp("revision")
    base, data = tiny.save_decoder(place / "base"), tiny.save_completions(place / "data.csv")
    recipe = tiny.recipe(base, data, place / "run", training={"max_steps": 1})
    recipe = replace(recipe, revision="refs/pr/7")
    train(recipe, lambda text: None)
    return recipe


def test_the_revision_of_the_base_is_in_every_line_that_loads_it(recipe: Recipe) -> None:
    printed = usage(recipe.output)
    loading = f'AutoModelForCausalLM.from_pretrained("{recipe.base}", revision="refs/pr/7")'
    assert loading in printed
    assert f"vllm serve {recipe.base} --revision refs/pr/7 --" in printed
    assert run_lines(printed)["model"].name_or_path == recipe.base


def test_without_a_revision_none_is_printed(recipe: Recipe, tmp_path: Path) -> None:
    shutil.copytree(recipe.output, tmp_path / "run")
    (tmp_path / "run/recipe.yaml").write_text(to_yaml(replace(recipe, revision=None)))
    assert "revision=" not in (printed := usage(str(tmp_path / "run")))
    assert "--revision" not in printed


def test_what_is_printed_runs_for_a_place_with_spaces_and_quotes(
    recipe: Recipe, tmp_path: Path
) -> None:
    place = Path(shutil.copytree(recipe.output, tmp_path / 'my "first" run'))
    printed = usage(str(place))
    assert run_lines(printed)["model"].name_or_path == recipe.base
    (generate,) = [line for line in printed.splitlines() if "lorakit generate" in line]
    assert shlex.split(generate) == ["lorakit", "generate", str(place), "--prompt", "..."]
    served = shlex.split(printed.splitlines()[-1])
    assert served[-2:] == ["--lora-modules", f'my "first" run={place}/adapter']
    (place / "result.json").unlink()
    again = shlex.split(missing_adapter(place).partition("with: ")[2])
    assert again == ["lorakit", "train", f"{place}/recipe.yaml", "--output", str(place)]
