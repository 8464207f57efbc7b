"""Export: a trained generator as one ONNX file (needs torch and onnx)."""
