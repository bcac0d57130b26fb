"""Recipes as YAML, by YAML's newer rules: `2e-3` is a number and `off` is a word.

PyYAML follows YAML 1.1, in which `check: off` is false and `2e-3` is text. The loader and the
dumper here know YAML 1.2's booleans and floats instead, refuse a key that occurs twice, and
agree with each other, so a recipe that was written reads back equal.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lorakit.errors import ConfigError, FormatError
from lorakit.foreign_files import read_bytes
from lorakit.methods.registry import find
from lorakit.recipe.dotted_names import merged
from lorakit.recipe.list_settings import takes_list
from lorakit.recipe.schema import Recipe, as_mapping
from lorakit.recipe.task_settings import TASK, settings_of, shared, with_task_name

_LARGEST_FILE = 100_000
"""Bytes: ten times the largest recipe that is shipped, and a second of PyYAML's time."""
_DEEPEST = 20
_LONGEST_NUMBER = 100

_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_WHOLE = re.compile(r"^[-+]?[0-9]+$")
_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """What an unquoted word means, by its first letter; the first pattern that fits counts."""
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, pattern, letters in (
        ("bool", _BOOL, "tTfF"),
        ("int", _WHOLE, "-+0123456789"),
        ("float", _FLOAT, "-+0123456789."),
        ("null", _NULL, ["~", "n", "N", ""]),
    ):
        for letter in letters:
            table.setdefault(letter, []).append((f"tag:yaml.org,2002:{tag}", pattern))
    return table


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    yaml_implicit_resolvers = _resolvers()

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """What is in a stranger's file and in no recipe is refused before it is built."""
        event, wrong = self.peek_event(), None
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            wrong = "anchors and aliases are not supported"
        elif event.tag not in (None, "!"):
            wrong = f"the tag {event.tag} is not supported"
        elif self.depth == _DEEPEST:
            wrong = f"it is nested more than {_DEEPEST} deep"
        if wrong is not None:
            raise yaml.YAMLError(f"{wrong}, {_near(event)}")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"a key has to be a name, {_near(key)}")
            if key.value in names:
                raise yaml.YAMLError(f"the key {key.value} occurs twice, {_near(node)}")
            names.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def construct_yaml_int(self, node: Any) -> int:
        text = self.construct_scalar(node)
        if len(text) > _LONGEST_NUMBER:
            raise yaml.YAMLError(f"a number has {len(text):,} digits, {_near(node)}")
        return int(text)


def _near(place: Any) -> str:
    return f"near line {place.start_mark.line + 1}"


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    yaml_implicit_resolvers = _resolvers()

    def represent_str(self, data: str) -> Any:
        """PyYAML reads Unicode's own line breaks back as spaces, unless they are escaped."""
        style = '"' if any(mark in data for mark in "\x85\u2028\u2029") else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def to_yaml(recipe: Recipe) -> str:
    """YAML that reads back as `recipe`, without method settings at their defaults."""
    plain = as_mapping(recipe, recipe.settings)
    for name in recipe.settings:
        method = find(name)
        default = dataclasses.asdict(method.default_config())
        plain[name] = {
            key: value
            for key, value in plain[name].items()
            if value != default[key] or key in method.defaults
        }
    return mapping_text(plain)


def mapping_text(mapping: Mapping[str, Any]) -> str:
    """YAML that reads back as the mapping."""
    text = yaml.dump(_lists(mapping), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return str(text)


def load_recipe(path: Path) -> dict[str, Any]:
    """The mapping in the YAML file `path`; raises ConfigError if there is none."""
    return load_mapping(path, "recipe")


def load_mapping(path: Path, kind: str) -> dict[str, Any]:
    """The same of any kind of file, which an error names."""
    try:
        content = _read(read_bytes(path, _LARGEST_FILE).decode("utf-8"))
    except (OSError, UnicodeDecodeError, FormatError, yaml.YAMLError) as error:
        raise ConfigError(f"The {kind} {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"The {kind} {path} is not a mapping of settings.")
    return content


def with_settings(mapping: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """`mapping` with `settings` such as `a.b=value` applied; values are read as YAML.

    A list may be written without brackets. In a file for several tasks, `task` chooses one; the
    other settings override its own.

    >>> with_settings({"training": {"seed": 0}}, ["training.seed=3", "data.text=a,b"])
    {'training': {'seed': 3}, 'data': {'text': ['a', 'b']}}
    """
    values, problems = _read_settings(settings)
    chosen, conflicts = _for_task(mapping, values.get(TASK, mapping.get(TASK)))
    if chosen is not mapping:
        values.pop(TASK, None)
    return _applied(chosen, values, "recipe", problems + conflicts)


def with_settings_of(
    kind: str, mapping: Mapping[str, Any], settings: Sequence[str]
) -> dict[str, Any]:
    """The same of another kind of file, which an error names and in which nothing is chosen."""
    values, problems = _read_settings(settings)
    return _applied(mapping, values, kind, problems)


def _read_settings(settings: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The values by their dotted names, and what is wrong with others."""
    values: dict[str, Any] = {}
    problems = []
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not all(name.split(".")):
            problems.append(f"{setting!r} is not of the form NAME=VALUE")
            continue
        try:
            values[name] = _list_in(name, text) or _read(text)
        except yaml.YAMLError:
            problems.append(
                f"{setting!r}: {text!r} is not a valid YAML value; put strings in quotes"
            )
    return values, problems


def _list_in(name: str, text: str) -> list[Any] | None:
    """The values between commas, if there are several and the setting takes a list."""
    if "," not in text or not takes_list(name):
        return None
    try:
        found = _read(f"[{text}]")
    except yaml.YAMLError:  # a comma in the braces of a regular expression
        return None
    plain = not any(isinstance(value, list | dict) for value in found)
    return found if plain and len(found) > 1 else None


def _for_task(mapping: Mapping[str, Any], name: Any) -> tuple[Mapping[str, Any], list[str]]:
    """The plain recipe of one of the file's tasks; the mapping itself if it has no such task."""
    settings = settings_of(mapping, name)
    if settings is None:
        return mapping, []
    result, conflicts = merged(shared(mapping), settings)
    return with_task_name(result, name), conflicts


def with_values(mapping: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping with the value of each dotted name replaced, just as it is."""
    return _applied(mapping, values, "recipe", [])


def _applied(
    mapping: Mapping[str, Any], values: Mapping[str, Any], kind: str, problems: Sequence[str]
) -> dict[str, Any]:
    """The mapping with the values; raises ConfigError that lists these problems and its own."""
    result, conflicts = merged(mapping, values)
    if found := [*problems, *conflicts]:
        raise ConfigError(f"These settings cannot be applied to the {kind}:", found)
    return result


def _read(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)


def _lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _lists(part) for key, part in value.items()}
    return [_lists(part) for part in value] if isinstance(value, list | tuple) else value
