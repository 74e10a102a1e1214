"""Settings of a model that decides, as every verb that loads a bundle declares them; light enough for `--help`."""

from moderation.forms import BackendName

Backend = BackendName

THRESHOLDS_HELP = (
    "file of thresholds to decide by: thresholds.json, the JSON that the server's page copies, or "
    '{"LABEL": NUMBER}; labels that are not in it keep the bundle\'s'
)
THRESHOLD_HELP = "one or more thresholds, such as toxic=0.8; they override --thresholds and the bundle's"
