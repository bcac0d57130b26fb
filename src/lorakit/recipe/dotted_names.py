"""Settings by dotted names such as `lora.r`, and the sections that they stand in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def dotted(settings: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Settings by dotted names, of which some may stand in sections; deeper mappings are values.

    >>> dict(dotted({"lora": {"r": 4}, "training.seed": 1, "method": "lora"}))
    {'lora.r': 4, 'training.seed': 1, 'method': 'lora'}
    """
    for name, value in settings.items():
        if isinstance(value, Mapping) and "." not in str(name):
            yield from ((f"{name}.{leaf}", part) for leaf, part in value.items())
        else:
            yield str(name), value


def merged(
    mapping: Mapping[str, Any], values: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The mapping with the value of each dotted name in its place, and why some have none.

    >>> merged({"training": {"epochs": 3}, "lora.r": 4}, {"training.epochs": 1, "lora.r": 8})
    ({'training': {'epochs': 1}, 'lora.r': 8}, [])
    """
    result: dict[str, Any] = _copy(mapping)
    conflicts = []
    for name, value in values.items():
        if (obstacle := _put(result, name.split("."), value)) is not None:
            conflicts.append(f"{name}: {obstacle} is a value, not a section of settings")
    return result, conflicts


def _put(section: dict[str, Any], parts: Sequence[str], value: Any) -> str | None:
    """Set what the parts name; what stands where a section would have to be, if anything does.

    Several parts are one key where the section has such a key.
    """
    keys = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    key = next((key for key in keys if key in section), parts[0])
    below = parts[key.count(".") + 1 :]
    if not below:
        section[key] = value
        return None
    if section.get(key) is None:
        section[key] = {}
    return _put(section[key], below, value) if isinstance(section[key], dict) else key


def _copy(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, Mapping) else v for k, v in mapping.items()}
