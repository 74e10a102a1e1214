"""One frozen dataclass per verb: every setting, its default and its help, once.

Flags, TOML keys and `run.json` are derived from these fields (see `flags.py`); the field `batch_size` is the flag
`--batch-size` and the TOML key `batch_size`.
"""

from moderation.config.bundling import ExportConfig, ExportFormat, ScoreConfig, VerifyConfig
from moderation.config.evaluating import EvaluateConfig
from moderation.config.migrating import MigrateConfig
from moderation.config.serving import FeedbackConfig, KeysConfig, ServeConfig
from moderation.config.training import CheckConfig, TrainConfig, TuneConfig
from moderation.inference.options import Backend
from moderation.options import setting

__all__ = [
    "Backend",
    "CheckConfig",
    "EvaluateConfig",
    "ExportConfig",
    "ExportFormat",
    "FeedbackConfig",
    "KeysConfig",
    "MigrateConfig",
    "ScoreConfig",
    "ServeConfig",
    "TrainConfig",
    "TuneConfig",
    "VerifyConfig",
    "setting",
]
