"""Several pieces of work that take turns: each runs until it asks for something, like a coroutine.

transformers' Trainer is a loop of its own, and nothing in it can be paused but a thread. So each
piece of work has a thread, which runs only while it is its turn: never do two run at a time, and
the order is always the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from queue import SimpleQueue
from threading import Thread
from typing import Any

from lorakit.errors import LorakitError, StateError, TrainingError

Ask = Callable[[Any], Any]
"""Asks for something, and waits for the answer."""
Work = Callable[[Ask], Any]
Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""From what each piece of work asks for, by name, to what each gets."""


class Stopped(StateError):
    """Raised where work asks, once others have ended it."""


class Turns:
    """One piece of work, and its thread."""

    def __init__(self, name: str, work: Work) -> None:
        self._work = work
        self._said: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._answers: SimpleQueue[tuple[bool, Any]] = SimpleQueue()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self.ended = False

    def go_on(self, answer: Any = None) -> Any:
        """What it asks for next, or its result if it has `ended`; raises what it raises."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._answers.put((True, answer))
        said, value = self._said.get()
        self.ended = said != "asks"
        if said == "raises":
            raise value
        return value

    def stop(self) -> None:
        """Let it end where it asks, and wait for that."""
        while self._thread.is_alive():
            self._answers.put((False, None))
            self._thread.join(_MOMENT)
        self.ended = True

    def _run(self) -> None:
        try:
            self._said.put(("ends", self._work(self._ask)))
        except BaseException as error:  # raised again where it was told to go on
            self._said.put(("raises", error))

    def _ask(self, request: Any) -> Any:
        self._said.put(("asks", request))
        goes_on, answer = self._answers.get()
        if not goes_on:
            raise Stopped("Stopped, as others of its group have been.")
        return answer


_MOMENT = 0.1


def _begun(name: str, one: Turns) -> Any:
    """What it asks for first; an error says whose it is."""
    try:
        return one.go_on()
    except LorakitError as error:
        raise type(error)(f"{name}: {error.headline}", error.problems) from error


def take_turns(works: Mapping[str, Work], answer: Answer) -> dict[str, Any]:
    """The result of each, by name; what they ask for is answered once all that go on ask.

    An error before the first answer, or one that is not lorakit's, ends all at once. Later others
    go on without the one that failed; then TrainingError lists what has failed, once all are done.
    """
    turns = {name: Turns(name, work) for name, work in works.items()}
    results: dict[str, Any] = {}
    failed: dict[str, LorakitError] = {}
    try:
        asked = {name: _begun(name, one) for name, one in turns.items()}
        while True:
            results |= {name: asked.pop(name) for name in list(asked) if turns[name].ended}
            if not asked:
                break
            for name, found in answer(asked).items():
                try:
                    asked[name] = turns[name].go_on(found)
                except LorakitError as error:
                    failed[name] = error
                    del asked[name]
    finally:
        for one in turns.values():
            one.stop()
    if failed:
        raise TrainingError(
            f"{len(failed)} of {len(works)} runs failed; the others are finished:",
            [f"{name}: {error}" for name, error in failed.items()],
        ) from next(iter(failed.values()))
    return {name: results[name] for name in works}
