"""Text -> windows -> tokens -> logits -> decisions; ONNX and OpenVINO forms need no torch."""
