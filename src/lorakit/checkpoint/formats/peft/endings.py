"""Texts that names may end in, looked up by length: a file may list one for each of its modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class Endings:
    """Listed endings, found in a name in any place, as by `str.endswith`."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = frozenset(texts)
        self._lengths = sorted(set(map(len, self._texts)))

    def of(self, name: str, end: int | None = None) -> Iterator[str]:
        """Those that the name, or its part before `end`, ends in; the shortest first.

        >>> list(Endings(["q", "attn.q", "k"]).of("h.0.attn.q"))
        ['q', 'attn.q']
        """
        end = len(name) if end is None else end
        for length in self._lengths:
            if length > end:
                return
            if (text := name[end - length : end]) in self._texts:
                yield text
