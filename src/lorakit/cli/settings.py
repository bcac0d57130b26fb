"""The settings of a recipe, as the dataclasses in the sources document them.

Help texts and completion may not wait for torch, which those classes' modules import. So the
sources are read and not run: a field, its default, and the string under it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_FIRST_SENTENCE = re.compile(r".+?[.](?=\s|$)", re.DOTALL)
_MEANS = re.compile(r"\bNone: (.+?)\.?(?=\.\s|\.?$)", re.DOTALL)
"""What a docstring says of the default None."""


@dataclass(frozen=True)
class Setting:
    """One setting."""

    name: str
    """Dotted, as `--set` takes it."""
    default: str
    """As YAML or in words; empty: there is none."""
    about: str
    """The first sentence of its documentation."""


@dataclass(frozen=True)
class Section:
    """Where the settings of a section of recipes are documented."""

    name: str
    """Empty for those outside of any section."""
    file: str
    class_name: str
    defaults: tuple[str, str] | None = None
    """File and name of a mapping of defaults that are others in recipes."""

    @property
    def prefix(self) -> str:
        return f"{self.name}." if self.name else ""


SECTIONS = (
    Section("", "recipe/schema.py", "Recipe"),
    Section("data", "recipe/data_config.py", "DataConfig"),
    Section("training", "recipe/training_config.py", "TrainingConfig"),
    Section("lora", "config/lora_config.py", "LoraConfig", ("methods/lora.py", "LORA_DEFAULTS")),
    Section("head", "methods/saved_modules.py", "MethodConfig"),
    Section("bitfit", "methods/saved_modules.py", "MethodConfig"),
    Section("last_layers", "methods/last_layers.py", "LastLayersConfig"),
    Section("houlsby", "methods/houlsby.py", "HoulsbyConfig"),
    Section("pfeiffer", "methods/pfeiffer.py", "PfeifferConfig"),
    Section("lin", "methods/lin.py", "LinConfig"),
    Section("adapter_drop", "methods/adapter_drop.py", "AdapterDropConfig"),
    Section("prefix_embedding", "methods/prefixes/config.py", "PrefixConfig"),
    Section("prefix_layer", "methods/prefixes/config.py", "PrefixLayerConfig"),
    Section("lora_prefix", "methods/lora_prefix.py", "LoraPrefixConfig"),
    Section(
        "lora_prefix.lora",
        "config/lora_config.py",
        "LoraConfig",
        ("methods/lora.py", "LORA_DEFAULTS"),
    ),
    Section("loss", "losses/config.py", "LossConfig"),
    Section("decoding", "recipe/decoding.py", "DecodingConfig"),
)
"""`full` has no settings."""
_SECTION_FIELDS = {"data", "training", "settings", "loss", "decoding"}
"""Fields of `Recipe` that are sections."""


def settings_of(section: Section) -> list[Setting]:
    """The settings of a section, in their order."""
    others = _mapping(*section.defaults) if section.defaults else {}
    return [
        Setting(
            f"{section.prefix}{name}",
            _default(others.get(name, value), about),
            _first_sentence(about),
        )
        for name, value, about in _fields_with_inherited(section.file, section.class_name)
        if section.name or name not in _SECTION_FIELDS
    ]


def _fields_with_inherited(
    file: str, class_name: str
) -> Iterator[tuple[str, ast.expr | None, str]]:
    """As `_fields`, after those of the classes that it inherits from, which it may redefine."""
    node = _class(file, class_name)
    found: dict[str, tuple[str, ast.expr | None, str]] = {}
    for base in map(ast.unparse, node.bases):
        if where := _defined_in(file, base):
            found |= {field[0]: field for field in _fields_with_inherited(where, base)}
    yield from (found | {field[0]: field for field in _fields(node)}).values()


def _defined_in(file: str, class_name: str) -> str | None:
    """The file that has this class, which `file` defines or imports from lorakit; or None."""
    for node in _parsed(file).body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            return file
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            package, _, path = node.module.partition(".")
            if package == "lorakit" and any(alias.name == class_name for alias in node.names):
                return f"{path.replace('.', '/')}.py"
    return None


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr | None, str]]:
    """Name, default and documentation of each field of a dataclass."""
    for field, below in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            yield field.target.id, field.value, _text(below).replace("`", "")


def _text(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return " ".join(str(node.value.value).split())
    return ""


def _default(value: ast.expr | None, about: str) -> str:
    """A default as text; what stands for None, the documentation says."""
    if not isinstance(value, ast.Constant):
        return ""
    if value.value is None:
        means = _MEANS.search(about)
        return means.group(1) if means else ""
    if isinstance(value.value, bool):
        return str(value.value).lower()
    return str(value.value)


def _first_sentence(text: str) -> str:
    found = _FIRST_SENTENCE.match(text)
    return found.group() if found else text


def _class(file: str, name: str) -> ast.ClassDef:
    nodes = (node for node in _parsed(file).body if isinstance(node, ast.ClassDef))
    return next(node for node in nodes if node.name == name)


def _mapping(file: str, name: str) -> Mapping[str, ast.expr]:
    """The values of a mapping that the module makes of a literal dict."""
    for node in _parsed(file).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            literal = next(part for part in ast.walk(node) if isinstance(part, ast.Dict))
            pairs = zip(literal.keys, literal.values, strict=True)
            return {str(key.value): value for key, value in pairs if isinstance(key, ast.Constant)}
    raise LookupError(f"{file} has no {name}")


@cache
def _parsed(file: str) -> ast.Module:
    return ast.parse(files("lorakit").joinpath(file).read_text(encoding="utf-8"))
