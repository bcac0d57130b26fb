"""What trains, in groups with a learning rate and a weight decay each, as an optimizer takes them.

One table says both for every trainable parameter, and the first row that fits it counts:

| | learning rate | weight decay |
| --- | --- | --- |
| a pattern matches it, or a module that it is in | the pattern's | the pattern's |
| it is an adapter's B | loraplus_lr_ratio times the common one | the common one |
| it is a bias, or of a normalisation layer | the common one | 0 |
| any other | the common one | the common one |

The ratio is that of LoRA+ (arXiv 2402.12354): in a wide model A and B learn features at the same
speed only if B's learning rate is larger by a factor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import accumulate
from types import MappingProxyType
from typing import Any

from torch import nn

from lorakit.config.patterns import Pattern
from lorakit.errors import SUGGESTIONS, ConfigError, suggest
from lorakit.injection.selection.naming import within_any
from lorakit.layer_groups import without_indices
from lorakit.recipe.training_config import TrainingConfig
from lorakit.text import plural

_B = "lora_B"
_UNDECAYED = re.compile(r"bias|layernorm|rmsnorm|(?:^|[._])norm(?:\.|$)")
"""transformers' rule (`Trainer.get_decay_parameter_names`), beside all that is in nn.LayerNorm."""
_NONE: Mapping[str, float] = MappingProxyType({})

Groups = list[dict[str, Any]]


def group_parameters(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.0,
    *,
    loraplus_lr_ratio: float | None = None,
    learning_rate_pattern: Mapping[str, float] = _NONE,
    weight_decay_pattern: Mapping[str, float] = _NONE,
) -> Groups:
    """What of `model` trains, as named groups for an optimizer.

    The first group has `learning_rate`. `weight_decay` is AdamW's; biases and normalisation layers
    have none. `loraplus_lr_ratio` is the learning rate of B over that of A. `learning_rate_pattern`
    and `weight_decay_pattern` give what is named by their keys, or is in a module that is, values
    of its own; a key is as in `LoraConfig.rank_pattern`, and the first that matches counts.

    ``torch.optim.AdamW(group_parameters(model, 1e-3, 0.01, loraplus_lr_ratio=16))``

    Raises ConfigError that lists every value out of range and every pattern that matches nothing
    that trains, and for a ratio without an adapter.
    """
    TrainingConfig(  # checks them
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        loraplus_lr_ratio=loraplus_lr_ratio,
        learning_rate_pattern=learning_rate_pattern,
        weight_decay_pattern=weight_decay_pattern,
    )
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    second = [name for name in named if name.rpartition(".")[2] == _B]
    decayed = sorted(named.keys() - _undecayed(model, named))
    problems: list[str] = []
    if loraplus_lr_ratio is not None and not second:
        problems.append("loraplus_lr_ratio is set, and no adapter's B trains; leave it out")
    rates = (
        dict.fromkeys(named, learning_rate)
        | dict.fromkeys(second, learning_rate * (loraplus_lr_ratio or 1))
        | _matched("learning_rate_pattern", learning_rate_pattern, named, problems)
    )
    decays = (
        dict.fromkeys(named, 0.0)
        | dict.fromkeys(decayed, weight_decay)
        | _matched("weight_decay_pattern", weight_decay_pattern, named, problems)
    )
    if problems:
        raise ConfigError(f"What trains in {type(model).__name__} cannot be grouped:", problems)
    groups: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in named.items():
        groups.setdefault((rates[name], decays[name]), []).append((name, parameter))
    in_order = sorted(groups, key=lambda group: (group[0] != learning_rate, group[1] == 0))
    return [
        {"params": groups[rate, decay], "lr": rate, "weight_decay": decay}
        for rate, decay in in_order
    ]


def group_lines(groups: Groups) -> list[str]:
    """The groups for people, one line each."""
    return [
        f"learning rate {group['lr']:g}, weight decay {group['weight_decay']:g}: "
        f"{plural(sum(p.numel() for _, p in group['params']), 'parameter')} in "
        f"{plural(len(group['params']), 'tensor')}"
        for group in groups
    ]


def _undecayed(model: nn.Module, names: Iterable[str]) -> set[str]:
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    return {name for name in names if _UNDECAYED.search(name.lower()) or within_any(name, norms)}


def _matched(
    field: str, pattern: Mapping[str, float], names: Iterable[str], problems: list[str]
) -> dict[str, float]:
    """The value for each parameter that a key matches, or a module around it; the first key's."""
    places = {name: list(accumulate(name.split("."), "{}.{}".format)) for name in names}
    everything = list(dict.fromkeys(place for around in places.values() for place in around))
    values = list(pattern.values())
    keys = Pattern({key: at for at, key in enumerate(pattern)})
    candidates = sorted({ending for name in everything for ending in _endings(name)})
    for n, key in enumerate(keys.without_match(everything)):
        near = suggest(key, candidates) if n < SUGGESTIONS else ""
        problems.append(f"{field}: {key!r} matches nothing that trains{near}")
    first = keys.of(everything, len(values))
    found = {name: min(first[place] for place in around) for name, around in places.items()}
    return {name: values[at] for name, at in found.items() if at < len(values)}


def _endings(name: str) -> tuple[str, str]:
    """What to suggest of a name: its last part, and all of it without layer numbers."""
    return name.rpartition(".")[2], without_indices(name)
