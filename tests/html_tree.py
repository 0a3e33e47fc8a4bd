"""HTML as a tree, strictly read: every element is closed in its turn."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta"}


@dataclass
class Node:
    """An element: its children are nodes and texts."""

    name: str
    attributes: dict[str, str | None]
    children: list["Node | str"] = field(default_factory=list)

    def all(self, name: str, class_: str | None = None) -> list["Node"]:
        """The elements of that name (and class) inside, in order."""
        return [
            node
            for node in self.walk()
            if node.name == name and (class_ is None or class_ in (node.attributes.get("class") or "").split())
        ]

    def walk(self) -> Iterator["Node"]:
        for child in self.children:
            if isinstance(child, Node):
                yield child
                yield from child.walk()

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Node("document", {})]

    def handle_starttag(self, name, attributes):
        assert len(dict(attributes)) == len(attributes), f"an attribute twice in {name}"
        node = Node(name, dict(attributes))
        self.open[-1].children.append(node)
        if name not in _VOID:
            self.open.append(node)

    def handle_endtag(self, name):
        assert self.open.pop().name == name, f"</{name}> closes something else, line {self.getpos()[0]}"

    def handle_data(self, data):
        self.open[-1].children.append(data)


def tree(text: str) -> Node:
    """The document of some HTML."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert len(reader.open) == 1, f"not closed: {[node.name for node in reader.open[1:]]}"
    return reader.open[0]
