"""The registry of tasks: what is there, and what is said when files are not."""

from pathlib import Path

import pytest

from compact_biomed.benchmarks.readers import READERS, read
from compact_biomed.benchmarks.tasks import TASKS, find, ner_task_from_folder, task_named
from compact_biomed.errors import UserError
from compact_biomed.evaluation.kinds import KINDS


def test_every_task_has_a_kind_a_reader_and_a_source() -> None:
    for task in TASKS.values():
        assert task.kind in KINDS
        assert task.reader in READERS
        assert task.sources or task.place == "registry"
        assert task.version >= 1


@pytest.mark.parametrize(
    ("name", "found"),
    [("bioasq", "BioASQ-7b"), ("BioASQ-4B", "BioASQ-4b"), ("linnaeus", "linnaeus"), ("EU-ADR", "euadr")],
)
def test_names_and_aliases_ignore_case(name: str, found: str) -> None:
    assert task_named(name).name == found


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
