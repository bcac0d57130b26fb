from __future__ import annotations

import pytest

from lorakit.config import LoraConfig
from lorakit.errors import ConfigError


@pytest.mark.parametrize("roles", ["q", "qv", "ov", "qkvo"])
def test_roles_of_attention_are_targets(roles):
    assert LoraConfig(target_modules=f"attention:{roles}").target_modules == f"attention:{roles}"


@pytest.mark.parametrize("roles", ["", "x", "qq", "q,v", "QV"])
def test_what_is_no_role_is_refused(roles):
    with pytest.raises(ConfigError, match="one or more of the letters q, k, v, o, each once"):
        LoraConfig(target_modules=f"attention:{roles}")
