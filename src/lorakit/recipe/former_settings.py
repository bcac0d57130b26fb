"""Settings that recipes of finished runs have and that have another form now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TENSORBOARD = "tensorboard"


def with_present_names(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """The mapping with `training.tensorboard` as a name in `training.report_to`.

    >>> with_present_names({"training": {"seed": 1, "tensorboard": True}})
    {'training': {'seed': 1, 'report_to': ['tensorboard']}}
    """
    training = mapping.get("training")
    if not isinstance(training, Mapping) or not isinstance(training.get(_TENSORBOARD), bool):
        return mapping
    rest = {name: value for name, value in training.items() if name != _TENSORBOARD}
    named = rest.get("report_to")
    named = [] if named is None else [named] if isinstance(named, str) else named
    if training[_TENSORBOARD] and isinstance(named, list | tuple):  # others are refused as such
        rest["report_to"] = [*named, _TENSORBOARD]
    return {**mapping, "training": rest}
