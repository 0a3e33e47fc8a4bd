"""`compact-biomed corpus build SOURCE...`: its flags, its steps and its summary."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compact_biomed.cli.flags import strict

if TYPE_CHECKING:
    from compact_biomed.corpus.build import DocumentStore, TokenizedCorpus
    from compact_biomed.corpus.decontaminate import Blocklist

# ----------------------------------------------------------------------------------------------------
# `compact-biomed corpus decontaminate SOURCE... --against B...`: what of a corpus repeats which test set.


_DESCRIPTION = """\
Drop the documents that share 13 words in a row, or a whole test text of 8 to 12 words, with a benchmark's
test set, and count them by benchmark. Runs in more than 10 documents are formulas and drop none.
corpus build and the recipes do the same with --decontaminate-against.
"""


def add_decontaminate(actions: argparse._SubParsersAction) -> None:
    """Declare the action `decontaminate`."""
    parser = actions.add_parser(
        "decontaminate",
        help="drop documents that repeat a benchmark's test set",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("sources", nargs="+", metavar="SOURCE", help="as of corpus build")
    add("--against", nargs="+", required=True, metavar="B", help="names of tasks, folders of benchmark data, or all")
    add("--data", type=Path, metavar="DIR", help="folder of all and of named tasks (default: COMPACT_BIOMED_DATA)")
    add("--out", type=Path, metavar="DIR", help="write the documents that are left as JSON lines")
    add("--hits", type=Path, metavar="FILE", help="write what was dropped, and the passages shared, as JSON lines")
    add("--workers", type=int, metavar="N", help="processes (default: one for each processor)")
    add("--skip-broken", action="store_true", help="name broken files and go on without them")
    parser.set_defaults(run=strict(parser, run_decontaminate))


def run_decontaminate(options: argparse.Namespace) -> int:
    """Do what the command line says; return the exit status."""
    from compact_biomed.benchmarks.test_sets import blocklist_against
    from compact_biomed.console import say
    from compact_biomed.corpus.build import build_documents, export_jsonl

    blocklist = blocklist_against(options.against, options.data)
    say(f"{sum(blocklist.texts):,} test texts of {len(blocklist.benchmarks)} benchmarks")
    store = build_documents(
        options.sources, workers=options.workers, skip_broken=options.skip_broken, blocklist=blocklist
    )
    say_decontamination(store.screened.record)
    say(f"{len(store):,} documents are left")
    if options.hits:
        _write_hits(store, blocklist, options.hits)
        say(f"what was dropped: {options.hits}")
    if options.out:
        say(f"documents: {export_jsonl(store, options.out)}")
    return 0


def say_decontamination(record: dict[str, Any]) -> None:
    """The counts by benchmark."""
    from compact_biomed.console import say

    say(f"{record['documents']:,} documents dropped; by benchmark (some touch several):")
    for name, found in record["benchmarks"].items():
        say(f"  {name:<20} {found['documents']:>7,}  of {found['texts']:,} test texts")
    if record["common_runs"]:
        most = record["most_documents"]
        say(f"  {record['common_runs']:,} shared runs of words stand in more than {most} documents: ignored")


def _write_hits(store: "DocumentStore", blocklist: "Blocklist", path: Path) -> None:
    import json

    from compact_biomed.files import atomic_file

    with atomic_file(path) as temporary, open(temporary, "w", encoding="utf-8") as out:
        for document, benchmarks in store.contaminated():
            hit = {"pmid": document.pmid, "year": document.year, "benchmarks": benchmarks}
            out.write(json.dumps({**hit, "passages": blocklist.passages(document.text)}, ensure_ascii=False) + "\n")


# PubMed as of its 2025 baseline, rounded; only the estimate in the summary uses them.
PUBMED_CITATIONS, PUBMED_FILES = 36_000_000, 1_200
_EPILOG = """\
sources (any number, mixed):
  registry                real PubMed, 50,788 citations, by way of the package index
  nlm[:KIND][:SUBSET]     the National Library of Medicine: nlm, nlm:first:3, nlm:1-10,1298,
                          nlm:baseline, nlm:updatefiles:1275-1300
  hub:OWNER/NAME[@REVISION][:SPLIT][:COLUMN]
                          a data set of the Hugging Face hub
  a file, folder or glob  MEDLINE XML, JSON lines (title, abstract or text), text (one document a
                          line), plain or gzipped; folders are searched through

examples:
  compact-biomed corpus build registry --tokenizer registry:all-minilm-l6-v2
  compact-biomed corpus build nlm --tokenizer distilbert-base-cased --out pubmed --skip-broken
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `corpus`."""
    corpus = subparsers.add_parser("corpus", help="text -> documents -> a tokenized set with a held-out split")
    actions = corpus.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser(
        "build",
        help="build a corpus",
        description="Read sources into documents (updates applied), and with --tokenizer into a tokenized set. "
        "What was finished is kept: the same command goes on from there, or ends at once.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    build.add_argument("sources", nargs="+", metavar="SOURCE", help="see below")
    build.add_argument("--tokenizer", metavar="T", help="hub name, folder, or registry:all-minilm-l6-v2")
    build.add_argument("--out", type=Path, metavar="DIR", help="folder for the result (default: in the cache)")
    build.add_argument("--max-length", type=int, default=256, metavar="N", help="tokens a document (default 256)")
    build.add_argument("--heldout", type=float, default=0.02, metavar="SHARE", help="held-out share (default 0.02)")
    build.add_argument("--workers", type=int, metavar="N", help="processes (default: one for each processor)")
    build.add_argument("--skip-broken", action="store_true", help="name broken files and go on without them")
    build.add_argument("--keep-title-only", action="store_true", help="keep citations without abstract, as the paper")
    build.add_argument(
        "--decontaminate-against",
        nargs="+",
        metavar="B",
        help="drop documents that repeat a test set (see decontaminate)",
    )
    build.add_argument("--dry-run", action="store_true", help="say what would be read, and stop")
    build.set_defaults(run=strict(build, run))
    add_decontaminate(actions)


def run(options: argparse.Namespace) -> int:
    """Do what the command line says; return the exit status."""
    if options.dry_run:
        return _dry_run(options)
    return _tokenized(options) if options.tokenizer else _documents(options)


def _dry_run(options: argparse.Namespace) -> int:
    from compact_biomed.console import say, size
    from compact_biomed.corpus.pool import worker_count
    from compact_biomed.corpus.shards import find_shard, identify
    from compact_biomed.corpus.sources import expand_sources

    files = [identify(source) for source in expand_sources(options.sources)]
    for file in files:
        state = "read before" if find_shard(file) else "to read"
        say(f"  {file.source.name}  {file.source.kind}, {size(file.size)}, {state}")
    say(f"{len(files)} files, {size(sum(file.size for file in files))}, {worker_count(options.workers)} workers")
    say("nothing was built (--dry-run)")
    return 0


def _documents(options: argparse.Namespace) -> int:
    from compact_biomed.console import say
    from compact_biomed.corpus.build import build_documents, export_jsonl

    store = build_documents(
        options.sources, workers=options.workers, skip_broken=options.skip_broken, blocklist=_blocklist(options)
    )
    _say_counts(store.merged.counts, store.broken)
    _say_rate(store.parsed, store.seconds, options.workers, len(store.files), "reading")
    if options.out:
        path = export_jsonl(store, options.out)
        say(f"documents: {path}")
    else:
        say("the documents are in the cache; --out DIR writes them as JSON lines")
    say(f"next: add --tokenizer, for instance\n  {_again(options)} --tokenizer registry:all-minilm-l6-v2")
    return 0


def _tokenized(options: argparse.Namespace) -> int:
    from compact_biomed.console import say
    from compact_biomed.corpus.build import prepare
    from compact_biomed.models.checkpoints import resolve_tokenizer

    corpus = prepare(
        options.sources,
        resolve_tokenizer(options.tokenizer),
        max_length=options.max_length,
        heldout_fraction=options.heldout,
        require_abstract=not options.keep_title_only,
        workers=options.workers,
        skip_broken=options.skip_broken,
        out=options.out,
        blocklist=_blocklist(options),
    )
    say_corpus(corpus, options.workers)
    say("next: train on it, for instance\n  python recipes/biomobilebert_cl.py --dry-run")
    return 0


def _blocklist(options: argparse.Namespace) -> "Blocklist | None":
    if not options.decontaminate_against:
        return None
    from compact_biomed.benchmarks.test_sets import blocklist_against

    return blocklist_against(options.decontaminate_against)


def say_corpus(corpus: "TokenizedCorpus", workers: int | None) -> None:
    """The summary of a tokenized set: counts, rate, where it lies."""
    from compact_biomed.console import count, say

    record = corpus.record
    _say_counts(record["documents"], {s["name"]: s["skipped"] for s in record["sources"] if "skipped" in s})
    for split in ("train", "heldout"):
        found = record[split]
        cut = f", {found['truncated']:,} cut at {record['settings']['max_length']}" if found["truncated"] else ""
        say(f"{split:>8}: {found['documents']:,} documents, {count(found['tokens'])} tokens{cut}")
    _say_rate(corpus.parsed, corpus.seconds, workers, len(record["sources"]), "sources to tokens")
    say(f"tokenized set: {corpus.folder}")


def _say_counts(counts: dict[str, int], broken: dict[str, str]) -> None:
    from compact_biomed.console import say

    say(
        f"{counts['citations']:,} citations read: {counts['replaced']:,} replaced by newer ones, "
        f"{counts['deleted']:,} deleted, {counts['duplicates']:,} duplicates, {counts['kept']:,} kept"
    )
    if counts.get("contaminated"):
        say(f"  {counts['contaminated']:,} left out: they repeat a benchmark's test set")
    if counts.get("without_abstract"):
        say(f"  {counts['without_abstract']:,} of these left out: no abstract (--keep-title-only keeps them)")
    for line in broken.values():
        say(f"  left out, broken: {line}")


def _say_rate(parsed: int, seconds: float, workers: int | None, n_files: int, what: str) -> None:
    from compact_biomed.console import duration, say
    from compact_biomed.corpus.pool import worker_count

    if not parsed:
        say(f"found made, in {duration(seconds)}")
        return
    cores = min(worker_count(workers), n_files)  # a file is one process's work
    rate = parsed / seconds
    say(f"{what}: {duration(seconds)}, {rate:,.0f} citations/s, {rate / cores:,.0f} a core")
    if parsed >= 1000:
        say(
            f"  at this rate all of PubMed ({PUBMED_CITATIONS / 1e6:.0f} M citations, {PUBMED_FILES:,}+ files) "
            f"takes about {duration(PUBMED_CITATIONS / rate)} on {cores} process{'es' if cores > 1 else ''}"
        )


def _again(options: argparse.Namespace) -> str:
    import shlex

    return "compact-biomed corpus build " + shlex.join(options.sources)
