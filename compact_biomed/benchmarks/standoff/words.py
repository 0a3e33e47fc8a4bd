"""Turn annotated documents into sentences of words with IOB2 tags, and such sentences into documents.

A model tags words, and each word once. So mentions are extended to whole words, those in several parts are read from
the first to the last, and of overlapping ones the longest is kept. Each change is counted.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from compact_biomed.benchmarks.examples import WordsExample
from compact_biomed.benchmarks.standoff.documents import AnnotatedDocument, Mention, count
from compact_biomed.benchmarks.standoff.sentences import Spans, is_tokenized, split_sentences
from compact_biomed.benchmarks.tags import UNTYPED, entity_ranges
from compact_biomed.corpus.pieces import trimmed

_IN_WORD = str.maketrans(" \t\r\n", "\u00a0" * 4)


@dataclass(frozen=True)
class WordRules:
    """How the texts of a set become words. Dev and test need the rules of train.

    Args:
        tokenized: blanks separate all words, and line breaks the sentences; else see `sentences`.
        bare: the only type of the set is "Entity", so tags are a bare B and I.
    """

    tokenized: bool
    bare: bool


@dataclass(frozen=True)
class Sentences:
    """Sentences of words with tags.

    Args:
        examples: in the order of the file.
        documents: the id of the document that each sentence belongs to; None if the file does not say.
        rules: how texts became words; None for a file of words.
    """

    examples: list[WordsExample]
    documents: list[str] | None
    rules: WordRules | None = None


def rules_of(documents: Sequence[AnnotatedDocument]) -> WordRules:
    """Return the rules that fit documents."""
    types = {mention.type for document in documents for mention in document.mentions}
    return WordRules(is_tokenized(document.text for document in documents), types == {UNTYPED})


def to_sentences(
    documents: Sequence[AnnotatedDocument],
    split: str,
    repairs: dict[str, int],
    rules: WordRules | None = None,
) -> Sentences:
    """Split documents into sentences of words with IOB2 tags; the same text gives the same words in each format.

    Args:
        split: "train", "dev" or "test"; keys are "train/0", "train/1", ...
        repairs: description of what was changed or left out -> how often; added to.
        rules: of the set; None: those of these documents.
    """
    rules = rules or rules_of(documents)
    counts: dict[str, int] = {}
    examples: list[WordsExample] = []
    ids: list[str] = []
    for document in documents:
        for words, tags in tagged_sentences(document, rules, counts):
            examples.append(WordsExample(f"{split}/{len(examples)}", words, tags))
            ids.append(document.id)
    if rules.tokenized:
        count(counts, "documents whose words are separated by blanks, sentences by line breaks", len(documents))
    for what, number in counts.items():
        count(repairs, f"{split}: {what}", number)
    return Sentences(examples, ids if all(ids) else None, rules)


def tagged_documents(
    documents: Iterable[AnnotatedDocument], rules: WordRules, counts: dict[str, int]
) -> Iterator[tuple[str | None, list[tuple[tuple[str, ...], tuple[str, ...]]]]]:
    """Yield the id and the `tagged_sentences` of each document; no ids (None) if each document is one sentence."""
    documents = list(documents)
    tagged = [list(tagged_sentences(document, rules, counts)) for document in documents]
    divided = any(len(sentences) > 1 for sentences in tagged)
    for document, sentences in zip(documents, tagged, strict=True):
        yield document.id if divided else None, sentences


def tagged_sentences(
    document: AnnotatedDocument, rules: WordRules, counts: dict[str, int]
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Yield the words and the IOB2 tags of each sentence of a document.

    Args:
        counts: description of what was changed or left out -> how often; added to.
    """
    text = document.text
    sentences = split_sentences(text, tokenized=rules.tokenized)
    words = [word for sentence in sentences for word in sentence]
    tags = ["O"] * len(words)
    for first, last, mention in _without_overlaps(_word_ranges(document, words, counts), counts):
        kind = "" if rules.bare and mention.type == UNTYPED else f"-{_one_word(mention.type, counts)}"
        tags[first : last + 1] = [f"B{kind}"] + [f"I{kind}"] * (last - first)
    for start, end in _joined_sentences(sentences, tags, counts):
        yield tuple(text[s:e] for s, e in words[start:end]), tuple(tags[start:end])


def _word_ranges(
    document: AnnotatedDocument, words: Spans, counts: dict[str, int]
) -> Iterator[tuple[int, int, Mention]]:
    """Yield (first word, last word, mention) of every mention."""
    starts, ends = [start for start, _ in words], [end for _, end in words]
    for mention in document.mentions:
        start, end = trimmed(document.text, mention.start, mention.end)
        gaps = (document.text[before[1] : after[0]] for before, after in pairwise(mention.fragments))
        count(counts, "mentions in several parts, read from the first to the last", any(map(str.strip, gaps)))
        count(counts, "mentions with white space at their ends, left out of them", (start, end) != mention.span)
        first, last = bisect_right(ends, start), bisect_left(starts, end) - 1
        if first > last:
            count(counts, "mentions without a word, left out")
            continue
        count(counts, "mentions that cut words, extended to whole words", starts[first] < start or end < ends[last])
        yield first, last, mention


def _without_overlaps(
    ranges: Iterable[tuple[int, int, Mention]], counts: dict[str, int]
) -> Iterator[tuple[int, int, Mention]]:
    """Yield the ranges that are kept: of overlapping ones the longest, of equally long ones the first."""
    by_length = sorted(ranges, key=lambda each: (each[2].start - each[2].end, each[2].start))
    taken: dict[int, tuple[int, int, str]] = {}
    for first, last, mention in by_length:
        here = (first, last, mention.type)
        others = {taken[word] for word in range(first, last + 1) if word in taken}
        if others:
            twice = here in others
            count(counts, "mentions given twice, one left out" if twice else "overlapping mentions, shorter left out")
            continue
        taken |= dict.fromkeys(range(first, last + 1), here)
        yield first, last, mention


def _joined_sentences(
    sentences: Sequence[Spans], tags: Sequence[str], counts: dict[str, int]
) -> Iterator[tuple[int, int]]:
    """Yield (first word, word behind the last) of each sentence; those that share a mention are one."""
    start = end = 0
    for sentence in sentences:
        if end > start and tags[end][0] != "I":
            yield start, end
            start = end
        elif end > start:
            count(counts, "sentences joined, as a mention crosses their boundary")
        end += len(sentence)
    if end > start:
        yield start, end


def _one_word(kind: str, counts: dict[str, int]) -> str:
    """Return a type as tags can spell it."""
    word = "_".join(kind.split()) or UNTYPED
    count(counts, "mentions of a type with white space, written with _", word != kind)
    return word


# ---- Words -> documents


def from_words(
    examples: Sequence[WordsExample], ids: Sequence[str] | None = None, counts: dict[str, int] | None = None
) -> list[AnnotatedDocument]:
    """Return documents with blanks between words and line breaks between sentences; `to_sentences` is the way back.

    Args:
        ids: the document that each sentence belongs to; None: every sentence is a document.
        counts: description of what was changed -> how often; added to.
    """
    counts = {} if counts is None else counts
    ids = [example.key.replace("/", "-") for example in examples] if ids is None else ids
    pairs = groupby(zip(ids, examples, strict=True), key=lambda pair: pair[0])
    return [_document(name, [example for _, example in group], counts) for name, group in pairs]


def _document(name: str, sentences: list[WordsExample], counts: dict[str, int]) -> AnnotatedDocument:
    lines, mentions, offset = [], [], 0
    for sentence in sentences:
        words = [word.translate(_IN_WORD) for word in sentence.words]
        changed = sum(a != b for a, b in zip(words, sentence.words, strict=True))
        count(counts, "words with a blank inside, written with a no-break space", changed)
        starts = []
        for word in words:
            starts.append(offset)
            offset += len(word) + 1
        for first, last, kind in entity_ranges(sentence.tags):
            fragments = ((starts[first], starts[last] + len(words[last])),)
            mentions.append(Mention(f"T{len(mentions) + 1}", kind or UNTYPED, fragments))
        lines.append(" ".join(words))
    return AnnotatedDocument(name, "\n".join(lines), tuple(mentions), where=sentences[0].key)
