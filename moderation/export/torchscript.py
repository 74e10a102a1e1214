"""The classifier as TorchScript: one file that torch alone runs, without transformers and without our code."""

import io
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from moderation.artifacts import write_atomically
from moderation.export.logits import example_inputs, traceable

MAIN_FILE = "torchscript/model.pt"


def write_torchscript(path: Path, model: PreTrainedModel) -> None:
    """Trace the model; called as `module(input_ids, attention_mask)`, it gives logits for any number of windows.

    Args:
        path: The `.pt` file.
        model: Left as it was.

    Raises:
        ArtifactError: the file cannot be written.
    """
    jit: Any = torch.jit
    content = io.BytesIO()  # on a full disk torch would end the process; and a file's name would become its content
    with traceable(model) as wrapper:
        jit.save(jit.trace(wrapper, example_inputs(), check_trace=False), content)
    with write_atomically(path) as temporary:
        temporary.write_bytes(content.getbuffer())
