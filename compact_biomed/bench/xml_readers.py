"""Our MEDLINE reader beside pubmed_parser's: every difference explained, both timed in turns.

A difference counts as explained only if it can be made: our text, rebuilt under one or
more of the rules in `RULES`, must equal the library's to the character (white space aside).
"""

import argparse
import gzip
import itertools
import platform
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from lxml import etree

from compact_biomed.console import progress, say
from compact_biomed.corpus.document import Deletion, normalize
from compact_biomed.corpus.medline import read_medline
from compact_biomed.corpus.registry import medline_sample
from compact_biomed.corpus.streams import read_blocks
from compact_biomed.errors import UserError
from compact_biomed.files import sha256_file, write_json
from compact_biomed.machine import own_peak_memory

# What the library does otherwise, one name a rule.
RULES = {
    "label_line": "a section's label stands on a line of its own, without a colon",
    "empty_section": "a section without text still prints its label",
    "single_label": "an abstract of one section loses its label",
    "one_level": "markup inside markup is dropped with its text (an index in italics, all of MathML)",
    "no_sections": "an Abstract without AbstractText is replaced by all that stands in it, copyright included",
}


def run(options: argparse.Namespace) -> int:
    """Compare and time the two readers; print a summary and write the record."""
    record = compare_readers(options.files or _sample(), options.rounds)
    if options.json:
        write_json(options.json, record)
        say(f"record: {options.json}")
    return 1 if record["differences"]["unexplained"] else 0


def compare_readers(files: Sequence[Path], rounds: int = 3) -> dict[str, Any]:
    """The whole comparison as one JSON object; progress goes to the terminal.

    Raises:
        UserError: pubmed_parser is not installed.
    """
    try:
        installed = version("pubmed_parser")
    except PackageNotFoundError:
        raise UserError("not installed", where="pubmed_parser", remedy="pip install pubmed_parser==0.5.1") from None
    differences = explain_differences(files)
    speed = time_in_turns({"ours": _count_ours, "pubmed_parser": _count_library}, files, rounds)
    record = {
        "what": "MEDLINE XML to documents: pubmed_parser beside our reader",
        "files": [{"name": path.name, "sha256": sha256_file(path), "bytes": path.stat().st_size} for path in files],
        "differences": differences,
        "citations_per_s_a_core": {name: speed[name] for name in speed},
        "ratio": statistics.median(
            ours / theirs for ours, theirs in zip(speed["ours"], speed["pubmed_parser"], strict=True)
        ),
        "peak_memory_mb": {name: _peak_memory(name, files) for name in speed},
        "library_on_bad_input": library_on_bad_input(),
        "machine": {"processor": platform.processor() or platform.machine(), "python": platform.python_version()},
        "versions": {"pubmed_parser": installed, "lxml": version("lxml")},
    }
    _summarize(record)
    return record


def explain_differences(files: Sequence[Path]) -> dict[str, Any]:
    """Compare PMIDs, titles and abstracts of all citations, in order.

    Returns:
        Counts: citations, equal, by rules ("one_level + label_line": n), unexplained
        (with the PMIDs of the first ten), deletions that either reader reports, and
        for how many citations the library tells the PMID's version.
    """
    causes: dict[str, Counter] = {"title": Counter(), "abstract": Counter()}
    found = {"citations": 0, "pmids_differ": 0, "deletions_ours": 0, "deletions_library": 0, "versions_library": 0}
    unexplained: list[int] = []
    for path in files:
        deletions = {"ours": 0, "library": 0}
        theirs = _citations(_library(path), lambda item: item["delete"], deletions, "library")
        ours_all = _citations(_with_elements(path), lambda item: isinstance(item[0], Deletion), deletions, "ours")
        both = itertools.zip_longest(ours_all, theirs)
        for mine, other in progress(both, desc=path.name, unit=" citations"):
            if mine is None or other is None:
                found["pmids_differ"] += 1
                continue
            ours, citation = mine
            found["citations"] += 1
            found["pmids_differ"] += str(ours.pmid) != other["pmid"].strip()
            found["versions_library"] += "version" in other
            for part in causes:
                cause = _explain(part, getattr(ours, part), other[part], citation)
                causes[part][cause or "unexplained"] += 1
                if cause is None:
                    unexplained.append(ours.pmid)
        for name, number in deletions.items():
            found[f"deletions_{name}"] += number
    return {
        **found,
        **{part: dict(counter.most_common()) for part, counter in causes.items()},
        "unexplained": len(unexplained),
        "unexplained_pmids": unexplained[:10],
        "rules": RULES,
    }


def _explain(part: str, ours: str, theirs: str, article: etree._Element) -> str | None:
    """The smallest set of rules under which our text becomes the library's."""
    if ours == theirs:
        return "equal"
    theirs = normalize(theirs)
    if ours == theirs:
        return "white space"
    for size in range(1, len(RULES) + 1):
        for rules in itertools.combinations(RULES, size):
            if rebuilt(part, article, set(rules)) == theirs:
                return " + ".join(rules)
    return None


def rebuilt(part: str, article: etree._Element, rules: set[str]) -> str:
    """Title or abstract of an `Article` element under some of `RULES`; under none, our own text."""
    if part == "title":
        return "".join(_text(element, rules) for element in article.iterfind("ArticleTitle"))
    sections = article.findall("Abstract/AbstractText")
    if not sections and "no_sections" in rules:
        return "".join(_text(element, rules) for element in article.iterfind("Abstract"))
    pieces = []
    for section in sections:
        text, label = _text(section, rules), normalize(section.get("Label", ""))
        if len(sections) == 1 and "single_label" in rules:
            label = ""
        if text or (len(sections) > 1 and "empty_section" in rules):
            colon = "" if "label_line" in rules else ":"
            pieces.append(f"{label}{colon} {text}" if label else text)
    return normalize(" ".join(pieces))


def _text(element: etree._Element, rules: set[str]) -> str:
    if "one_level" not in rules:
        return normalize("".join(element.itertext()))
    parts = [element.text, *itertools.chain.from_iterable((child.text, child.tail) for child in element)]
    return normalize("".join(filter(None, parts)))


def _citations(items: Iterable, is_deletion: Callable[[Any], bool], deletions: dict[str, int], name: str) -> Iterator:
    """The items that are not deletions; the others are counted under `name`."""
    for item in items:
        if is_deletion(item):
            deletions[name] += 1
        else:
            yield item


def _with_elements(path: Path) -> Iterator[tuple[Any, etree._Element | None]]:
    """What our reader yields, each citation with its `Article` element from a second, plain reading."""
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
    """Citations a second of processor time, reader by reader in turns, so that a busy spell hits all alike."""
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for number in range(rounds):
        for name, reader in readers.items():
            start = time.process_time()
            citations = sum(reader(path) for path in files)
            rates[name].append(round(citations / (time.process_time() - start), 1))
            say(f"round {number + 1}: {name} {rates[name][-1]:,.0f} citations/s a core")
    return rates


def _library(path: Path) -> Iterable[dict[str, Any]]:
    import pubmed_parser

    return pubmed_parser.parse_medline_xml(str(path))


def _count_ours(path: Path) -> int:
    return sum(not isinstance(item, Deletion) for item in read_medline(path))


def _count_library(path: Path) -> int:
    return sum(not item["delete"] for item in _library(path))


def _peak_memory(name: str, files: Sequence[Path]) -> float:
    """Peak resident memory in MB of reading all files, in a process of its own."""
    reader = {"ours": _count_ours, "pubmed_parser": _count_library}[name]
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (reader, list(files)))


def _measure(reader: Callable[[Path], int], files: Sequence[Path]) -> float:
    for path in files:
        reader(path)
    return round(own_peak_memory() / 1e6, 1)


_ARTICLE = (
    "<PubmedArticle><MedlineCitation><PMID>1</PMID><Article>"
    "<Journal><JournalIssue><PubDate><Year>2001</Year></PubDate></JournalIssue></Journal>"
    "<ArticleTitle>{}</ArticleTitle></Article></MedlineCitation></PubmedArticle>"
)


def library_on_bad_input() -> dict[str, str]:
    """What the library makes of small files that are harmful or damaged: an error's name, or the outcome."""
    entity = '<!DOCTYPE PubmedArticleSet [<!ENTITY e "from an entity">]>'
    good = f"<PubmedArticleSet>{_ARTICLE.format('Title')}</PubmedArticleSet>".encode()
    # Random-looking text, so that half of the packed file still holds the citation.
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
            except Exception as error:  # whatever the library lets through is the finding
                outcomes[name] = type(error).__name__
    return outcomes


def _sample() -> list[Path]:
    return medline_sample()


def _summarize(record: dict[str, Any]) -> None:
    found = record["differences"]
    say(f"{found['citations']:,} citations; {found['pmids_differ']} PMIDs differ")
    for part in ("title", "abstract"):
        say(f"  {part}s: " + ", ".join(f"{cause} {n:,}" for cause, n in found[part].items()))
    say(f"unexplained: {found['unexplained']}")
    say(f"ours reads {record['ratio']:.1f} times as fast; peak memory {record['peak_memory_mb']} MB")
