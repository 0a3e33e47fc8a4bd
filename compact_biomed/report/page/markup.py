"""HTML and SVG elements in which everything is escaped that is not itself an element."""

import html
from collections.abc import Iterable


class Markup(str):
    """Text that is HTML already."""


def element(name: str, *children: str, **attributes: str | float | bool | None) -> Markup:
    """An element; children that are no `Markup` are text.

    Args:
        attributes: `data_cell` is written data-cell, `class_` class; True stands without a value, None and False
            are left out.
    """
    return Markup(f"<{name}{_attributes(attributes)}>{join(children)}</{name}>")


def join(parts: Iterable[str], between: str = "") -> Markup:
    """Parts one after the other, text escaped."""
    return Markup(between.join(part if isinstance(part, Markup) else html.escape(part) for part in parts))


def _attributes(attributes: dict[str, str | float | bool | None]) -> str:
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        name = key.rstrip("_").replace("_", "-")
        written.append(f" {name}" if value is True else f' {name}="{html.escape(_text(value))}"')
    return "".join(written)


def _text(value: str | float) -> str:
    """Numbers without digits that nobody sees: pixels to a hundredth."""
    return f"{round(value, 2):g}" if isinstance(value, float) else str(value)
