"""What of the server's environment its worker is given: no passwords and keys, which it has no use for."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SECRET_NAME = re.compile(
    r"TOKENS?($|_)|SECRET|PASSW(OR)?D|PASSPHRASE|CREDENTIAL|COOKIE|CONNECTION_?STRING|(^|_|API|ACCESS|PRIVATE)KEYS?($|_)|(^|_)(PASS|PAT|DSN|AUTH)($|_)|_PWD$",
    re.IGNORECASE,
)
_PROXY = re.compile(r"_proxy$", re.IGNORECASE)
_PASSWORD_IN_AN_ADDRESS = re.compile(r"://[^/\s:@]*:[^/\s@]+@")


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """All of `environment` but what is called like a password or a key, or holds an address with a password in it.

    A proxy stays with its password: a tokenizer may have to be fetched through it.
    """

    def is_secret(name: str, value: str) -> bool:
        return bool(_SECRET_NAME.search(name)) or (bool(_PASSWORD_IN_AN_ADDRESS.search(value)) and not _PROXY.search(name))

    kept = {name: value for name, value in environment.items() if not is_secret(name, value)}
    return {**kept, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
