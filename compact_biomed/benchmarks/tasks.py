"""The benchmarks: what each is, where its files are, and how it is scored. Nothing is read here.

To add a benchmark, add a `Task` to `_ALL`. If its files have the format of another benchmark, name that
benchmark's reader; otherwise write a function (task, folder, fold) -> Splits in `readers/` and add it to
`READERS` there. Data of your own need neither: pass them as --train (`benchmarks.own`).
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compact_biomed.errors import UsageError, UserError, no_folder

DATA_VARIABLE = "COMPACT_BIOMED_DATA"
REGISTRY = "registry"
MEMORY = "memory"  # the place of data that no file has
_ZERO_SHOT = " (zero-shot)"
_BIOBERT = "the datasets folder of github.com/dmis-lab/biobert (download.sh)"
_MTL = "github.com/cambridgeltl/MTL-Bioinformatics-2016, folder data (its tags have a type, which is accepted)"
# The classes of "no relation": "0" in GAD and EU-ADR, "false" in CHEMPROT, the others in sets of one's own. Correct
# ones earn nothing, and F1 leaves them out.
_NO_RELATION = ("0", "false", "none", "no", "null", "negative", "no_relation", "no-relation", "no relation")
NEGATIVE = tuple(
    spelled for name in _NO_RELATION for spelled in sorted({name, name.capitalize(), name.upper(), name.title()})
)


class InMemory:
    """Examples that a Python program hands over: rows of one split, compared and hashed by identity.

    Args:
        rows: one dictionary per example, column -> value.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]):
        self.rows = rows

    def __str__(self) -> str:
        return MEMORY


@dataclass(frozen=True)
class Files:
    """Where the examples of a user's own task are, and how they are written, as `benchmarks.own.own_task` found out.

    Args:
        train: a file, a folder of documents, `hub:OWNER/NAME`, or rows in memory; None = a model that was fine-tuned
            on other data is scored on `test`.
        dev, test: likewise; None = held out of train.
        format: a key of `readers.own.FORMATS`.
        columns: (role, column) pairs, such as ("label", "topic"); a role that is missing is not in the data.
        split_seed: of the draw that holds out dev or test.
    """

    train: str | InMemory | None = None
    dev: str | InMemory | None = None
    test: str | InMemory | None = None
    format: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    split_seed: int = 0

    def recorded(self) -> dict[str, Any]:
        """Return the fields as a record holds them, from which `own.task_of_record` makes the task again."""
        parts = {name: getattr(self, name) for name in ("train", "dev", "test")}
        places = {name: str(part) for name, part in parts.items() if part is not None}
        return places | {"format": self.format, "columns": dict(self.columns), "split_seed": self.split_seed}


@dataclass(frozen=True)
class Task:
    """A benchmark, or a task of a user's own.

    Args:
        name: its name in records and tables.
        kind: "ner", "relation", "classification", "multilabel", "regression", "qa" or "similarity" (nothing is
            trained): a key of `evaluation.kinds.KINDS`, which defines encoding, head and scores.
        version: raise it when the same files would give other scores; tables never mix versions.
        place: folder below the data folder, `hub:OWNER/NAME[@REVISION][:CONFIG]`, or "registry" for data
            from the package index.
        metric: the primary metric, a key of `Scores.metrics`.
        max_length: maximum word-pieces per example, special tokens included.
        reader: a key of `readers.READERS`.
        folds: number of cross-validation folds (folders 1, 2, ...), 0 for fixed splits.
        edition: which of several sets in one folder, "7b" for BioASQ.
        sources: where to get the files.
        pairs: whether an example is a pair of texts.
        files: where a user's own data are; None for a benchmark, whose reader knows its files.
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
    pairs: bool = False
    files: Files | None = None

    @property
    def untrained(self) -> bool:
        """Whether an encoder is scored as it is, so that there is no training set and no seed."""
        return self.kind == "similarity"

    @property
    def test_alone(self) -> bool:
        """Whether there are test examples alone, to score a model that was fine-tuned on others."""
        return self.files is not None and self.files.train is None


def _ner(name: str, *sources: str) -> Task:
    return Task(name, "ner", 1, f"NER/{name}", "f1", 512, "ner", sources=sources or (_BIOBERT, _MTL))


def _relation_folds(name: str) -> Task:
    return Task(name, "relation", 1, f"RE/{name}", "f1", 128, "folds", folds=10, sources=(_BIOBERT,))


def _bioasq(edition: str) -> Task:
    sources = (_BIOBERT, "participants-area.bioasq.org (after registration)")
    return Task(f"BioASQ-{edition}", "qa", 1, "QA/BioASQ", "mrr", 384, "bioasq", edition=edition, sources=sources)


_CHEMPROT_SOURCES = (
    "github.com/ncbi-nlp/BLUE_Benchmark",
    "biocreative.bioinformatics.udel.edu (ChemProt), converted by BLUE",
)
_PUBMEDQA_SOURCES = ("github.com/pubmedqa/pubmedqa (ori_pqal.json, test_ground_truth.json)",)
_HOC_SOURCES = ("github.com/sb895/Hallmarks-of-Cancer, converted to one table hoc.tsv",)
_BIOSSES_SOURCES = ("github.com/gizemsogancioglu/biosses, converted to one table biosses.tsv",)
_ALL = (
    _ner("NCBI-disease"),
    _ner("BC5CDR-disease"),
    _ner("BC5CDR-chem"),
    _ner("BC4CHEMD"),
    _ner("BC2GM"),
    _ner("JNLPBA"),
    _ner("linnaeus"),
    _ner("s800", _BIOBERT),
    _relation_folds("GAD"),
    _relation_folds("euadr"),
    Task("CHEMPROT", "relation", 1, "RE/CHEMPROT", "f1", 256, "chemprot", sources=_CHEMPROT_SOURCES),
    *(_bioasq(edition) for edition in ("4b", "5b", "6b", "7b")),
    Task(
        "PubMedQA",
        "classification",
        1,
        "QA/PubMedQA",
        "accuracy",
        512,
        "pubmedqa",
        sources=_PUBMEDQA_SOURCES,
        pairs=True,
    ),
    Task("HoC", "multilabel", 1, "CLS/HoC", "f1", 512, "hoc", sources=_HOC_SOURCES),
    Task(
        "BIOSSES",
        "regression",
        2,
        "STS/BIOSSES",
        "pearson",
        128,
        "biosses",
        folds=5,
        sources=_BIOSSES_SOURCES,
        pairs=True,
    ),
    Task("MEDLINE-sections", "classification", 1, REGISTRY, "accuracy", 128, "sections"),
    Task("MEDLINE-terms", "ner", 1, REGISTRY, "f1", 256, "index_terms"),
)
TASKS = {task.name: task for task in _ALL}
ALIASES = {"BioASQ": "BioASQ-7b", "LINNAEUS": "linnaeus", "Species-800": "s800", "EU-ADR": "euadr"}


def task_named(name: str) -> Task:
    """Return the task of that name or alias; case is ignored. "BIOSSES (zero-shot)" is BIOSSES without training.

    Raises:
        UsageError: there is none.
    """
    if name.lower().endswith(_ZERO_SHOT):
        return zero_shot(task_named(name[: -len(_ZERO_SHOT)]))
    known = {each.lower(): task for each, task in TASKS.items()}
    known |= {alias.lower(): TASKS[each] for alias, each in ALIASES.items()}
    if name.lower() not in known:
        raise UsageError(f"no task {name!r}", where="--task", remedy=f"use one of {', '.join(TASKS)}, or --train PATH")
    return known[name.lower()]


def zero_shot(task: Task) -> Task:
    """Return the task of scoring all pairs of a set of sentence similarity, in train, dev and test, without training.

    Raises:
        UsageError: another kind of task.
    """
    if task.untrained:
        return task
    if task.kind != "regression":
        what = f"{task.name} cannot be scored without training: it has no pairs of sentences to compare"
        raise UsageError(what, where="--protocol zero-shot", remedy="--task BIOSSES")
    return replace(task, name=task.name + _ZERO_SHOT, kind="similarity", version=1, folds=0)


def ner_task_from_folder(path: Path | str) -> Task:
    """Return a task for any entity set: a folder with train, devel (or dev) and test, or `hub:OWNER/NAME`.

    In records it has the name of the folder.

    Raises:
        UserError: no such folder.
    """
    place = str(path)
    if place.startswith("hub:"):
        return Task(place.removeprefix("hub:"), "ner", 1, place, "f1", 512, "hub_words")
    folder = Path(os.path.realpath(Path(place).expanduser()))  # Path.resolve fails on a link to itself
    if not folder.is_dir() or not folder.name:
        raise no_folder(place, "name a folder that contains train, devel and test (.tsv, .txt, .conll, .bio)")
    return Task(folder.name, "ner", 1, str(folder), "f1", 512, "ner")


def find(task: Task, data: Path | str | None = None) -> Path | None:
    """Return the folder of a benchmark's files; None for tasks from the package index or the hub, or of one's own.

    Args:
        data: the data folder (`--data`), by default that of `COMPACT_BIOMED_DATA`.

    Raises:
        UserError: there is no such folder; the message says where to get the files and where to put them.
    """
    if task.files is not None or task.place == REGISTRY or task.place.startswith("hub:"):
        return None
    if Path(task.place).is_absolute():
        return Path(task.place)
    data_folder = data if data is not None else os.environ.get(DATA_VARIABLE)
    publisher = " or ".join(task.sources) or "its publisher"
    if not data_folder:
        remedy = f"get it from {publisher}, put it into DIR/{task.place} and pass DIR by --data or {DATA_VARIABLE}"
        raise UserError(f"no data folder to look for {task.name} in", remedy=remedy)
    if Path(data_folder).expanduser().is_file():
        raise no_folder(data_folder, f"pass the folder of the benchmarks' files by --data or {DATA_VARIABLE}")
    folder = Path(data_folder).expanduser() / task.place
    if not folder.is_dir():
        raise UserError(f"no files of {task.name}", where=folder, remedy=f"get it from {publisher} and put it there")
    return folder
