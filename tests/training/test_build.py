"""What cannot be built is refused before anything is."""

import pytest
from transformers import AutoModelForMaskedLM, BertModel

from compact_biomed.cli import main
from compact_biomed.models.architectures import ARCHITECTURES


@pytest.mark.parametrize(
    ("model", "flags", "message"),
    [
        ("biomobilebert", ["--student-layers", "1"], "cannot take parts of a mobilebert"),
        ("biobert", ["--student-layers", "9"], "4 layers"),
        ("headless", ["--student-layers", "1"], "no vocabulary head"),
    ],
)
def test_a_dry_run_refuses_the_teacher_that_the_run_refuses(tmp_path, capsys, model, flags, message):
    teacher = tmp_path / "teacher"
    if model == "headless":
        BertModel(ARCHITECTURES["biobert"]["smoke"].config(1205)).save_pretrained(teacher)
    else:
        AutoModelForMaskedLM.from_config(ARCHITECTURES[model]["smoke"].config(1205)).save_pretrained(teacher)
    capsys.readouterr()
    command = ["train", "distill", "--teacher", str(teacher), *flags, "--preset", "smoke"]
    assert main([*command, "--output-dir", str(tmp_path / "run"), "--dry-run"]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1, error
    assert not (tmp_path / "run").exists()


def test_a_dry_run_refuses_the_tokenizer_that_the_run_refuses(tmp_path, capsys):
    start = tmp_path / "start"
    AutoModelForMaskedLM.from_config(ARCHITECTURES["biobert"]["smoke"].config(1205)).save_pretrained(start)
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"Word{n}" for n in range(1200))]
    (start / "vocab.txt").write_text("\n".join(entries) + "\n")  # nothing says that it is cased
    capsys.readouterr()
    command = ["train", "mlm", "--start", str(start), "--preset", "smoke", "--tokenizer", str(start)]
    assert main([*command, "--output-dir", str(tmp_path / "run"), "--dry-run"]) == 1
    error = capsys.readouterr().err
    assert "capital letters" in error and error.count("\n") == 1, error
    assert not (tmp_path / "run").exists()
