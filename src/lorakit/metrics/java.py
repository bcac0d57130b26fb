"""The two Java programs that come with pycocoevalcap: METEOR 1.5 and Stanford's tokenizer."""

from __future__ import annotations

import shutil

from lorakit.errors import MissingDependencyError


def missing_java() -> str | None:
    """How to install Java; None if it is installed.

    METEOR and Stanford's tokenizer need a Java runtime of version 8 or later.
    """
    if shutil.which("java"):
        return None
    return (
        "Java is missing (there is no `java` on the PATH); install a runtime of version 8 or "
        "later, as with: apt-get install default-jre-headless"
    )


def java() -> str:
    """The path of `java`; raises MissingDependencyError."""
    found = shutil.which("java")
    if found is None:
        raise MissingDependencyError(f"METEOR cannot be computed: {missing_java()}")
    return found
