"""Text and a fine-tuned model in, entities, classes and answers out; documents of any length in constant memory."""

from compact_biomed._lazy import lazy_exports

_WHERE = {"Answer": "texts", "Entity": "entities", "Label": "texts", "Model": "model", "Word": "words", "load": "model"}
__getattr__, __all__ = lazy_exports(__name__, _WHERE)
