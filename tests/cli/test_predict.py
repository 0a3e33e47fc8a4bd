"""`compact-biomed predict`: files and standard input to lines."""
# ruff: noqa: RUF001

import io
import json
import sys

import pytest
from tiny_checkpoints import make_checkpoint

from compact_biomed import cli
from compact_biomed.inference.model import load

TEXT = "the kinase of Müller–frogs and fevers\nin the µg of é frogs.\n"


@pytest.fixture(scope="module")
def ner(tmp_path_factory):
    return str(make_checkpoint(tmp_path_factory.mktemp("ner"), "token"))


def predict(capsys, *arguments: str) -> list[str]:
    assert cli.main(["predict", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_text_in_three_forms(ner, tmp_path, capsys) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(TEXT.encode())
    found = [json.loads(line) for line in predict(capsys, "--model", ner, str(file))]
    expected = load(ner).entities(TEXT)
    assert [(e["start"], e["end"], e["label"], e["text"]) for e in found] == [
        (e.start, e.end, e.label, e.text) for e in expected
    ]
    assert {e["document"] for e in found} == {"a.txt"}
    brat = predict(capsys, "--model", ner, str(file), "--format", "brat")
    assert len(brat) == 2 * len(expected) and brat[0].startswith("T1\t")
    conll = predict(capsys, "--model", ner, str(file), "--format", "conll")
    assert "".join(line.split("\t")[0] for line in conll) == "".join(TEXT.split())


def test_standard_input_and_lines(ner, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    names = {json.loads(line)["document"] for line in predict(capsys, "--model", ner, "--input", "lines")}
    assert names <= {"1", "2"} and names


def test_many_lines_are_answered_side_by_side_in_their_order(ner, tmp_path, capsys) -> None:
    texts = [f"{number} fever of frogs and mice" for number in range(40)]
    file = tmp_path / "many.txt"
    file.write_text("\n".join(texts))
    together = [json.loads(line) for line in predict(capsys, "--model", ner, "--input", "lines", str(file))]
    with load(ner) as model:
        alone = [
            {"document": str(number), **entity._asdict(), "score": round(entity.score, 4)}
            for number, text in enumerate(texts, 1)
            for entity in model.entities(text)
        ]
    assert together == alone and together
    broken = tmp_path / "broken.jsonl"
    broken.write_text('\ufeff{"text": "the fever of frogs"}\n{"text": "fever of mice"}\n{"no": 1}\n')
    assert cli.main(["predict", "--model", ner, str(broken)]) == 1
    out, err = capsys.readouterr()
    assert {json.loads(line)["document"] for line in out.splitlines()} == {"1", "2"} and "broken.jsonl:3" in err


def test_classes_and_answers(tmp_path, capsys) -> None:
    classes, span = (str(make_checkpoint(tmp_path / head, head)) for head in ("sequence", "span"))
    file = tmp_path / "a.jsonl"
    file.write_text('{"id": "q", "text": "the fever of frogs", "question": "of what?"}\n')
    (label,) = map(json.loads, predict(capsys, "--model", classes, str(file)))
    assert label["document"] == "q" and label["scores"][label["label"]] == label["score"]
    for lowest, chosen in ((label["score"] - 0.001, [label["label"]]), (label["score"] + 0.001, [])):
        (again,) = map(json.loads, predict(capsys, "--model", classes, "--threshold", f"{lowest:.4f}", str(file)))
        assert again["labels"] == chosen and again["label"] == next(iter(chosen), None)
        assert again["scores"] == label["scores"]
        with load(classes, threshold=lowest) as model:
            assert [each.label for each in model.classify("the fever of frogs")] == chosen
    assert cli.main(["predict", "--model", span, "--threshold", "0.5", str(file)]) == 2
    assert "neither types nor classes" in capsys.readouterr().err
    assert cli.main(["predict", "--model", classes, "--format", "brat", str(file), "--output", "b"]) == 2
    assert "only entities have this format" in capsys.readouterr().err
    (found,) = map(json.loads, predict(capsys, "--model", span, str(file)))
    assert found["question"] == "of what?" and {"start", "end", "score", "text"} == found["answers"][0].keys()
    file.write_text('{"text": "the fever of frogs"}\n')
    assert cli.main(["predict", "--model", span, str(file)]) == 1
    assert ":1: no question" in capsys.readouterr().err


def test_the_output_is_utf_8_whatever_the_terminal(ner, tmp_path, monkeypatch) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT.encode())
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding="ascii"))
    assert cli.main(["predict", "--model", ner, str(tmp_path / "a.txt"), "--format", "conll"]) == 0
    sys.stdout.flush()
    assert "Müller" in output.getvalue().decode()


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (("--format", "brat", "a.jsonl"), "one document", 2),
        (("--windows", "3", "a.txt"), "did you mean --window?", 2),
        (("--window", "3", __file__), "--window: 3 tokens are too few", 2),
        (("missing.txt",), "no such file", 1),
    ],
)
def test_what_cannot_be_done_is_one_line(ner, arguments, message: str, status: int, capsys) -> None:
    assert cli.main(["predict", "--model", ner, *arguments]) == status
    assert message in capsys.readouterr().err
