"""Tokens and tags as JSON Lines, as data sets of the Hugging Face hub have them.

    {"tokens": ["Fever", "after", "aspirin"], "ner_tags": ["B-Disease", "O", "B-Chemical"]}

Tags may also be whole numbers, whose names are then given. "document" names the document of a sentence, where one has
several.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from compact_biomed.benchmarks.examples import WordsExample
from compact_biomed.benchmarks.standoff.documents import AnnotatedDocument, count
from compact_biomed.benchmarks.standoff.objects import read_objects
from compact_biomed.benchmarks.standoff.words import Sentences, WordRules, tagged_documents
from compact_biomed.benchmarks.tags import in_scheme, is_tag, to_iob2
from compact_biomed.errors import UserError

TOKEN_KEYS = ("tokens", "words")
_DOCUMENT = "document"
TAG_KEYS = ("ner_tags", "tags", "labels", "ner")


def keys_of(content: object) -> tuple[str, str] | None:
    """Return the keys of the tokens and of the tags of an object; None if it lacks either."""
    if not isinstance(content, Mapping):
        return None
    found = [next((key for key in keys if isinstance(content.get(key), list)), None) for keys in (TOKEN_KEYS, TAG_KEYS)]
    return (found[0], found[1]) if found[0] and found[1] else None


def read_tokens(path: Path, split: str, repairs: dict[str, int], names: Sequence[str] | None = None) -> Sentences:
    """Return the sentences of a file; add what was corrected to `repairs`.

    Args:
        split: "train", "dev" or "test": the first part of each example's key.
        repairs: description of what was corrected -> how often.
        names: of tags that are whole numbers, in order.

    Raises:
        UserError: not JSON, no tokens or tags, as many of one as of the other, or (with the line) an unknown tag.
    """
    rows: list[tuple[str, list[str], list[Any]]] = []
    documents: dict[str, str] = {}
    for where, content in read_objects(path):
        keys = keys_of(content)
        if keys is None:
            remedy = 'write {"tokens": [...], "ner_tags": [...]} per line'
            raise UserError("no tokens and ner_tags", where=where, remedy=remedy)
        rows.append((where, content[keys[0]], content[keys[1]]))
        if content.get(_DOCUMENT) is not None:
            documents[where] = str(content[_DOCUMENT])
    examples, places = to_examples(rows, split, split, repairs, names)
    if not examples:
        raise UserError("no sentence", where=path, remedy='write {"tokens": [...], "ner_tags": [...]} per line')
    known = documents.keys() >= set(places)
    return Sentences(examples, [documents[place] for place in places] if known else None)


def to_examples(
    rows: Iterable[tuple[str, list[str], list[Any]]],
    split: str,
    name: str,
    repairs: dict[str, int],
    names: Sequence[str] | None = None,
) -> tuple[list[WordsExample], list[str]]:
    """Return the sentences of rows, and the place of each; rows without tokens are left out.

    Args:
        rows: place, tokens, tags.
        split: the first part of each example's key.
        name: of the split in `repairs`.
        names: of tags that are whole numbers.

    Raises:
        UserError: not as many tags as tokens, a tag that is none, or two schemes.
    """
    places, words, tags = [], [], []
    for where, row_words, row_tags in rows:
        if not row_words:
            continue
        kept = [
            (word, tag)
            for word, tag in zip(row_words, _named(row_words, row_tags, names, where), strict=True)
            if word.strip()
        ]
        count(repairs, f"{name}: words of white space alone, left out", len(row_words) - len(kept))
        if kept:
            places.append(where)
            words.append(tuple(word for word, _ in kept))
            tags.append([tag for _, tag in kept])
    normalized = to_iob2(tags, lambda s, w: places[s])
    count(repairs, f"{name}: entities that began with I", normalized.repaired)
    if normalized.scheme != "IOB2":
        count(repairs, f"{name}: sentences written in {normalized.scheme}", len(words))
    examples = [
        WordsExample(f"{split}/{number}", sentence, tuple(row))
        for number, (sentence, row) in enumerate(zip(words, normalized.tags, strict=True))
    ]
    return examples, places


def _named(words: list[str], tags: list[Any], names: Sequence[str] | None, where: str) -> list[str]:
    if (number := next((n for n, word in enumerate(words) if not isinstance(word, str)), None)) is not None:
        what = f"tokens[{number}] is not text: {json.dumps(words[number], default=str)[:40]}"
        raise UserError(what, where=where, remedy="write a text")
    if len(tags) != len(words):
        raise UserError(
            f"{len(words)} tokens and {len(tags)} tags: the tags do not match the tokens",
            where=where,
            remedy="write one tag per token",
        )
    if names is not None and all(type(tag) is int and 0 <= tag < len(names) for tag in tags):
        tags = [names[tag] for tag in tags]
    for tag in tags:
        if not isinstance(tag, str):
            known = f"there are {len(names)} names" if names is not None else "no names are given"
            raise UserError(
                f"the tag {tag!r} has no name: {known}", where=where, remedy="write tags by name: O, B-TYPE, I-TYPE"
            )
        if not is_tag(tag):
            remedy = "use O, or one of B I E S L U, alone or followed by - and a type"
            raise UserError(f"unknown tag {tag!r}", where=where, remedy=remedy)
    return tags


# ---- out


def lines(
    documents: Sequence[AnnotatedDocument], rules: WordRules, scheme: str, left_out: dict[str, int]
) -> Iterator[str]:
    """Yield the line of each sentence, with its document unless each document is one sentence.

    Args:
        rules: how the texts become words.
        scheme: of the tags, a key of `tags.SCHEMES`.
        left_out: description of what was changed or left out -> how often; added to.
    """
    for name, sentences in tagged_documents(documents, rules, left_out):
        document = {} if name is None else {_DOCUMENT: name}
        for words, tags in sentences:
            row = {**document, "tokens": list(words), "ner_tags": in_scheme(tags, scheme)}
            yield json.dumps(row, ensure_ascii=False)
