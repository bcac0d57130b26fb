"""Sizes of files on the command line, as transformers writes them: `500MB`, `2GB`, `1GiB`."""

from __future__ import annotations

import re

from lorakit.errors import ConfigError

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def parse_size(text: str) -> int:
    """Bytes; raises ConfigError for anything that is no size.

    >>> parse_size("2GB"), parse_size("1.5 MiB"), parse_size("4096")
    (2000000000, 1572864, 4096)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if found is None or found[2].upper() not in _UNITS:
        raise ConfigError(f"{text!r} is no size; write it as 500MB, 2GB or 1GiB.")
    return int(float(found[1]) * _UNITS[found[2].upper()])
