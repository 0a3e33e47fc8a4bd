"""Read annotated text of one's own: entities in any format of `standoff`, and relations between them.

A relation becomes a sentence in which its two entities are replaced by placeholders, @CHEMICAL$ and @GENE$, as in GAD
and CHEMPROT, with its type as the class. Pairs of entities in a sentence without a relation are of the class `NONE`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from compact_biomed.benchmarks.examples import Part, TextExample
from compact_biomed.benchmarks.readers.rows import Rows
from compact_biomed.benchmarks.standoff.documents import AnnotatedDocument, Mention, Relation, count
from compact_biomed.benchmarks.standoff.formats import read_documents, read_sentences
from compact_biomed.benchmarks.standoff.sentences import split_sentences
from compact_biomed.benchmarks.standoff.tokens import to_examples
from compact_biomed.benchmarks.standoff.words import WordRules, rules_of
from compact_biomed.errors import UserError

NONE = "no_relation"
_ACROSS = "relations between different sentences, left out"
_OTHER_ARGUMENTS = "relations without two different entities as arguments, and events, left out"
_SEVERAL = "further relations of the same two entities, left out"
_SELF = "pairs of overlapping entities, left out"


@dataclass
class OfTrain:
    """What dev and test take over from train.

    Args:
        rules: how texts become words.
        pairs: types of two entities between which there are relations, in alphabetical order.
    """

    rules: WordRules | None = None
    pairs: set[tuple[str, str]] = field(default_factory=set)


def entities_of(place: str, form: str, split: str, repairs: dict[str, int], train: OfTrain, column: int = -1) -> Part:
    """Read sentences of words with tags.

    Args:
        form: one of `standoff.formats.ALL`.
        repairs: description of what was changed -> how often; added to.
        train: is filled if this is train.
        column: of the tag in columns.
    """
    sentences = read_sentences(place, split, repairs, form, column=column, rules=train.rules)
    train.rules = train.rules or sentences.rules
    return Part(sentences.examples, sentences.documents or [None] * len(sentences.examples))


def entities_of_rows(rows: Rows, columns: Mapping[str, str], split: str, repairs: dict[str, int]) -> Part:
    """Read sentences from a table with a list of tokens and a list of tags per row."""
    listed = [
        (where, *(list(row.get(columns[role]) or ()) for role in ("tokens", "tags")))
        for row, where in zip(rows.rows, rows.where, strict=True)
    ]
    examples, places = to_examples(listed, split, split, repairs)
    if "document" not in columns:
        return Part(examples, [None] * len(examples))
    named = {where: str(row.get(columns["document"])) for row, where in zip(rows.rows, rows.where, strict=True)}
    return Part(examples, [named[where] for where in places])


# ---- relations


def relations_of(place: str, form: str, split: str, repairs: dict[str, int], train: OfTrain) -> Part:
    """Read the pairs of entities of each sentence, as texts with two placeholders.

    Only pairs of types between which train has a relation are read.

    Args:
        form: one of `standoff.formats.FORMATS`.
        repairs, train: as in `entities_of`.
    """
    counts: dict[str, int] = {}
    documents = read_documents(place, form, repairs=counts)
    related = [_related(document, counts) for document in documents]
    if not train.pairs:
        train.pairs = {
            _types(document, pair) for document, labels in zip(documents, related, strict=True) for pair in labels
        }
    if not train.pairs:
        raise UserError("no relation between two entities", where=place, remedy="--kind ner, or annotate relations")
    train.rules = train.rules or rules_of(documents)
    part = Part([], [])
    for number, (document, labels) in enumerate(zip(documents, related, strict=True)):
        name = document.id or f"{split}/{number}"
        inside = 0
        for key, text, pair in _pairs(document, train.rules.tokenized, train.pairs, counts):
            inside += pair in labels
            part.examples.append(TextExample(f"{name}/{key}", text, None, labels.get(pair, NONE)))
            part.documents.append(name)
        count(counts, _ACROSS, sum(_types(document, pair) in train.pairs for pair in labels) - inside)
    for what, n in counts.items():
        count(repairs, f"{split}: {what}", n)
    return part


_Pair = tuple[int, int]  # indices of two mentions of a document, the smaller first


def _related(document: AnnotatedDocument, counts: dict[str, int]) -> dict[_Pair, str]:
    """Return the type of the relation of two mentions; of two concepts, all their mentions are related."""
    index = {id(mention): number for number, mention in enumerate(document.mentions)}
    labels: dict[_Pair, str] = {}
    for relation in document.relations:
        pairs = {_ordered(index[id(a)], index[id(b)]) for a, b in _arguments(document, relation) if a is not b}
        count(counts, _OTHER_ARGUMENTS, not pairs)
        for pair in sorted(pairs):
            count(counts, _SEVERAL, labels.setdefault(pair, relation.type) != relation.type)
    return labels


def _arguments(document: AnnotatedDocument, relation: Relation) -> Iterator[tuple[Mention, Mention]]:
    targets = {target for _, target in relation.arguments}
    if relation.trigger or len(relation.arguments) != 2 or len(targets) != 2:
        return
    first, second = (document.resolve(target) for _, target in relation.arguments)
    yield from ((a, b) for a in first for b in second)


def _ordered(a: int, b: int) -> _Pair:
    return (a, b) if a < b else (b, a)


def _types(document: AnnotatedDocument, pair: _Pair) -> tuple[str, str]:
    first, second = sorted(document.mentions[each].type for each in pair)
    return first, second


def _pairs(
    document: AnnotatedDocument, tokenized: bool, types: set[tuple[str, str]], counts: dict[str, int]
) -> Iterator[tuple[str, str, _Pair]]:
    """Yield (key, marked sentence, pair) of each two mentions that are in one sentence."""
    sentences = [(words[0][0], words[-1][1]) for words in split_sentences(document.text, tokenized=tokenized)]
    for start, end in sentences:
        inside = [
            number for number, mention in enumerate(document.mentions) if start <= mention.start and mention.end <= end
        ]
        for pair in combinations(inside, 2):
            if _types(document, pair) not in types:
                continue
            first, second = sorted((document.mentions[each] for each in pair), key=lambda mention: mention.start)
            if second.start < first.end:
                count(counts, _SELF)
                continue
            key = "-".join(document.mentions[each].id or str(document.mentions[each].start) for each in pair)
            yield key, _marked(document.text, start, end, (first, second)), pair


def _marked(text: str, start: int, end: int, mentions: Sequence[Mention]) -> str:
    parts, at = [], start
    for mention in mentions:
        parts += [text[at : mention.start], placeholder(mention.type)]
        at = mention.end
    return "".join([*parts, text[at:end]])


def placeholder(kind: str) -> str:
    """Return what stands for an entity of a type, "@GENE$": letters and hyphens alone, as in `corpus.pieces.MASK`."""
    letters = re.sub(r"[^A-Z]+", "-", kind.upper()).strip("-")
    return f"@{letters or 'ENTITY'}$"
