"""One HTML page of results that needs nothing beside it."""

from compact_biomed.report.page.page import page, page_of

__all__ = ["page", "page_of"]
