"""The declared tasks, and the errors for missing files."""

from pathlib import Path

import pytest

from compact_biomed.benchmarks.examples import Splits, TextExample
from compact_biomed.benchmarks.readers import READERS, read
from compact_biomed.benchmarks.readers.files import need_file, read_table
from compact_biomed.benchmarks.tasks import TASKS, Task, find, ner_task_from_folder, task_named
from compact_biomed.benchmarks.test_sets import texts_of_test_sets
from compact_biomed.errors import UserError
from compact_biomed.evaluation.kinds import KINDS


def test_every_task_has_a_kind_a_reader_and_a_source() -> None:
    for task in TASKS.values():
        assert task.kind in KINDS
        assert task.reader in READERS
        assert task.sources or task.place == "registry"
        assert task.version >= 1


@pytest.mark.parametrize(
    ("name", "task"),
    [("bioasq", "BioASQ-7b"), ("BioASQ-4B", "BioASQ-4b"), ("linnaeus", "linnaeus"), ("EU-ADR", "euadr")],
)
def test_names_and_aliases_ignore_case(name: str, task: str) -> None:
    assert task_named(name).name == task


def test_an_unknown_task_is_answered_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"no task 'NCBI'.*NCBI-disease"):
        task_named("NCBI")


def test_missing_files_come_with_where_to_get_them_and_where_to_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = TASKS["BC4CHEMD"]
    monkeypatch.delenv("COMPACT_BIOMED_DATA", raising=False)
    with pytest.raises(UserError, match=r"dmis-lab/biobert.*NER/BC4CHEMD.*--data or COMPACT_BIOMED_DATA"):
        find(task)
    monkeypatch.setenv("COMPACT_BIOMED_DATA", str(tmp_path))
    with pytest.raises(UserError) as caught:
        find(task)
    assert str(caught.value).startswith(f"{tmp_path}/NER/BC4CHEMD: no files of BC4CHEMD")
    (tmp_path / "NER/BC4CHEMD").mkdir(parents=True)
    assert find(task) == tmp_path / "NER/BC4CHEMD"
    assert find(task, tmp_path) == find(task)
    assert find(TASKS["MEDLINE-sections"]) is None


def test_folds_are_asked_for_where_there_are_any_and_only_there(tmp_path: Path) -> None:
    for name, fold in (("GAD", None), ("GAD", 0), ("GAD", 11), ("HoC", 1)):
        with pytest.raises(UserError, match="fold"):
            read(TASKS[name], tmp_path, fold)


def test_a_folder_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="no such folder"):
        ner_task_from_folder("nowhere/at/all")


def read_frogs(task: Task, folder: Path, fold: int | None = None) -> Splits:
    """Read train.tsv, dev.tsv and test.tsv: a sentence and its label per line."""
    splits = {}
    for split in ("train", "dev", "test"):
        rows = read_table(need_file(folder, [split], [".tsv"]), ("sentence", "label"))
        splits[split] = [TextExample(f"{split}/{number}", text, None, label) for number, (text, label) in rows]
    return Splits(**splits)


def test_a_new_benchmark_is_one_task_and_at_most_one_reader(tmp_path: Path, monkeypatch) -> None:
    frogs = Task("Frogs", "classification", 1, "CLS/Frogs", "accuracy", 128, "frogs", sources=("frogs.example",))
    monkeypatch.setitem(TASKS, frogs.name, frogs)
    monkeypatch.setitem(READERS, frogs.reader, read_frogs)
    with pytest.raises(UserError, match=r"CLS/Frogs: no files of Frogs.*frogs\.example"):
        find(task_named("frogs"), tmp_path)
    folder = tmp_path / "CLS/Frogs"
    folder.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        (folder / f"{split}.tsv").write_text("They hop.\tfrog\nThey bark.\tdog\n")
    splits = read(task_named("frogs"), find(frogs, tmp_path))
    assert splits.counts() == {"train": 2, "dev": 2, "test": 2}
    assert splits.test[1] == TextExample("test/2", "They bark.", None, "dog")
    assert list(texts_of_test_sets([str(tmp_path)])) == [("Frogs", "They bark."), ("Frogs", "They hop.")]
