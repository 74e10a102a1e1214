"""Model files from the hub or its local cache. Pickled weights and code are never fetched."""

import logging
import os
from pathlib import Path

from moderation.errors import MissingExtraError

logger = logging.getLogger(__name__)

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_FILES = (CONFIG, "tokenizer*", "vocab*", "special_tokens_map.json", "merges.txt", "*.model")
_NEVER = ("*.py", "*.pkl", "*.pickle", "*.bin", "*.pt", "*.pth")  # what some name that begins like these may end in
_PROBE_S = 5


def find_in_hub(hub_id: str, revision: str, *, need_weights: bool, local: bool) -> Path:
    """Return the folder of a model in the hub's local cache; if `local` is False, download it first.

    Args:
        hub_id: Model id.
        revision: Commit, tag or branch.
        need_weights: False: leave the weights out.
        local: Only look in the cache, without using the network.

    Returns:
        A folder named after the commit. It may lack files that the model does not have there.

    Raises:
        LookupError: not in the cache, or not available from the hub; the message says why.
        MissingExtraError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url, snapshot_download
    except ImportError:
        raise MissingExtraError("A backbone from the hub", "train") from None

    if not local and is_offline():
        raise LookupError("not tried (HF_HUB_OFFLINE is set)")
    try:
        if not local:
            # One request without retries first: the download itself retries for minutes if the hub cannot be reached.
            get_hf_file_metadata(hf_hub_url(hub_id, CONFIG, revision=revision), timeout=_PROBE_S)
            logger.info("Fetching %s from the hub, revision %s", hub_id, revision)
        patterns = [*_FILES, WEIGHTS] if need_weights else list(_FILES)
        folder = snapshot_download(
            hub_id, revision=revision, allow_patterns=patterns, ignore_patterns=list(_NEVER), local_files_only=local
        )
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        raise LookupError(f"no copy of {hub_id}, revision {revision}") from None
    except errors.RepositoryNotFoundError:
        raise LookupError("no such model, or it is private (hf auth login)") from None
    except (errors.RevisionNotFoundError, errors.EntryNotFoundError):
        raise LookupError(f"no revision {revision} of it with a {CONFIG}") from None
    except OSError as error:
        raise LookupError(f"failed ({error.strerror or type(error).__name__})") from None
    except Exception as error:  # the client passes on errors of its transport; their classes differ between versions
        raise LookupError(f"cannot be reached ({type(error).__name__})") from None
    return Path(folder)


def is_offline() -> bool:
    """Whether the user forbids requests to the hub."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in names)


def hub_cache_dir() -> Path:
    """The hub's local cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)
