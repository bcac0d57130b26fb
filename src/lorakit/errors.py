"""Every error that lorakit raises for a user.

    LorakitError
    ├── ConfigError           a setting contradicts itself or another one (also a ValueError)
    ├── TargetError           a pattern matches nothing, or a module cannot be adapted
    ├── StateError            the model is not in the state that the call needs
    ├── FormatError           a file is not what it claims to be
    │   └── MissingAlphaError a file cannot tell its scale, and the caller did not
    ├── MismatchError         an adapter does not fit this model
    ├── TrainingError         a run was stopped: something in it cannot learn
    ├── SaveError             saving failed; what was there before is untouched, or it says so
    └── MissingDependencyError a package is not installed, or not in a release that will do

A message has one headline and, below it, every problem that was found: what was asked, what was
there, what to do. Nothing has changed in the model or on disk when one of these is raised, but for
a SaveError that says "The new tensors are in ...": then lorakit reads the new adapter from there,
and other tools need another save.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence


class LorakitError(Exception):
    """The root of every error that lorakit raises for a user.

    `problems` holds one sentence for each thing that is wrong.
    """

    def __init__(self, headline: str, problems: Sequence[str] = ()) -> None:
        self.headline = headline
        self.problems = tuple(problems)
        super().__init__("\n".join([headline, *(f"  - {problem}" for problem in self.problems)]))

    def __reduce__(self) -> tuple[type[LorakitError], tuple[str, tuple[str, ...]]]:
        return type(self), (self.headline, self.problems)


class ConfigError(LorakitError, ValueError):
    """A setting is out of range, or contradicts another one."""


class TargetError(LorakitError, ValueError):
    """A pattern matches nothing in the model, or it matches a module that cannot be adapted."""


class StateError(LorakitError, RuntimeError):
    """The model is not in the state that the call needs: adapted already, or not adapted."""


class FormatError(LorakitError, ValueError):
    """A file cannot be read, is damaged, or says something else than its tensors."""


class MissingAlphaError(FormatError):
    """The file holds A and B but not the scale; pass `lora_alpha`."""


class MismatchError(LorakitError, ValueError):
    """An adapter does not fit this model: names, shapes, head or base weights differ."""


class TrainingError(LorakitError, RuntimeError):
    """A run was stopped, since something in it stands still; its checkpoints are kept."""


class SaveError(LorakitError, OSError):
    """Saving failed; what was there before is untouched, unless the message says otherwise."""


class MissingDependencyError(LorakitError, ImportError):
    """A package is not installed, or its release lacks what is needed; the message says which."""


def suggest(name: str, candidates: Iterable[str]) -> str:
    """`name`'s nearest neighbours as a half sentence, or an empty string if none is near.

    >>> suggest("qurey", ["query", "value"])
    " (did you mean 'query'?)"
    """
    near = difflib.get_close_matches(name, list(candidates), n=3, cutoff=0.6)
    return f" (did you mean {', '.join(map(repr, near))}?)" if near else ""


def require(checks: Mapping[str, bool], headline: str = "These settings cannot be used:") -> None:
    """Raise ConfigError that lists every problem whose check does not hold."""
    problems = [problem for problem, holds in checks.items() if not holds]
    if problems:
        raise ConfigError(headline, problems)
