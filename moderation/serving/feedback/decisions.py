"""Moderators' decisions, without the database that keeps them: the server can answer without one."""

from dataclasses import dataclass

from moderation.errors import ArtifactError

WAIT_S = 5
"""Seconds that a decision waits for the database: for a connection, for a lock, or for PostgreSQL's answer."""


class OutcomeUnknownError(ArtifactError):
    """A decision may or may not be stored: the database was told to commit it, and has not confirmed that."""


@dataclass(frozen=True)
class Decision:
    """What a moderator decided about a text.

    Args:
        text: The text; its hash is always kept.
        keep_text: Whether the text itself is kept too.
        attribute_scores: Attribute -> score in [0, 1], as the client sent it.
        label_scores: The same, by the model's label for each attribute.
        languages: ISO 639-1 codes that the client named, or the one detected.
        model_version: Of the model that served at that time.
        model_scores: Label -> probability from that model; None: unknown.
        community_id: Where the text was posted, as the client calls it.
        client_token: The client's own name for its request.
    """

    text: str
    keep_text: bool
    attribute_scores: dict[str, float]
    label_scores: dict[str, float]
    languages: tuple[str, ...]
    model_version: str
    model_scores: dict[str, float] | None = None
    community_id: str | None = None
    client_token: str | None = None


@dataclass(frozen=True)
class StoredDecision:
    """A decision as read from the database, without its text.

    Args:
        id: Increases with each decision.
        text_sha256: Of the text's UTF-8, 64 hex digits.
        has_text: Whether the text was kept.
        label_scores: Label -> score in [0, 1].
        community_id: Where the text was posted, as the client calls it.
        client_token: The client's own name for its request.
    """

    id: int
    text_sha256: str
    has_text: bool
    label_scores: dict[str, float]
    community_id: str | None = None
    client_token: str | None = None
