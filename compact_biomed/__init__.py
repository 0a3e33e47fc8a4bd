"""Compact biomedical transformers: continual pretraining, distillation, evaluation, use.

Reproduces and extends "On the Effectiveness of Compact Biomedical Transformers" (arXiv 2209.03182).

    from compact_biomed import load
    model = load("runs/tiny-NCBI-disease-seed1")
    model.entities("She was treated for ovarian cancer.")
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public name -> the module that defines it.
_MODULE_OF = {
    "distill": "compact_biomed.training.interface",
    "load": "compact_biomed.inference.model",
    "pretrain": "compact_biomed.training.interface",
}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    # Public names load their module on first use, so that `--help` stays fast (PEP 562).
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)
