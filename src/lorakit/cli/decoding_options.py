"""The options that set how text is generated, and what prints it as it comes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lorakit.cli import options


def setting(metavar: str, default: str, help: str) -> Any:
    """The option for a field of DecodingConfig."""
    return typer.Option(
        metavar=metavar,
        help=help,
        show_default=f"the recipe's, else {default}",
        rich_help_panel=options.DECODING,
    )


Temperature = Annotated[
    float | None, setting("T", "0", "Sampling temperature; 0 is greedy decoding.")
]
TopP = Annotated[
    float | None,
    setting(
        "P",
        "1",
        "Nucleus sampling: sample from the most probable tokens whose probabilities add up to P.",
    ),
]
Seed = Annotated[int | None, setting("N", "0", "Random seed of sampling.")]


def new_tokens(default: str) -> Any:
    """The option --max-new-tokens."""
    return setting("N", default, "Maximum number of generated tokens, the prompt not counted.")


def checked(**settings: float | None) -> dict[str, Any]:
    """The settings that were given; raises ConfigError before a model is loaded."""
    from lorakit.recipe.decoding import DecodingConfig

    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    DecodingConfig(**given)
    return given
