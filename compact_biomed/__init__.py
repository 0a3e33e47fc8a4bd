"""Compact biomedical transformers: continual pretraining, distillation, evaluation, use.

Reproduces and extends "On the Effectiveness of Compact Biomedical Transformers"
(arXiv 2209.03182).

    from compact_biomed import load
    model = load("runs/tiny-NCBI-disease-seed1")
    model.entities("She was treated for ovarian cancer.")
"""

from compact_biomed._lazy import lazy_exports

__version__ = "0.1.0"

__getattr__, __all__ = lazy_exports(__name__, {"load": "inference"})
