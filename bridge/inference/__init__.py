"""Inference: generator and discriminator in ONNX Runtime."""
