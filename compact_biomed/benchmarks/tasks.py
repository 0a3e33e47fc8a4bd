"""The benchmarks: what each is, where its files lie, how it is scored. Nothing is read here."""

import os
from dataclasses import dataclass
from pathlib import Path

from compact_biomed.errors import UsageError, UserError

DATA_VARIABLE = "COMPACT_BIOMED_DATA"
REGISTRY = "registry"
_BIOBERT = "the datasets folder of github.com/dmis-lab/biobert (download.sh)"
_MTL = "github.com/cambridgeltl/MTL-Bioinformatics-2016, folder data (its tags carry a type; that is fine)"


@dataclass(frozen=True)
class Task:
    """One benchmark.

    Args:
        name: how records and tables call it.
        kind: a name in `kinds.KINDS`: examples, encoding, scores.
        version: raised when the same files would give other scores; tables never mix versions.
        place: folder below the data folder, `hub:OWNER/NAME[@REVISION][:CONFIG]`, or "registry" for
            what the package index carries.
        metric: the primary metric, a key of `Scores.metrics`.
        max_length: most word-pieces of an example, special tokens included.
        reader: a name in `readers.READERS`.
        folds: number of cross-validation folds (folders 1, 2, ...), 0 for fixed splits.
        edition: which of several sets in one folder, "7b" for BioASQ.
        sources: where the files are to be had.
    """

    name: str
    kind: str
    version: int
    place: str
    metric: str
    max_length: int
    reader: str
    folds: int = 0
    edition: str = ""
    sources: tuple[str, ...] = ()


def _ner(name: str, *sources: str) -> Task:
    return Task(name, "ner", 1, f"NER/{name}", "f1", 512, "ner", sources=sources or (_BIOBERT, _MTL))


def _folds(name: str) -> Task:
    return Task(name, "relation", 1, f"RE/{name}", "f1", 128, "folds", folds=10, sources=(_BIOBERT,))


def _bioasq(edition: str) -> Task:
    sources = (_BIOBERT, "participants-area.bioasq.org (after registration)")
    return Task(f"BioASQ-{edition}", "qa", 1, "QA/BioASQ", "mrr", 384, "bioasq", edition=edition, sources=sources)


_ALL = (
    _ner("NCBI-disease"),
    _ner("BC5CDR-disease"),
    _ner("BC5CDR-chem"),
    _ner("BC4CHEMD"),
    _ner("BC2GM"),
    _ner("JNLPBA"),
    _ner("linnaeus"),
    _ner("s800", _BIOBERT),
    _folds("GAD"),
    _folds("euadr"),
    Task(
        "CHEMPROT", "relation", 1, "RE/CHEMPROT", "f1", 256, "chemprot",
        sources=("github.com/ncbi-nlp/BLUE_Benchmark", "biocreative.bioinformatics.udel.edu (ChemProt), made by BLUE"),
    ),
    *(_bioasq(edition) for edition in ("4b", "5b", "6b", "7b")),
    Task(
        "PubMedQA", "classification", 1, "QA/PubMedQA", "accuracy", 512, "pubmedqa",
        sources=("github.com/pubmedqa/pubmedqa (ori_pqal.json, test_ground_truth.json)",),
    ),
    Task(
        "HoC", "multilabel", 1, "CLS/HoC", "f1", 512, "hoc",
        sources=("github.com/sb895/Hallmarks-of-Cancer, put into one table hoc.tsv",),
    ),
    Task(
        "BIOSSES", "regression", 1, "STS/BIOSSES", "pearson", 128, "biosses",
        sources=("github.com/gizemsogancioglu/biosses, put into one table biosses.tsv",),
    ),
    Task("MEDLINE-sections", "classification", 1, REGISTRY, "accuracy", 128, "sections"),
)  # fmt: skip
TASKS = {task.name: task for task in _ALL}
ALIASES = {"BioASQ": "BioASQ-7b", "LINNAEUS": "linnaeus", "Species-800": "s800", "EU-ADR": "euadr"}


def task_named(name: str) -> Task:
    """The task of that name or alias, case ignored.

    Raises:
        UsageError: there is none.
    """
    known = {each.lower(): task for each, task in TASKS.items()}
    known |= {alias.lower(): TASKS[each] for alias, each in ALIASES.items()}
    if name.lower() not in known:
        raise UsageError(f"no task {name!r}", where="--task", remedy=f"one of {', '.join(TASKS)}, or --ner-dir PATH")
    return known[name.lower()]


def ner_task_from_folder(path: Path | str) -> Task:
    """A task for any entity set: a folder with train, devel (or dev) and test, or `hub:OWNER/NAME`.

    The name in records is the folder's own.
    """
    place = str(path)
    if place.startswith("hub:"):
        return Task(place.removeprefix("hub:"), "ner", 1, place, "f1", 512, "hub_words")
    folder = Path(place).expanduser().resolve()
    if not folder.is_dir() or not folder.name:
        raise UserError(
            "no such folder", where=place, remedy="it holds train, devel and test (.tsv, .txt, .conll, .bio)"
        )
    return Task(folder.name, "ner", 1, str(folder), "f1", 512, "ner")


def find(task: Task, data: Path | str | None = None) -> Path | None:
    """The folder of a task's files; None for tasks whose place is the package index or the hub.

    Args:
        data: the data folder (`--data`); by default the one that `COMPACT_BIOMED_DATA` names.

    Raises:
        UserError: it is not there; says where to get it and where to put it.
    """
    if task.place == REGISTRY or task.place.startswith("hub:"):
        return None
    if Path(task.place).is_absolute():
        return Path(task.place)
    named = data if data is not None else os.environ.get(DATA_VARIABLE)
    get = " or ".join(task.sources) or "its publisher"
    if not named:
        remedy = f"get it from {get}, put it into DIR/{task.place} and name DIR by --data or {DATA_VARIABLE}"
        raise UserError(f"where the files of {task.name} are is not known", remedy=remedy)
    folder = Path(named).expanduser() / task.place
    if not folder.is_dir():
        raise UserError(f"no files of {task.name}", where=folder, remedy=f"get it from {get} and put it there")
    return folder
