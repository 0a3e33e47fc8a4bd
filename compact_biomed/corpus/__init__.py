"""Text in, a tokenized set out: readers, merging of updates, the held-out split, tokens.

`prepare` is the whole line; `build_documents` stops before the tokens.
"""

from compact_biomed._lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "Blocklist": "decontaminate",
        "Deletion": "document",
        "Document": "document",
        "DocumentStore": "documents",
        "TokenizedCorpus": "pipeline",
        "build_documents": "documents",
        "expand_sources": "sources",
        "is_heldout": "document",
        "prepare": "pipeline",
        "read_jsonl": "text_files",
        "read_medline": "medline",
        "read_sections": "medline",
        "read_text": "text_files",
    },
)
