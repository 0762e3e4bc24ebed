"""What of the server's environment its worker is given: no passwords and keys, which it has no use for."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SECRET_NAME = re.compile(
    r"TOKENS?($|_)|SECRET|PASSW(OR)?D|PASSPHRASE|CREDENTIAL|COOKIE|CONNECTION_?STRING|(^|_|API|ACCESS|PRIVATE)KEYS?($|_)|(^|_)(PASS|PAT|DSN|AUTH)($|_)|_PWD$",
    re.IGNORECASE,
)
_PASSWORD_IN_AN_ADDRESS = re.compile(r"://[^/\s:@]*:[^/\s@]+@")


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """All of `environment` but what is called like a password or a key, or holds an address with a password in it."""
    kept = {name: value for name, value in environment.items() if not (_SECRET_NAME.search(name) or _PASSWORD_IN_AN_ADDRESS.search(value))}
    return {**kept, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
