"""Compact biomedical transformers: continual pretraining, distillation, evaluation, compression, use.

Reproduces and extends "On the Effectiveness of Compact Biomedical Transformers" (arXiv 2209.03182).

    from compact_biomed import load
    model = load("runs/tiny-NCBI-disease-seed1")
    model.entities("She was treated for ovarian cancer.")

`pretrain`, `distill`, `finetune`, `compress`, `score`, `export`, `push`, `load` and `predict` have the names and
defaults of the command line (docs/python.md).
"""

from importlib import import_module
from typing import Any

from compact_biomed.machine import keep_thread_limit, let_idle_threads_sleep
from compact_biomed.parameters import checked

# Before torch is loaded, which reads both.
let_idle_threads_sleep()
keep_thread_limit()

__version__ = "0.1.0"

# Public name -> where it is defined: module and name there.
_PUBLIC = {
    "compress": ("compression.distillation.compress", "compress_for_task"),
    "distill": ("training.interface", "distill"),
    "export": ("compression.export", "export"),
    "finetune": ("evaluation.api", "finetune"),
    "load": ("inference.model", "load"),
    "predict": ("inference.outputs", "predict"),
    "pretrain": ("training.interface", "pretrain"),
    "push": ("publish.push", "push"),
    "score": ("inference.scoring", "score"),
    "to_frame": ("inference.tables", "to_frame"),
    "use_threads": ("machine", "use_threads"),
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    # Public names load their module on first use, so that `--help` stays fast (PEP 562). Arguments are checked here,
    # once for all functions.
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    return checked(getattr(import_module(f"{__name__}.{module}"), attribute), name)
