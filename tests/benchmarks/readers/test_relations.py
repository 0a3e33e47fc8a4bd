"""Relation files of BioBERT and of BLUE."""

from collections.abc import Callable
from pathlib import Path

import pytest

from compact_biomed.benchmarks.readers import read
from compact_biomed.benchmarks.tasks import TASKS
from compact_biomed.errors import UserError

Write = Callable[..., Path]
TRAIN = "".join(f'@GENE$ "binds {number} @DISEASE$.\t{number % 2}\n' for number in range(40))


def test_train_without_header_test_with_one_and_dev_out_of_train(write: Write, tmp_path: Path) -> None:
    write("2/train.tsv", TRAIN)
    write("2/test.tsv", "index\tsentence\tlabel\n0\tNo @GENE$ in @DISEASE$.\t0\n7\t@GENE$ is @DISEASE$.\t1\n")
    splits = read(TASKS["GAD"], tmp_path, 2)
    assert len(splits.train) + len(splits.dev) == 40
    assert splits.dev
    assert splits.train[0].text == '@GENE$ "binds 0 @DISEASE$.'
    assert [(example.key, example.label) for example in splits.test] == [("2/test/0", "0"), ("2/test/7", "1")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train", "@GENE$ is @DISEASE$.\n", ":1: 1 columns, expected 2"),
        ("train", "@GENE$\tis @DISEASE$.\t1\n", ":1: 3 columns"),
        ("train", "@GENE$ is @DISEASE$.\tyes\n", ":1: unknown label 'yes'"),
        ("train", "\t1\n", ":1: an empty sentence"),
        ("test", "0\t@GENE$ is @DISEASE$.\t1\n", ":1: no header"),
        ("test", "index\tsentence\tlabel\n0\t@GENE$ is @DISEASE$.\n", ":2: 2 columns, expected 3"),
        ("test", "index\tsentence\tlabel\n", "no test example"),
    ],
)
def test_a_broken_line_is_named(write: Write, tmp_path: Path, name: str, content: str, message: str) -> None:
    write("1/train.tsv", TRAIN)
    write("1/test.tsv", "index\tsentence\tlabel\n0\tNo @GENE$ in @DISEASE$.\t0\n")
    write(f"1/{name}.tsv", content)
    with pytest.raises(UserError, match=message):
        read(TASKS["GAD"], tmp_path, 1)


def test_chemprot_keeps_pairs_with_two_labels_apart(write: Write, tmp_path: Path) -> None:
    rows = "index\tsentence\tlabel\n1.T1.T2\t@CHEMICAL$ and @GENE$\tCPR:3\n1.T1.T2\t@CHEMICAL$ and @GENE$\tCPR:9\n"
    for name in ("train.tsv.gz", "dev.tsv", "test.tsv.gz"):
        write(name, rows)
    splits = read(TASKS["CHEMPROT"], tmp_path)
    assert [(example.key, example.label) for example in splits.test] == [("1.T1.T2", "CPR:3"), ("1.T1.T2#2", "CPR:9")]
    write("test.tsv.gz", rows.replace("CPR:9", "CPR:10"))
    with pytest.raises(UserError, match=":3: unknown label 'CPR:10'"):
        read(TASKS["CHEMPROT"], tmp_path)
