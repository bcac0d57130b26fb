"""METEOR 1.5 (Denkowski and Lavie, W14-3348), computed by its own program, which needs Java.

The program comes with pycocoevalcap. It reads English with `-norm`, as in tuetschek/e2e-metrics,
the WebNLG scripts and GenerationEval. Of several references the best one counts; the metric of many
texts is that of their summed statistics, not the mean of theirs.

It answers line by line: `SCORE ||| reference ||| ... ||| text` with statistics, and
`EVAL ||| statistics ||| ...` with the metric of each, and of all.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

from lorakit.errors import MissingDependencyError
from lorakit.metrics.caption import Segmented
from lorakit.metrics.java import java
from lorakit.metrics.optional import package_directory

_SEPARATOR = "|||"


class Meteor:
    """The program, started once for many calls: it reads its paraphrases for half a minute.

    >>> with Meteor() as meteor:  # doctest: +SKIP
    ...     meteor(["A pub in the city centre."], [["A pub in the centre."]]).score
    """

    def __init__(self) -> None:
        jar = package_directory("pycocoevalcap") / "meteor" / "meteor-1.5.jar"
        command = [java(), "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def __enter__(self) -> Meteor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended before it has read everything
            self._process.stdin.close()
        self._process.__exit__(None, None, None)  # closes the other pipe and waits

    def __call__(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]]
    ) -> Segmented:
        """0 to 1; blank references do not count. Raises MissingDependencyError if Java fails."""
        statistics = []
        for text, group in zip(predictions, references, strict=True):
            kept = [_line(reference) for reference in group if reference.strip()]
            self._say("SCORE", *kept, _line(text))
            statistics.append(self._answer())
        self._say("EVAL", *statistics)
        segments = [float(self._answer()) for _ in statistics]
        return Segmented(float(self._answer()), segments)

    def _say(self, *parts: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f" {_SEPARATOR} ".join(parts) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise _ended() from error

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise _ended()
        return line.strip()


def _line(text: str) -> str:
    return " ".join(text.replace(_SEPARATOR, " ").split())


def _ended() -> MissingDependencyError:
    return MissingDependencyError(
        "METEOR's Java process ended; see its message above. METEOR needs Java 8 or later "
        "and 2 GB of memory."
    )
