"""`compact-biomed corpus decontaminate SOURCE... --against B...`: what of a corpus repeats which test set."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compact_biomed.flags import strict

if TYPE_CHECKING:
    from compact_biomed.corpus.decontaminate import Blocklist
    from compact_biomed.corpus.documents import DocumentStore

_DESCRIPTION = """\
Drop the documents that share 13 words in a row, or a whole test text of 8 to 12 words, with a benchmark's
test set, and count them by benchmark. Runs in more than 10 documents are formulas and drop none.
corpus build and the recipes do the same with --decontaminate-against.
"""


def add_parser(actions: argparse._SubParsersAction) -> None:
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
    parser.set_defaults(run=strict(parser, run))


def run(options: argparse.Namespace) -> int:
    """Do what the command line says; return the exit status."""
    from compact_biomed.console import say
    from compact_biomed.corpus.documents import build_documents
    from compact_biomed.corpus.export import export_jsonl
    from compact_biomed.evaluation.decontamination import blocklist_against

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
