"""Records -> everything that the manuscript in paper/ does not say in words: numbers, tables, sentences, pictures."""

from compact_biomed.report.manuscript.write import write_manuscript

__all__ = ["write_manuscript"]
