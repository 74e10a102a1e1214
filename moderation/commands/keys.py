"""`moderation keys`: the API keys of the server, of which only hashes are kept."""

import sys

from moderation.config import KeysConfig
from moderation.serving.keys import add_key, list_keys, remove_key


def keys(config: KeysConfig) -> int:
    """Add, list or remove keys.

    Returns:
        0.

    Raises:
        ModerationError: a name or a file that cannot be.
    """
    when = "A server that runs takes notice at SIGHUP, or when it is restarted."
    if config.action == "list":
        for name, created in list_keys(config.keys).items():
            print(f"{created}  {name}")
    elif config.action == "add":
        print(add_key(config.keys, str(config.name)))
        print(
            f"This is the key of {config.name}; only its hash was kept, so that it is not shown again. {when}",
            file=sys.stderr,
        )
    else:
        remove_key(config.keys, str(config.name))
        print(f"{config.name} removed. {when}")
    return 0
