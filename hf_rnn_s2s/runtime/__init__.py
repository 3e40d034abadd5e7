"""Exported models: graphs of the encoder and of a whole decoder step, which ONNX Runtime computes."""
