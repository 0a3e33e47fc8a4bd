"""`compact-biomed corpus`: build a corpus, or drop the documents that repeat a benchmark's test set."""

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compact_biomed.cli.flags import strict

if TYPE_CHECKING:
    from compact_biomed.corpus.decontaminate import Blocklist
    from compact_biomed.corpus.documents import DocumentStore

# PubMed as of its 2025 baseline, rounded; used only for the estimate in the summary.
_PUBMED_CITATIONS, _PUBMED_FILES = 36_000_000, 1_200
_BUILD = """\
Read sources into documents, with updates applied, and with --tokenizer into a tokenized set.
Every finished step is cached: the same command continues after an interruption.
"""
_SOURCES = """\
sources (any number, of any kind):
  registry                real PubMed, 50,788 citations, from the package index
  nlm[:KIND][:SUBSET]     the National Library of Medicine: nlm, nlm:first:3, nlm:1-10,1298,
                          nlm:baseline, nlm:updatefiles:1275-1300
  hub:OWNER/NAME[@REVISION][:SPLIT][:COLUMN]
                          a data set of the Hugging Face hub
  a file, folder or glob  MEDLINE XML, JSON lines (title, abstract or text) or text (one document
                          per line), plain or gzipped; folders are searched recursively

examples:
  compact-biomed corpus build registry --tokenizer registry:all-minilm-l6-v2
  compact-biomed corpus build nlm --tokenizer distilbert-base-cased --out pubmed --skip-broken
"""
_DECONTAMINATE = """\
Drop the documents that share 13 consecutive words, or a complete test text of 8 to 12 words, with a
benchmark's test set, and count them per benchmark. Runs of words that occur in more than 10 documents are
common phrases and are ignored.

To do the same while building a corpus or running a recipe, use --decontaminate-against.
"""
_DECONTAMINATE_EXAMPLE = """\
example:
  compact-biomed corpus decontaminate registry --against all --data DIR --hits hits.jsonl
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `corpus` with its actions."""
    corpus = subparsers.add_parser("corpus", help="turn text into documents and a tokenized set with a held-out split")
    actions = corpus.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_build(actions)
    _add_decontaminate(actions)


def _add_build(actions: argparse._SubParsersAction) -> None:
    parser = actions.add_parser(
        "build",
        help="build a corpus",
        description=_BUILD,
        epilog=_SOURCES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("sources", nargs="+", metavar="SOURCE", help="see below")
    add("--tokenizer", metavar="T", help="hub name, folder, or registry:all-minilm-l6-v2")
    add("--out", type=Path, metavar="DIR", help="folder for the result (default: in the cache)")
    add("--max-length", type=int, default=256, metavar="N", help="maximum tokens per document (default: %(default)s)")
    add("--heldout", type=float, default=0.02, metavar="SHARE", help="held-out share (default: %(default)s)")
    _add_reading_flags(parser)
    add("--keep-title-only", action="store_true", help="keep citations without an abstract, as in the paper")
    add(
        "--decontaminate-against",
        nargs="+",
        metavar="B",
        help="drop documents that repeat test sets (see corpus decontaminate --help)",
    )
    add("--dry-run", action="store_true", help="list the files that would be read, and stop")
    parser.set_defaults(run=strict(parser, run_build))


def _add_decontaminate(actions: argparse._SubParsersAction) -> None:
    parser = actions.add_parser(
        "decontaminate",
        help="drop documents that repeat a benchmark's test set",
        description=_DECONTAMINATE,
        epilog=_DECONTAMINATE_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("sources", nargs="+", metavar="SOURCE", help="see corpus build --help")
    add("--against", nargs="+", required=True, metavar="B", help="names of tasks, folders of benchmark data, or all")
    add("--data", type=Path, metavar="DIR", help="data folder for all and for tasks (default: COMPACT_BIOMED_DATA)")
    add("--out", type=Path, metavar="DIR", help="write the remaining documents as JSON lines")
    add("--hits", type=Path, metavar="FILE", help="write the dropped documents and their shared passages as JSON lines")
    _add_reading_flags(parser)
    parser.set_defaults(run=strict(parser, run_decontaminate))


def _add_reading_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, metavar="N", help="number of processes (default: one per processor)")
    parser.add_argument("--skip-broken", action="store_true", help="report broken files and continue without them")


def run_build(options: argparse.Namespace) -> int:
    """Run `corpus build`; return the exit status."""
    if options.dry_run:
        return _dry_run(options)
    _check_outputs(options)
    return _build_tokenized(options) if options.tokenizer else _build_documents(options)


def _dry_run(options: argparse.Namespace) -> int:
    from compact_biomed.console import say, size
    from compact_biomed.corpus.documents import identify_all
    from compact_biomed.corpus.shards import find_shard
    from compact_biomed.workers import worker_count

    files = identify_all(options.sources)
    _say_table(
        f"Sources ({len(files)} files, {size(sum(file.size for file in files))}, "
        f"{worker_count(options.workers)} processes)",
        [
            (file.source.name, f"{file.source.kind}, {size(file.size)}, {'cached' if find_shard(file) else 'to read'}")
            for file in files
        ],
    )
    say("\nNothing was built. To build, run the command without --dry-run.")
    return 0


def _check_outputs(options: argparse.Namespace) -> None:
    """Check before the work that its results can be written."""
    from compact_biomed.files import require_writable, require_writable_at

    if options.out:
        Path(options.out).exists()  # raises an error for a name that is too long
        require_writable(Path(options.out).parent)
    if getattr(options, "hits", None):
        require_writable_at(options.hits)


def _build_documents(options: argparse.Namespace) -> int:
    from compact_biomed.console import say
    from compact_biomed.corpus.documents import build_documents, export_jsonl

    store = build_documents(
        options.sources, workers=options.workers, skip_broken=options.skip_broken, blocklist=_blocklist(options)
    )
    path, left_out = None, 0
    if options.out:
        path, left_out = export_jsonl(store, options.out, require_abstract=not options.keep_title_only)
    _say_counts(store.merged.counts | {"without_abstract": left_out}, store.broken)
    _say_speed(store.parsed, store.seconds, options.workers, len(store.files))
    if path:
        say(f"\nDocuments: {path}")
    else:
        say("\nThe documents are in the cache. To write them as JSON lines, add --out DIR.")
    command = f"compact-biomed corpus build {shlex.join(options.sources)} --tokenizer registry:all-minilm-l6-v2"
    say(f"\nnext: tokenize them\n  {command}")
    return 0


def _build_tokenized(options: argparse.Namespace) -> int:
    from compact_biomed.console import count, say
    from compact_biomed.corpus.build import prepare
    from compact_biomed.models.checkpoints import load_tokenizer

    corpus = prepare(
        options.sources,
        load_tokenizer(options.tokenizer),
        max_length=options.max_length,
        heldout_fraction=options.heldout,
        require_abstract=not options.keep_title_only,
        workers=options.workers,
        skip_broken=options.skip_broken,
        out=options.out,
        blocklist=_blocklist(options),
    )
    record = corpus.record
    _say_counts(record["documents"], {s["name"]: s["skipped"] for s in record["sources"] if "skipped" in s})
    rows = []
    for split in ("train", "heldout"):
        counts = record[split]
        value = f"{counts['documents']:>10,} documents, {count(counts['tokens'])} tokens"
        if counts["truncated"]:
            value += f", {counts['truncated']:,} cut at {record['settings']['max_length']} tokens"
        rows.append((f"{split}:", value))
    _say_table("Tokenized set", rows)
    _say_speed(corpus.parsed, corpus.seconds, options.workers, len(record["sources"]))
    say(f"\nTokenized set: {corpus.folder}")
    command = f"compact-biomed recipe biomobilebert_cl --sources {shlex.join(options.sources)} --dry-run"
    say(f"\nnext: show what training on these sources would cost\n  {command}")
    return 0


def _blocklist(options: argparse.Namespace) -> "Blocklist | None":
    if not options.decontaminate_against:
        return None
    from compact_biomed.benchmarks.test_sets import blocklist_against

    return blocklist_against(options.decontaminate_against)


def run_decontaminate(options: argparse.Namespace) -> int:
    """Run `corpus decontaminate`; return the exit status."""
    from compact_biomed.benchmarks.test_sets import blocklist_against
    from compact_biomed.console import say
    from compact_biomed.corpus.documents import build_documents, export_jsonl

    _check_outputs(options)
    blocklist = blocklist_against(options.against, options.data)
    store = build_documents(
        options.sources, workers=options.workers, skip_broken=options.skip_broken, blocklist=blocklist
    )
    _say_overlaps(store.screened.record)
    say(f"\n{len(store):,} documents remain.")
    if options.hits:
        _write_hits(store, blocklist, options.hits)
        say(f"Dropped documents: {options.hits}")
    if options.out:
        say(f"Documents: {export_jsonl(store, options.out)[0]}")
    else:
        say("\nnext: add --out DIR to write the remaining documents, --hits FILE to see what was dropped")
    return 0


def _say_overlaps(record: dict[str, Any]) -> None:
    from compact_biomed.console import say

    _say_table(
        f"{record['documents']:,} documents dropped; per benchmark (some overlap several):",
        [
            (name, f"{counts['documents']:>7,} documents, compared with {counts['texts']:,} test texts")
            for name, counts in record["benchmarks"].items()
        ],
    )
    if record["common_runs"]:
        say(
            f"  ignored {record['common_runs']:,} shared runs of words that occur in more than "
            f"{record['most_documents']} documents"
        )


def _write_hits(store: "DocumentStore", blocklist: "Blocklist", path: Path) -> None:
    from compact_biomed.files import atomic_file

    with atomic_file(path) as temporary, open(temporary, "w", encoding="utf-8") as out:
        for document, benchmarks in store.contaminated():
            hit = {"pmid": document.pmid, "year": document.year, "benchmarks": benchmarks}
            out.write(json.dumps({**hit, "passages": blocklist.passages(document.text)}, ensure_ascii=False) + "\n")


def _say_counts(counts: dict[str, int], broken: dict[str, str]) -> None:
    rows = [
        ("read:", f"{counts['citations']:>10,} citations"),
        ("replaced:", f"{counts['replaced']:>10,} by newer versions"),
        ("deleted:", f"{counts['deleted']:>10,} by update files"),
        ("duplicates:", f"{counts['duplicates']:>10,} equal texts without PMID"),
    ]
    if counts.get("contaminated"):
        rows.append(("contaminated:", f"{counts['contaminated']:>10,} repeat a benchmark's test set"))
    rows.append(("kept:", f"{counts['kept']:>10,} documents"))
    if counts.get("without_abstract"):
        note = f"{counts['without_abstract']:>10,} of these are left out; to keep them, add --keep-title-only"
        rows.append(("no abstract:", note))
    rows += [("skipped:", f"{message}") for message in broken.values()]
    _say_table("Documents", rows)


def _say_speed(parsed: int, seconds: float, workers: int | None, n_files: int) -> None:
    from compact_biomed.console import duration
    from compact_biomed.workers import worker_count

    if not parsed:
        _say_table("Speed", [("time:", f"{duration(seconds)} (already built)")])
        return
    cores = min(worker_count(workers), n_files)  # one process reads a file
    rate = parsed / seconds
    rows = [
        ("time:", duration(seconds)),
        ("rate:", f"{rate:,.0f} citations/s, {rate / cores:,.0f} per process"),
    ]
    if parsed >= 1000:
        estimate = (
            f"about {duration(_PUBMED_CITATIONS / rate)} at this rate ({_PUBMED_CITATIONS / 1e6:.0f} M citations in "
            f"{_PUBMED_FILES:,}+ files, {cores} process{'es' if cores > 1 else ''})"
        )
        rows.append(("all of PubMed:", estimate))
    _say_table("Speed", rows)


def _say_table(heading: str, rows: list[tuple[str, str]]) -> None:
    """Print a heading and aligned rows of (label, value)."""
    from compact_biomed.console import say

    say(heading)
    width = max((len(label) for label, _ in rows), default=0)
    for label, value in rows:
        say(f"  {label:<{width}} {value}")
