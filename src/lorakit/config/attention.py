"""The projections of attention by their roles, whatever an architecture calls them.

`target_modules="attention:qv"` are the query and value of every attention; q, k, v and o (the
output projection) may stand behind the colon, each once.
"""

from __future__ import annotations

PREFIX = "attention:"
ROLES = "qkvo"


def attention_roles(target_modules: object) -> str | None:
    """The roles that these targets name; None for targets of another kind.

    >>> attention_roles("attention:qv"), attention_roles("all-linear")
    ('qv', None)
    """
    if not isinstance(target_modules, str) or not target_modules.startswith(PREFIX):
        return None
    return target_modules.removeprefix(PREFIX)


def roles_problem(target_modules: object) -> str | None:
    """What is wrong with the roles in these targets, if they are roles."""
    roles = attention_roles(target_modules)
    if roles is None or (roles and set(roles) <= set(ROLES) and len(set(roles)) == len(roles)):
        return None
    return (
        f"target_modules is {target_modules!r}; behind {PREFIX} stand one or more of the letters "
        f"{', '.join(ROLES)}, each once, as in {PREFIX}qv"
    )
