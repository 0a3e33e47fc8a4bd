"""The table of trainings: one row a model, and a warning where they cannot be compared."""

from pathlib import Path

import pytest
from score_records import write

from compact_biomed.cli import main
from compact_biomed.errors import UserError
from compact_biomed.records.lines import read_lines
from compact_biomed.report.render import markdown
from compact_biomed.report.trainings import pretraining_table


def made(model: str, tokens: int = 100, fingerprint: str = "f", **heldout) -> dict:
    measured = {"loss": 3.0, "accuracy": 0.25}
    record = {
        "record": "pretraining",
        "model": model,
        "hyperparameters": {"recipe": "r"},
        "parameters": 1234,
        "seconds": 90,
    }
    record |= {"tokens": tokens, "corpus": {"fingerprint": fingerprint}, "speed": {"device": "a machine"}}
    return record | {"heldout": {"unigram": measured, "before": {"loss": 9.0}, "after": measured | heldout}}


def table(folder: Path, *records: dict) -> str:
    return markdown(pretraining_table(read_lines([write(folder / "r.jsonl", *records)])))


def test_rows(tmp_path: Path, capsys) -> None:
    text = table(tmp_path, made("a", tokens=0), made("b"), made("c", kl_to_teacher=0.5), made("b", loss=2.5))
    assert "| b | r | 1,234 | 100 | 9.000 | 2.500 | 25.0 % | n/a | 1 min 30 s | a machine |" in text  # the last of b
    assert "| 0.500 |" in text and "Attention" not in text and "kept clear of: no test set" in text
    assert main(["tables", "pretraining", "--records", str(tmp_path / "r.jsonl")]) == 0
    assert capsys.readouterr().out == text


def test_an_encoder_has_no_mlm_loss(tmp_path: Path) -> None:
    encoder = made("a") | {"heldout": {when: {"distillation_loss": 0.5, "terms": {}} for when in ("before", "after")}}
    text = table(tmp_path, encoder, made("b"))
    assert "| a | r | 1,234 | 100 | n/a | n/a | n/a | n/a |" in text
    assert "Word frequencies alone: 3.000 nats" in text
    assert "Word frequencies" not in table(tmp_path, encoder | {"model": "c"})
    for missing in ("terms", "distillation_loss"):  # neither an encoder nor a model that predicts words
        after = {name: value for name, value in encoder["heldout"]["after"].items() if name != missing}
        with pytest.raises(UserError, match=r"heldout\.(before|after): no "):
            table(tmp_path, encoder | {"heldout": encoder["heldout"] | {"after": after}})


def test_what_cannot_be_compared_is_told(tmp_path: Path) -> None:
    assert "did not see the same number of tokens" in table(tmp_path, made("a"), made("b", tokens=99))
    assert "not made from the same text" in table(tmp_path, made("a"), made("b", fingerprint="g"))
    with pytest.raises(UserError, match="no record of a training"):
        table(tmp_path, {"record": "scores"})
