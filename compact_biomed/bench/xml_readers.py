"""Compare this project's MEDLINE reader with pubmed_parser's: explain every difference, and time both in turns.

A difference counts as explained only if it can be rebuilt: our text, changed by one or more of `RULES`, must equal the
library's to the character (white space aside).
"""

import gzip
import itertools
import platform
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lxml import etree

from compact_biomed.bench import peak_memory
from compact_biomed.console import progress, say
from compact_biomed.corpus.document import Deletion, normalize
from compact_biomed.corpus.medline import NO_TITLE, read_medline, unescaped
from compact_biomed.corpus.streams import read_blocks
from compact_biomed.errors import UserError
from compact_biomed.files import sha256_file

# What the library does otherwise.
RULES = {
    "label_line": "a section's label is on a line by itself, without a colon",
    "empty_section": "a section without text still prints its label",
    "single_label": "an abstract with one section loses its label",
    "one_level": "markup inside markup is dropped with its text (an index in italics, all of MathML)",
    "untranslated": "[Not Available]. is a title",
    "as_escaped": "references and markup that were escaped once too often stay as they are",
    "no_sections": "an Abstract without AbstractText is replaced by its whole text, copyright included",
}
PARTS = ("title", "abstract")


def compare_readers(files: Sequence[Path], rounds: int = 3) -> dict[str, Any]:
    """Return the whole comparison as one JSON object.

    Args:
        rounds: turns of each reader that are timed.

    Raises:
        UserError: pubmed_parser is not installed.
    """
    try:
        installed = version("pubmed_parser")
    except PackageNotFoundError:
        raise UserError("not installed", where="pubmed_parser", remedy="pip install pubmed_parser==0.5.1") from None
    differences = explain_differences(files)
    speed = time_in_turns(_COUNT, files, rounds)
    ratios = [ours / library for ours, library in zip(speed["ours"], speed["pubmed_parser"], strict=True)]
    return {
        "what": "MEDLINE XML to documents: pubmed_parser beside our reader",
        "files": [{"name": path.name, "sha256": sha256_file(path), "bytes": path.stat().st_size} for path in files],
        "differences": differences,
        "citations_per_s_a_core": speed,
        "ratio": statistics.median(ratios),
        "peak_memory_mb": {name: round(peak_memory(_read_all, name, list(files)) / 1e6, 1) for name in _COUNT},
        "library_on_bad_input": library_on_bad_input(),
        "machine": {"processor": platform.processor() or platform.machine(), "python": platform.python_version()},
        "versions": {"pubmed_parser": installed, "lxml": version("lxml")},
    }


def explain_differences(files: Sequence[Path]) -> dict[str, Any]:
    """Compare PMIDs, titles and abstracts of all citations, in order.

    Returns:
        Counts of citations; per part, counts by cause ("equal", "one_level + label_line", "unexplained"); all
        unexplained differences, with the PMIDs of the first ten; deletions that either reader reports; and the
        citations for which the library gives the PMID's version.
    """
    causes: dict[str, Counter] = {part: Counter() for part in PARTS}
    counts = {"citations": 0, "pmids_differ": 0, "deletions_ours": 0, "deletions_library": 0, "versions_library": 0}
    unexplained: list[int] = []
    for path in files:
        deletions = {"ours": 0, "library": 0}
        library_items = _citations(_library(path), lambda item: item["delete"], deletions, "library")
        our_items = _citations(_with_elements(path), lambda item: isinstance(item[0], Deletion), deletions, "ours")
        both = itertools.zip_longest(our_items, library_items)
        for ours, library in progress(both, desc=path.name, unit=" citations"):
            if ours is None or library is None:
                counts["pmids_differ"] += 1
                continue
            document, article = ours
            counts["citations"] += 1
            counts["pmids_differ"] += str(document.pmid) != library["pmid"].strip()
            counts["versions_library"] += "version" in library
            for part in PARTS:
                cause = _explain(part, getattr(document, part), library[part], article)
                causes[part][cause or "unexplained"] += 1
                if cause is None:
                    unexplained.append(document.pmid)
        for name, number in deletions.items():
            counts[f"deletions_{name}"] += number
    return {
        **counts,
        **{part: dict(counter.most_common()) for part, counter in causes.items()},
        "unexplained": len(unexplained),
        "unexplained_pmids": unexplained[:10],
        "rules": RULES,
    }


def _explain(part: str, ours: str, library: str, article: etree._Element) -> str | None:
    """Return the smallest set of rules that turns our text into the library's; None if there is none."""
    if ours == library:
        return "equal"
    library = normalize(library)
    if ours == library:
        return "white space"
    for size in range(1, len(RULES) + 1):
        for rules in itertools.combinations(RULES, size):
            if rebuilt(part, article, set(rules)) == library:
                return " + ".join(rules)
    return None


def rebuilt(part: str, article: etree._Element, rules: set[str]) -> str:
    """Return the title or abstract of an `Article` element under some of `RULES`; under none, our own text."""
    if part == "title":
        title = "".join(_text(element, rules) for element in article.iterfind("ArticleTitle"))
        if NO_TITLE.fullmatch(title) and "untranslated" not in rules:
            return "".join(_text(element, rules) for element in article.iterfind("VernacularTitle"))
        return title
    sections = article.findall("Abstract/AbstractText")
    if not sections and "no_sections" in rules:
        return "".join(_text(element, rules) for element in article.iterfind("Abstract"))
    pieces = []
    for section in sections:
        text, label = _text(section, rules), _cleaned(section.get("Label", ""), rules)
        label = label if "label_line" in rules else label.rstrip(" :")
        if len(sections) == 1 and "single_label" in rules:
            label = ""
        if text or (len(sections) > 1 and "empty_section" in rules):
            colon = "" if "label_line" in rules else ":"
            pieces.append(f"{label}{colon} {text}" if label else text)
    return normalize(" ".join(pieces))


def _text(element: etree._Element, rules: set[str]) -> str:
    if "one_level" not in rules:
        return _cleaned("".join(element.itertext()), rules)
    parts = [element.text, *itertools.chain.from_iterable((child.text, child.tail) for child in element)]
    return _cleaned("".join(filter(None, parts)), rules)


def _cleaned(text: str, rules: set[str]) -> str:
    return normalize(text) if "as_escaped" in rules else unescaped(text)


def _citations(items: Iterable, is_deletion: Callable[[Any], bool], deletions: dict[str, int], name: str) -> Iterator:
    """Yield the items that are not deletions and count the others under `name`."""
    for item in items:
        if is_deletion(item):
            deletions[name] += 1
        else:
            yield item


def _with_elements(path: Path) -> Iterator[tuple[Any, etree._Element | None]]:
    """Yield what our reader yields, each citation with its `Article` element from a second, plain pass."""
    articles = _articles(path)
    for item in read_medline(path):
        yield item, None if isinstance(item, Deletion) else next(articles)


def _articles(path: Path) -> Iterator[etree._Element]:
    parser = etree.XMLPullParser(events=("end",), tag="PubmedArticle", resolve_entities=False, no_network=True)
    for block in read_blocks(path):
        parser.feed(block)
        for _, record in parser.read_events():
            yield record.find("MedlineCitation/Article")
            record.clear()


def time_in_turns(
    readers: dict[str, Callable[[Path], int]], files: Sequence[Path], rounds: int
) -> dict[str, list[float]]:
    """Return citations per second of processor time, per round.

    The readers take turns, so that a busy spell of the machine hits all alike.

    Args:
        readers: name -> function that reads a file and returns the number of its citations.
    """
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for number in range(rounds):
        for name, reader in readers.items():
            start = time.process_time()
            citations = sum(reader(path) for path in files)
            rates[name].append(round(citations / (time.process_time() - start), 1))
            say(f"  round {number + 1} of {rounds}: {name} {rates[name][-1]:,.0f} citations/s per core")
    return rates


def _library(path: Path) -> Iterable[dict[str, Any]]:
    import pubmed_parser

    return pubmed_parser.parse_medline_xml(str(path))


def _count_ours(path: Path) -> int:
    return sum(not isinstance(item, Deletion) for item in read_medline(path))


def _count_library(path: Path) -> int:
    return sum(not item["delete"] for item in _library(path))


_COUNT = {"ours": _count_ours, "pubmed_parser": _count_library}


def _read_all(name: str, files: Sequence[Path]) -> None:
    for path in files:
        _COUNT[name](path)


_ARTICLE = (
    "<PubmedArticle><MedlineCitation><PMID>1</PMID><Article>"
    "<Journal><JournalIssue><PubDate><Year>2001</Year></PubDate></JournalIssue></Journal>"
    "<ArticleTitle>{}</ArticleTitle></Article></MedlineCitation></PubmedArticle>"
)


def library_on_bad_input() -> dict[str, str]:
    """Return what the library does with small files that are harmful or damaged: an error's name, or the outcome."""
    entity = '<!DOCTYPE PubmedArticleSet [<!ENTITY e "from an entity">]>'
    good = f"<PubmedArticleSet>{_ARTICLE.format('Title')}</PubmedArticleSet>".encode()
    # The padding keeps the citation within the part of the packed file that is left.
    padded = good.replace(b"</PubmedArticleSet>", b"<!--" + bytes(range(65, 91)) * 400 + b"--></PubmedArticleSet>")
    cases = {
        "internal entity": gzip.compress(
            f"{entity}<PubmedArticleSet>{_ARTICLE.format('&e;')}</PubmedArticleSet>".encode()
        ),
        "plain XML": good,
        "gzip cut off": gzip.compress(padded)[:-12],
        "not PubMed": gzip.compress(b"<html><body/></html>"),
    }
    outcomes = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, content in cases.items():
            path = Path(folder) / "case.xml.gz"
            path.write_bytes(content)
            try:
                titles = [item["title"] for item in _library(path)]
                expanded = any("from an entity" in title for title in titles)
                outcomes[name] = "entity expanded into the title" if expanded else f"{len(titles)} citations, no error"
            except Exception as error:  # any error that the library lets through is a result
                outcomes[name] = type(error).__name__
    return outcomes
