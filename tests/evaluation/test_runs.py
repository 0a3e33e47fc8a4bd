"""Keys of runs: what was recorded by earlier versions is found again."""

import dataclasses

import pytest
from tokenizer_families import build

from compact_biomed.benchmarks.tasks import TASKS
from compact_biomed.evaluation import protocols
from compact_biomed.evaluation.finetune import FROM_LABELS
from compact_biomed.evaluation.job import Job, key_content, pieces_fields
from compact_biomed.evaluation.protocols import Overrides
from compact_biomed.records.store import run_key

# From the records of the published results.
MODEL = {
    "weights_sha256": "3629d2e0ab6a4a4d1be3e7e14501e15a724e926defdb9d04988c3a30ee41a401",
    "tokenizer_sha256": "da0e79933b9ed51798a3ae27893d3c5fa4a201126cef75586296df9b4d2c62a0",
    "config_sha256": "8e04a216a2244c7a01d524c3250cdae79bb7efbacfb85e8343fd5a85fc3c06e0",
}
DATA = {
    "train": "41459907430576917c51df50ef9e24d751384ab1b257285cc9e054fa52678196",
    "dev": "f9c24a5793c77d1473b8de8a3b9319480528e1de2bf8bfb0d5e2250bce58efce",
    "test": "2b095305c6e5faf938c0d3722a40cc802abc92cb6cd8a836f5483222a936df77",
}
JOB = Job("BioMiniLM", "model", TASKS["NCBI-disease"], None, 1, "standard", Overrides(3e-4, 3, 1000))


def key(job: Job, n_train: int = 5424) -> str:
    protocol = protocols.protocol(job.protocol, job.task, n_train, job.overrides)
    return run_key({**key_content(job, MODEL, DATA, protocol, FROM_LABELS), "seed": job.seed})


def test_a_recorded_run_has_the_same_key() -> None:
    assert key(JOB) == "a6406014b318dcaf"


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"task": TASKS["BC5CDR-disease"]},
        {"protocol": "published"},
        {"overrides": Overrides(3e-4, 3, 999)},
        {"overrides": Overrides(3e-4, 2, 1000)},
        {"overrides": Overrides(1e-4, 3, 1000)},
        {"overrides": Overrides(3e-4, 3, 1000, layer_decay=0.9)},
        {"overrides": Overrides(3e-4, 3, 1000, average_last=1.0)},
        {"overrides": Overrides(3e-4, 3, 1000, batch_size=8)},
        {"overrides": Overrides(3e-4, 3, 1000, batch_sizes=[16])},
        {"overrides": Overrides(None, 3, 1000, learning_rates=[3e-4, 1e-3])},
        {"overrides": Overrides(3e-4, None, 1000, max_epochs=3)},
        {"protocol": "thorough"},
    ],
)
def test_another_run_has_another_key(change: dict) -> None:
    assert key(dataclasses.replace(JOB, **change)) != key(JOB)


def test_the_name_of_the_model_is_not_in_the_key() -> None:
    assert key(dataclasses.replace(JOB, model="another", start="elsewhere")) == key(JOB)


@pytest.mark.parametrize(
    ("family", "changed"),
    [
        ("WordPiece", []),
        ("byte-level", ["NCBI-disease", "BioASQ-7b"]),
        ("byte-level, forced prefix", ["BioASQ-7b"]),
        ("unigram", ["BioASQ-7b"]),
    ],
)
def test_only_where_pieces_have_changed_the_key_has(family: str, changed: list[str], tmp_path) -> None:
    build(family).save_pretrained(tmp_path)
    tasks = [TASKS[name] for name in ("NCBI-disease", "BioASQ-7b", "GAD", "BIOSSES")]
    assert [task.name for task in tasks if pieces_fields(task, tmp_path)] == changed
    (tmp_path / "tokenizer.json").unlink()
    assert not any(pieces_fields(task, tmp_path) for task in tasks)
