"""How fast and how large, side by side with the published way."""

VARIANTS = ("torch-fp32", "torch-bf16", "onnx-fp32", "onnx-int8")
