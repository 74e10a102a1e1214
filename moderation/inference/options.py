"""Settings that every verb that loads a bundle declares; imports little, so that `--help` is quick."""

from moderation.forms import BackendName

Backend = BackendName

THRESHOLDS_HELP = (
    "file of thresholds: thresholds.json, the JSON copied from the server's page, or "
    '{"LABEL": NUMBER}; labels that it does not name keep the bundle\'s'
)
THRESHOLD_HELP = "one or more thresholds, such as toxic=0.8; they override --thresholds and the bundle's"
