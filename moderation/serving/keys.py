"""API keys: a file of their SHA-256 hashes, and the check whether a key is one of them.

A key is 32 random bytes, too many to guess, so one round of SHA-256 hides it. The file never holds a key.

A process that changes the file holds its lock from reading to replacing it, so that no change is lost; reading needs
no lock, since the file is replaced as a whole.
"""

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from moderation.artifacts import find_target, read_json, write_atomically
from moderation.errors import ArtifactError, ConfigError
from moderation.locks import claimed

FORMAT = "content-moderation keys"
PREFIX = "cm_"
WAIT_S = 30.0
"""How long to wait for the file's lock; a change takes next to no time."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LONGEST_CREATED = 64


@dataclass(frozen=True)
class StoredKey:
    """What the file holds for a key.

    Args:
        sha256: Hash of the key, 64 hex digits.
        created: Day on which it was made, such as 2026-01-31; empty: not known.
    """

    sha256: str
    created: str = ""


class Keys:
    """The accepted keys.

    Args:
        hashes: Name -> SHA-256 of its key, 64 hex digits.
    """

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = {name: bytes.fromhex(digest) for name, digest in hashes.items()}

    def __len__(self) -> int:
        return len(self._hashes)

    def find(self, key: str) -> str | None:
        """Name of a key, or None; takes the same time for every key, known or not."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        found = None
        for name, known in self._hashes.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found


def read_keys(path: Path) -> Keys:
    """Read a file of keys.

    Raises:
        ArtifactError: no such file, or not a file of keys.
    """
    return Keys({name: key.sha256 for name, key in _read(path).items()})


def list_keys(path: Path) -> dict[str, str]:
    """Name -> day on which the key was made."""
    return {name: key.created for name, key in _read(path).items()}


def add_key(path: Path, name: str) -> str:
    """Make a key, store its hash under a name, and return the key; it cannot be recovered later.

    Raises:
        ConfigError: the name is taken or not valid.
        ArtifactError: not a file of keys, or one that cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--name is {name!r}, expected up to 64 letters, digits, '.', '_' and '-'.")
    path = find_target(path)
    with claimed(path, "keys", wait_s=WAIT_S):
        known = _read(path) if path.exists() else {}
        if name in known:
            raise ConfigError(f"{path}: already holds a key named {name}. Remove it first, or choose another name.")
        key = PREFIX + secrets.token_urlsafe(32)
        digest = hashlib.sha256(key.encode()).hexdigest()
        _write(path, known | {name: StoredKey(digest, time.strftime("%Y-%m-%d", time.gmtime()))})
    return key


def remove_key(path: Path, name: str) -> None:
    """Take a key out of the file.

    Raises:
        ConfigError: no key of that name.
        ArtifactError: not a file of keys, or one that cannot be written.
    """
    path = find_target(path)
    _read(path)  # fails first if there is no file, so that no lock is left behind
    with claimed(path, "keys", wait_s=WAIT_S):
        known = _read(path)
        if name not in known:
            others = ", ".join(known) or "none"
            raise ConfigError(f"{path}: holds no key named {name}; it holds {others}.")
        _write(path, {other: stored for other, stored in known.items() if other != name})


def _read(path: Path) -> dict[str, StoredKey]:
    content = read_json(path, f"a file of API keys, as `moderation keys add --keys {path} --name NAME` writes it")
    keys: object = content.get("keys")
    if content.get("format") != FORMAT or not isinstance(keys, dict):
        raise ArtifactError(f"{path}: not a file of API keys. To make one: moderation keys add --keys FILE --name NAME")
    found: dict[str, StoredKey] = {}
    problems = []
    for name, facts in keys.items():
        try:
            found[name] = _read_key(name, facts)
        except ValueError as error:
            problems.append(f"  {name[:64]!r}: {error}")
    if problems:
        raise ArtifactError(
            "\n".join([f"{path}: a file of API keys with wrong entries:", *problems[:10]])
            + "\nRemove them from the file, and make new keys: moderation keys add."
        )
    return found


def _read_key(name: str, facts: object) -> StoredKey:
    """An entry of the file.

    Raises:
        ValueError: what is wrong with it.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("not a name; expected up to 64 letters, digits, '.', '_' and '-'.")
    if not isinstance(facts, dict):
        raise ValueError('expected {"sha256": ..., "created": ...}.')
    digest, day = facts.get("sha256"), facts.get("created", "")
    if not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
        raise ValueError("its sha256 is not a string of 64 hexadecimal digits.")
    if not (isinstance(day, str) and len(day) <= _LONGEST_CREATED and day.isprintable()):
        raise ValueError("its created is not a string such as 2026-01-31.")
    return StoredKey(digest, day)


def _write(path: Path, keys: Mapping[str, StoredKey]) -> None:
    """Replace the file, which keeps its permissions; a new one is readable only by its owner."""
    content = {"format": FORMAT, "keys": {name: asdict(key) for name, key in keys.items()}}
    with write_atomically(path, private=True) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
