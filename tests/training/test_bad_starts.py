"""What stops a run before it costs anything: one line, status 1, nothing that looks like a result."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM

from compact_biomed.models.architectures import ARCHITECTURES
from compact_biomed.models.locate import offline_folder


def last_line(said: str) -> str:
    assert "Traceback" not in said
    line = said.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A checkpoint of another vocabulary than the smoke tokenizer's."""
    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(ARCHITECTURES["biotinybert"]["smoke"].config(1300)).save_pretrained(tmp_path / "s")
    return tmp_path / "s"


def test_a_vocabulary_that_does_not_fit(runs, start: Path, tmp_path: Path) -> None:
    code, said = runs("biotinybert_cl", "--start", start, "--tokenizer", "smoke", "--output-dir", tmp_path / "run")
    assert code == 1
    line = last_line(said)
    assert "1,205 entries" in line and "1,300 rows" in line
    assert not (tmp_path / "run" / "record.json").exists()


def test_documents_longer_than_the_model_reads(runs, tmp_path: Path) -> None:
    for more in ((), ("--dry-run",)):
        code, said = runs("biotinybert_cl", "--max-length", 600, "--output-dir", tmp_path / "run", *more)
        assert code == 1
        assert "--max-length 600, but this model reads at most 512 tokens" in last_line(said)
        assert len(said.strip().splitlines()) == 1 and not (tmp_path / "run").exists()


def test_paper_without_a_hub(runs, tmp_path: Path) -> None:
    code, said = runs("biotinybert_cl", "--preset", "paper", "--output-dir", tmp_path / "run")
    assert code == 1
    line = last_line(said)
    name = "huawei-noah/TinyBERT_General_4L_312D"
    assert name in line and "model.safetensors" in line and str(offline_folder(name)) in line


def test_damaged_start_weights(runs, start: Path, tmp_path: Path) -> None:
    (start / "model.safetensors").write_bytes(b"\x10" + b"\0" * 7 + b"not a header    ")
    code, said = runs("biotinybert_cl", "--start", start, "--tokenizer", "smoke", "--output-dir", tmp_path / "run")
    assert code == 1
    assert str(start) in last_line(said)


def test_an_output_folder_that_cannot_be_made(runs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code, said = runs("biotinybert_cl", "--output-dir", tmp_path / "file" / "run")
    assert code == 1
    assert str(tmp_path / "file") in last_line(said)


def test_an_empty_corpus(runs, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    code, said = runs("biotinybert_cl", "--sources", tmp_path / "empty.jsonl", "--output-dir", tmp_path / "run")
    assert code == 1
    last_line(said)


def test_a_corpus_of_one_document(runs, tmp_path: Path) -> None:
    """Too little to hold anything out: a message or a result, but no defect."""
    text = "ba " * 30
    (tmp_path / "one.jsonl").write_text(json.dumps({"pmid": 1, "title": text, "abstract": text}) + "\n")
    code, said = runs("biotinybert_cl", "--sources", tmp_path / "one.jsonl", "--output-dir", tmp_path / "run")
    assert code in (0, 1)
    assert "Traceback" not in said


def test_a_full_disk_during_a_save_keeps_the_last_checkpoint(runs, tmp_path: Path) -> None:
    """Then, with space again, the same command finishes."""
    full = {"at": "compact_biomed.training.checkpoint:save_file", "call": 2, "error": "ENOSPC"}
    code, said = runs("biotinybert_cl", "--output-dir", tmp_path / "run", signal=full)
    assert code == 1, said
    assert "space" in last_line(said)
    assert {p.name for p in (tmp_path / "run").glob("*checkpoint*")} == {"checkpoint-4"}
    code, said = runs("biotinybert_cl", "--output-dir", tmp_path / "run")
    assert code == 0, said
    assert "Resuming from" in said


def test_a_diverged_loss_ends_the_run(runs, tmp_path: Path) -> None:
    flags = ("--learning-rate", 1e30, "--max-grad-norm", 0, "--warmup-steps", 0)
    code, said = runs("biotinybert_cl", *flags, "--output-dir", tmp_path / "run")
    assert code == 1, said
    assert "diverged" in last_line(said) and "--learning-rate" in last_line(said)
