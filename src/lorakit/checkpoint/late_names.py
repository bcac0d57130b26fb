"""Module names that can only be recovered with the model.

Some formats rename modules in a way that cannot be inverted: kohya writes `down_blocks.0.attn` as
`lora_unet_down_blocks_0_attn`, GGUF has `blk.0.attn_q` whatever the architecture calls it. A bundle
then has the file's names, and `spelling` maps a module's name to the file's. With a model at hand,
the names of all of its modules are mapped, and the file's names looked up among them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.checkpoint.settings import targets_of
from lorakit.errors import SUGGESTIONS, suggest


def in_model_names(
    bundle: AdapterBundle, modules: Iterable[str]
) -> tuple[AdapterBundle, list[tuple[str, str]]]:
    """The bundle with the names of these modules of a model.

    Also returns (file's name, what is wrong with it) for names of no module or of several, which
    are left out of the bundle.
    """
    if bundle.spelling is None:
        return bundle, []
    meant: dict[str | None, list[str]] = {}
    for module in modules:
        meant.setdefault(bundle.spelling(module), []).append(module)
    parts = {name: name.rpartition(".") for name in bundle.trained}
    owners = dict.fromkeys([*bundle.adapters, *(owner for owner, _, _ in parts.values() if owner)])
    found = {name: meant[name][0] for name in owners if len(meant.get(name, ())) == 1} | {"": ""}
    adapters = {found[name]: pair for name, pair in bundle.adapters.items() if name in found}
    trained = {
        f"{found[owner]}{dot}{leaf}": bundle.trained[name]
        for name, (owner, dot, leaf) in parts.items()
        if owner in found
    }
    config = bundle.config
    if adapters and not bundle.targets_stated:
        config = config.replace(**targets_of(adapters))
    named = replace(bundle, config=config, adapters=adapters, trained=trained, spelling=None)
    return named, _problems([name for name in owners if name not in found], meant)


def _problems(unexpected: list[str], meant: dict[str | None, list[str]]) -> list[tuple[str, str]]:
    spelt = [name for name in meant if name is not None]
    problems = []
    for n, name in enumerate(unexpected):
        if name in meant:
            which = " and ".join(meant[name])
            problems.append((name, f"is ambiguous: the file's format gives {which} the same name"))
        else:
            near = suggest(name, spelt) if n < SUGGESTIONS else ""
            text = "is unexpected: no module of the model has this name in the file's format"
            problems.append((name, text + near))
    return problems
