"""The settings in `train --help` are those of the dataclasses, and the shell completes them."""

from __future__ import annotations

import dataclasses

import pytest

from lorakit.cli import completion
from lorakit.cli.settings import SECTIONS, settings_of
from lorakit.methods import METHODS
from lorakit.recipe.schema import Recipe, from_mapping

RECIPE = from_mapping({"base": "b", "data": {"train": "t.csv"}, "output": "o"})
NAMES = {section.name: section for section in SECTIONS}


def config_of(section: str) -> object:
    """The real settings of a section, at their defaults."""
    if not section:
        return RECIPE
    method, _, part = section.partition(".")
    config = METHODS[method].default_config() if method in METHODS else getattr(RECIPE, method)
    return getattr(config, part) if part else config


def test_every_section_with_settings_is_listed() -> None:
    fields = [f.name for f in dataclasses.fields(Recipe) if f.name != "settings"]
    sections = {name for name in fields if dataclasses.is_dataclass(getattr(RECIPE, name))}
    methods = {n for n, m in METHODS.items() if dataclasses.fields(m.config_type)}
    # what is registered from outside, by another test, has its own documentation
    own = {n for n, m in METHODS.items() if type(m).__module__.startswith("lorakit.")}
    parts = {
        f"{name}.{field.name}"
        for name in methods & own
        for field in dataclasses.fields(METHODS[name].config_type)
        if dataclasses.is_dataclass(getattr(METHODS[name].default_config(), field.name))
    }
    assert {*NAMES} - {""} == sections | (methods & own) | parts
    listed = {setting.name for setting in settings_of(NAMES[""])}
    assert listed == {*fields} - sections


@pytest.mark.parametrize("section", NAMES)
def test_settings_and_their_defaults_are_those_of_the_dataclass(section: str) -> None:
    config, listed = config_of(section), settings_of(NAMES[section])
    if section:
        assert [s.name for s in listed] == [
            f"{section}.{f.name}" for f in dataclasses.fields(config)
        ]
    for setting in listed:
        value = getattr(config, setting.name.rpartition(".")[2])
        assert setting.about
        if isinstance(value, bool):
            assert setting.default in (str(value).lower(), "")
        elif isinstance(value, int | float):
            assert float(setting.default) == value
        elif isinstance(value, str) and setting.default:
            assert setting.default == value


def test_what_none_means_is_the_default() -> None:
    found = {s.name: s.default for section in SECTIONS for s in settings_of(section)}
    assert found["data.text"] == "guessed"
    assert found["training.classifier_dropout"] == "as in the base's config"
    assert found["lora.target_modules"] == "all-linear", "the default of recipes"


def test_the_help_of_train_lists_the_settings(run, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    code, out, _ = run("train", "--help")
    text = " ".join(out.replace("│", " ").split())
    assert code == 0
    for expected in (
        "─ Settings: training ─",
        "training.adam_epsilon AdamW's epsilon. [default: 1e-08]",
        "data.text The input columns, in order. [default: guessed]",
        "decoding.num_beams Number of beams for beam search; 1 is no beam search. [default: 1]",
    ):
        assert expected in text
    assert max(map(len, out.splitlines())) <= 100


def test_the_help_begins_with_an_example(run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert "Example: lorakit train --base FacebookAI/roberta-base" in " ".join(out.split())
    assert "--install-completion" in out


def completed(run, monkeypatch, *words: str) -> list[str]:
    """What bash offers for the last word."""
    monkeypatch.setenv("_LORAKIT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(["lorakit", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    code, out, _ = run()
    assert code == 0
    return out.split()


def test_the_shell_completes_commands_recipes_and_settings(run, monkeypatch) -> None:
    assert completed(run, monkeypatch, "comp") == ["compare"]
    assert completed(run, monkeypatch, "train", "rev") == ["reviews"]
    assert completed(run, monkeypatch, "recipes", "show", "rev") == ["reviews"]
    offered = completed(run, monkeypatch, "train", "--set", "training.adam")
    assert offered == ["training.adam_epsilon="]


def test_settings_are_completed_with_what_they_are() -> None:
    assert dict(completion.settings("training.adam")) == {
        "training.adam_epsilon=": "AdamW's epsilon."
    }
