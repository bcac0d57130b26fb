"""Every error that lorakit raises for a user.

    LorakitError
    ├── ConfigError           a setting is invalid or contradicts another one (also a ValueError)
    ├── TargetError           a pattern matches no module, or a module cannot be adapted
    ├── StateError            the model is not in the state that the call requires
    ├── FormatError           a file cannot be read, or its content is invalid
    │   └── MissingAlphaError the file does not store lora_alpha, and the caller did not pass it
    ├── MismatchError         an adapter does not fit this model
    ├── TrainingError         training was stopped: a tensor does not change, or it diverged
    ├── PlanError             a step's memory cannot be predicted
    ├── SaveError             saving failed
    └── MissingDependencyError a package is not installed, or its version is not supported

A message is a headline followed by one line for each problem: what was asked for, what was found,
what to do. When one of these is raised, neither the model nor the files have changed, except for a
SaveError that says "The new tensors are in ...": lorakit then loads the new adapter from there, and
for other tools it has to be saved again.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

_SHOWN_PROBLEMS, _SHOWN_LETTERS = 1000, 2000


class LorakitError(Exception):
    """The root of every error that lorakit raises for a user.

    `problems` holds one sentence for each thing that is wrong; the text has the first thousand.
    """

    def __init__(self, headline: str, problems: Sequence[str] = ()) -> None:
        self.headline = headline
        self.problems = tuple(problems)
        lines = [headline, *(f"  - {problem}" for problem in self.problems[:_SHOWN_PROBLEMS])]
        if more := len(self.problems[_SHOWN_PROBLEMS:]):
            lines.append(f"  and {more:,} more")
        super().__init__("\n".join(map(_shortened, lines)))

    def __reduce__(self) -> tuple[type[LorakitError], tuple[str, tuple[str, ...]]]:
        return type(self), (self.headline, self.problems)


class LorakitWarning(UserWarning):
    """Something was done otherwise than its files or settings may let one expect."""


class ConfigError(LorakitError, ValueError):
    """A setting is invalid, or contradicts another one."""


class TargetError(LorakitError, ValueError):
    """A pattern matches nothing in the model, or it matches a module that cannot be adapted."""


class StateError(LorakitError, RuntimeError):
    """The model is not in the state that the call requires: already adapted, or not adapted."""


class FormatError(LorakitError, ValueError):
    """A file cannot be read, is corrupted, or its config contradicts its tensors."""


class MissingAlphaError(FormatError):
    """The file stores A and B, but not `lora_alpha`; pass it."""


class MismatchError(LorakitError, ValueError):
    """An adapter does not fit this model: names, shapes, head or base weights differ."""


class TrainingError(LorakitError, RuntimeError):
    """Training was stopped: a trainable tensor does not change, or a loss is no longer finite."""


class PlanError(LorakitError, RuntimeError):
    """A training step's memory cannot be predicted: it depends on values, or takes too long to."""


class SaveError(LorakitError, OSError):
    """Saving failed; existing files are unchanged, unless the message says otherwise."""


class MissingDependencyError(LorakitError, ImportError):
    """A package is not installed, or its version is not supported; the message says which."""


def _shortened(line: str) -> str:
    """The line without its middle, if what was found in a file has made it very long."""
    if len(line) <= _SHOWN_LETTERS:
        return line
    half = _SHOWN_LETTERS // 2
    return f"{line[:half]} ... ({len(line) - 2 * half:,} letters) ... {line[-half:]}"


SUGGESTIONS = 10
"""How many names of one message get a suggestion; each is a search through all candidates."""


def suggest(name: str, candidates: Iterable[str]) -> str:
    """The closest candidates as " (did you mean ...?)", or an empty string if none is close.

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
