"""Which engines a bundle can be run by, as settings name them; light, so that `--help` needs no engine."""

from typing import Literal

Backend = Literal["auto", "openvino", "onnx-int8", "onnx", "torch", "torchscript"]
