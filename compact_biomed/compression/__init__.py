"""Make a model smaller: distill it for one task, prune it, export it to ONNX, quantize it to int8."""
