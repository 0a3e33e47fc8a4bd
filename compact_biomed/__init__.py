"""Compact biomedical transformers: continual pretraining, distillation, evaluation.

Reproduces and extends "On the Effectiveness of Compact Biomedical Transformers"
(arXiv 2209.03182).
"""

__version__ = "0.1.0"
