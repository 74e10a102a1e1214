"""Text -> windows -> tokens -> logits -> decisions, without torch on the ONNX path."""
