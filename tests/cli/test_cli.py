"""Exit statuses, and one line for what a user can mend."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compact_biomed import __version__
from compact_biomed.cli import guarded, main
from compact_biomed.errors import UsageError, UserError, from_os_error


def raising(error: BaseException):
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(("result", "status"), [(None, 0), (0, 0), (130, 130)])
def test_the_status_of_the_work_is_passed_on(result: int | None, status: int) -> None:
    assert guarded(lambda: result) == status


def test_an_error_of_the_user_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(raising(UserError("broken\n  in two lines", where="file.xml:7", remedy="mend it"))) == 1
    assert capsys.readouterr().err == "error: file.xml:7: broken in two lines (mend it)\n"


def test_flags_that_are_wrong_by_themselves_are_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(raising(UsageError("unknown flag", where="--modle", remedy="did you mean --model?"))) == 2
    assert capsys.readouterr().err == "error: --modle: unknown flag (did you mean --model?)\n"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["evaluate", "--modle", "m"], 2),
        (["evaluate"], 2),
        (["evaluate", "--model", "m", "--task", "none such"], 2),
        (["evaluate", "--model", "m", "--task", "GAD", "--folds", "11"], 2),
        (["evaluate", "--suite", "missing.toml"], 1),
        (["evaluate", "--suite", "missing.toml", "--seeds", "1"], 2),
        (["tables", "--records", "missing.jsonl"], 1),
        (["tables", "--records", "missing.jsonl", "--into", "README.md"], 2),
        (["tables", "page", "--records", "missing.jsonl", "--format", "md"], 2),
        (["train", "mlm"], 2),
        (["train", "distill", "--teacher", "t"], 2),
        (["train", "distill", "--task", "GAD", "--teacher", "t", "--student", "3"], 2),
        (["predict", "--model", "missing", "--format", "brat", "a.jsonl"], 2),
        (["bench", "inference", "--models", "m", "--zzz"], 2),
    ],
)
def test_what_flags_decide_alone_is_2_and_what_files_decide_is_1(
    arguments: list[str], status: int, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == status
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("terminal", "shown"), [(False, "1 ± 2 Müller".encode()), (True, b"1 ? 2 M?ller")], ids=["file", "terminal"]
)
def test_an_ascii_output_takes_every_text(terminal: bool, shown: bytes, monkeypatch) -> None:
    output = io.BytesIO()
    stream = io.TextIOWrapper(output, encoding="ascii")
    monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(sys, "stdout", stream)
    assert guarded(lambda: print("1 ± 2 Müller")) == 0
    stream.flush()
    assert output.getvalue() == shown + b"\n"


def test_ctrl_c_is_130_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(raising(KeyboardInterrupt())) == 130
    wrapped = RuntimeError("Error calling __set_name__")  # as Python reports it where a class is made
    wrapped.__cause__ = KeyboardInterrupt()
    assert guarded(raising(wrapped)) == 130
    with pytest.raises(RuntimeError, match="of the program"):
        guarded(raising(RuntimeError("of the program")))
    message = capsys.readouterr().err
    assert "run the same command again" in message
    assert "Traceback" not in message


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOENT])
def test_what_the_disk_refuses_has_a_remedy(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(raising(OSError(number, "refused", "/some/file"))) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: /some/file: refused (")
    assert message.count("\n") == 1


def test_defects_keep_their_traceback() -> None:
    for error in (ValueError("ours"), OSError(errno.EBADF, "ours")):
        with pytest.raises(type(error)):
            guarded(raising(error))
    assert from_os_error(OSError(errno.EBADF, "ours")) is None


@pytest.mark.parametrize("path", ["file", "file/below", "file/far/below"])
@pytest.mark.parametrize("number", [errno.EEXIST, errno.ENOTDIR])
def test_a_file_in_the_way_is_one_mistake_however_it_is_called(path: str, number: int, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = str(from_os_error(OSError(number, os.strerror(number), str(tmp_path / path))))
    assert said == f"{tmp_path / 'file'}: a file, where a folder is needed (remove it or choose another path)"


def test_an_error_without_a_place() -> None:
    assert str(UserError("bad")) == "bad"
    assert str(from_os_error(OSError(errno.ENOSPC, "full"))).startswith("full (the disk is full")


@pytest.mark.parametrize("arguments", [[], ["dance"]])
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"compact-biomed {__version__}\n"


def test_declaring_all_verbs_loads_nothing_heavy() -> None:
    code = (
        "import sys, compact_biomed.cli as cli; cli.build_parser(); "
        "print({'torch', 'transformers', 'onnxruntime', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["tables", "--records", "none", "--form=md"],
        ["bench", "step", "--rec=x"],
        ["corpus", "build", "registry", "--heldo=1"],
    ],
)
def test_no_verb_takes_a_shortened_flag(arguments: list[str], capsys) -> None:
    assert main(arguments) == 2
    assert f"{arguments[-1]}: unknown flag" in capsys.readouterr().err
