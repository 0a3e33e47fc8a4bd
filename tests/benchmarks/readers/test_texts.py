"""PubMedQA, Hallmarks of Cancer, BIOSSES."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from compact_biomed.benchmarks.readers import read
from compact_biomed.benchmarks.tasks import TASKS, zero_shot
from compact_biomed.errors import UserError

Write = Callable[..., Path]


def decisions(**changed) -> str:
    question = {
        "QUESTION": "Do frogs?",
        "CONTEXTS": ["Old.", "Mild."],
        "LONG_ANSWER": "They do.",
    }
    labels = ("yes", "no")
    questions = {str(pmid): {**question, "final_decision": labels[pmid % 2], **changed} for pmid in range(60)}
    return json.dumps(questions)


def test_pubmedqa_takes_the_published_test_set_and_not_the_conclusion(write: Write, tmp_path: Path) -> None:
    write("ori_pqal.json.gz", decisions())
    write("test_ground_truth.json", json.dumps({str(pmid): ("yes", "no")[pmid % 2] for pmid in range(30)}))
    splits = read(TASKS["PubMedQA"], tmp_path)
    assert [example.key for example in splits.test] == [str(pmid) for pmid in range(30)]
    assert len(splits.train) + len(splits.dev) == 30
    assert (splits.test[0].text, splits.test[0].pair, splits.test[0].label) == ("Do frogs?", "Old. Mild.", "yes")
    write("ori_pqal.json.gz", decisions(final_decision="no"))
    with pytest.raises(UserError, match=r"PMID 0 is 'no' in .*, here 'yes'"):
        read(TASKS["PubMedQA"], tmp_path)
    for wrong in ({"QUESTION": None}, {"CONTEXTS": "Old."}, {"CONTEXTS": []}, {"final_decision": 1}):
        write("ori_pqal.json.gz", decisions(**wrong))
        with pytest.raises(UserError, match=f"PMID 0: no {next(iter(wrong))}, or of the wrong type"):
            read(TASKS["PubMedQA"], tmp_path)
    write("ori_pqal.json.gz", "[]")
    with pytest.raises(UserError, match=r"ori_pqal\.json\.gz: no JSON object of PMIDs"):
        read(TASKS["PubMedQA"], tmp_path)
    write("ori_pqal.json.gz", decisions(final_decision="perhaps"))
    with pytest.raises(UserError, match="PMID 0: unknown label 'perhaps'"):
        read(TASKS["PubMedQA"], tmp_path)


def test_hoc_joins_the_sentences_of_an_abstract_and_their_hallmarks(write: Write, tmp_path: Path) -> None:
    a, b = "Inducing angiogenesis", "Resisting cell death"
    rows = "index\tsentence\tlabel\ttaxonomy\n"
    for pmid in range(60):
        rows += f"{pmid}_s0\tOld .\t{b}\tx\n{pmid}_s1\tFrogs .\t{a};{b}\tx--y\n"
    rows += "99_s0\tNothing .\t\t\n"
    write("hoc.tsv.gz", rows)
    splits = read(TASKS["HoC"], tmp_path)
    assert sum(splits.counts().values()) == 60
    assert splits.repairs == {"abstracts left out: no hallmark": 1}
    assert (splits.test[0].text, splits.test[0].label) == ("Old . Frogs .", (a, b))
    write("hoc.tsv.gz", rows + "nothing\tx\t\t\n")
    with pytest.raises(UserError, match=":123: index 'nothing'"):
        read(TASKS["HoC"], tmp_path)
    write("hoc.tsv.gz", rows + "100_s0\tx\tDigging holes\t\n")
    with pytest.raises(UserError, match=":123: unknown label 'Digging holes'"):
        read(TASKS["HoC"], tmp_path)


def test_biosses_has_numbers(write: Write, tmp_path: Path) -> None:
    rows = "index\tsentence1\tsentence2\tscore\tA\tB\tC\tD\tE\n"
    rows += "".join(f"{number}\tOld.\tMild.\t{number / 25}\t0\t0\t0\t0\t0\n" for number in range(1, 101))
    write("biosses.tsv", rows)
    folds = [read(TASKS["BIOSSES"], tmp_path, fold) for fold in range(1, 6)]
    assert [splits.counts() for splits in folds] == [{"train": 64, "dev": 16, "test": 20}] * 5
    for splits in folds:
        parts = [{example.key for example in part} for part in (splits.train, splits.dev, splits.test)]
        assert len(set.union(*parts)) == 100
    assert len({example.key for splits in folds for example in splits.test}) == 100
    assert sorted(int(example.key) for example in folds[0].test)[:3] == [2, 7, 17]  # by hash: the same everywhere
    whole = read(zero_shot(TASKS["BIOSSES"]), tmp_path)
    assert whole.counts() == {"train": 0, "dev": 0, "test": 100}
    assert all(0 < example.label <= 4 for example in whole.test)
    for wrong in ("zero", "nan", "inf", "-1", "4.5"):
        write("biosses.tsv", rows.replace("\t0.04\t", f"\t{wrong}\t"))
        with pytest.raises(UserError, match=f":2: not a score: '{wrong}'"):
            read(TASKS["BIOSSES"], tmp_path, 1)
