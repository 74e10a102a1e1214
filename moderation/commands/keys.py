"""`moderation keys`: the server's API keys; only their hashes are stored."""

import sys

from moderation.config import KeysConfig
from moderation.serving.keys import add_key, list_keys, remove_key


def keys(config: KeysConfig) -> int:
    """Add, list or remove keys.

    Returns:
        0.

    Raises:
        ModerationError: a name or a file is invalid.
    """
    when = "A running server reads the change after SIGHUP or a restart."
    if config.action == "list":
        for name, created in list_keys(config.keys).items():
            print(f"{created}  {name}")
    elif config.action == "add":
        print(add_key(config.keys, str(config.name)))
        print(
            f"This is the key of {config.name}. Only its hash is stored, so it will not be shown again. {when}",
            file=sys.stderr,
        )
    else:
        remove_key(config.keys, str(config.name))
        print(f"{config.name} removed. {when}")
    return 0
