import logging
import shutil

import numpy as np
import pandas as pd
import pytest
from datasets import Features, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertTokenizerLegacy

from moderation.data.encoding import default_cache_dir, df_to_hfds
from moderation.errors import ConfigError, DataError
from moderation.labels import JIGSAW_LABELS
