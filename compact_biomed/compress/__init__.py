"""A checkpoint made smaller: exported to ONNX, quantized to int8."""
