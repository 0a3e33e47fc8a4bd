"""Files are whole or absent, whatever goes wrong."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compact_biomed import files
from compact_biomed.errors import UserError
from compact_biomed.files import (
    FileLock,
    atomic_file,
    atomic_folder,
    cache_folder,
    one_at_a_time,
    require_writable,
    require_writable_at,
    sha256_json,
    write_json,
)
from compact_biomed.records.files import append_record


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with atomic_file(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename across file systems would not be atomic
    assert path.read_text() == "whole"
    assert names(path.parent) == ["file"]


@pytest.mark.parametrize("old", [None, "old content"])
@pytest.mark.parametrize("failure", [ValueError("x"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_a_failed_write_leaves_what_was_there(tmp_path: Path, old: str | None, failure: BaseException) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_text(old)
    with pytest.raises(type(failure)), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise failure
    assert names(tmp_path) == ([] if old is None else ["file"])
    assert old is None or path.read_text() == old


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fills_up_at_the_last_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "content").write_text("old")
    monkeypatch.setattr(files.os, call, full)
    with pytest.raises(OSError, match="No space"), atomic_file(tmp_path / "file") as temporary:
        temporary.write_text("new")
    with pytest.raises(OSError, match="No space"), atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "content").write_text("new")
    monkeypatch.undo()
    for write in (atomic_file, atomic_folder):  # the line names what the user wrote to, whatever was full or copied
        with pytest.raises(OSError, match="No space") as raised, write(tmp_path / "another"):
            try:
                raise OSError(errno.ENOSPC, "No space left on device", "/source")
            except OSError as error:
                raise RuntimeError("of a library") from error
        assert (raised.value.filename, raised.value.errno) == (str(tmp_path / "another"), errno.ENOSPC)
    left = [name for name in names(tmp_path) if not name.endswith(".old")]
    assert left == ["file", "folder"]
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "content").read_text() == "old"


def test_a_writer_leaves_alone_what_another_began_under_the_same_name(tmp_path: Path, monkeypatch) -> None:
    path, replace, second = tmp_path / "file", os.replace, atomic_file(tmp_path / "file")
    begun = []

    def replace_and_let_another_begin(source: Path, target: Path) -> None:
        replace(source, target)
        if not begun:
            begun.append(second.__enter__())
            assert begun == [source]

    monkeypatch.setattr(files.os, "replace", replace_and_let_another_begin)
    with atomic_file(path) as temporary:
        temporary.write_text("first")
    assert path.read_text() == "first" and begun[0].exists()
    begun[0].write_text("second")
    second.__exit__(None, None, None)
    assert path.read_text() == "second" and names(tmp_path) == ["file"]


def test_the_files_of_a_folder_are_readable_as_others_are(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "made") as temporary:
        private = temporary / "weights"
        private.touch(mode=0o600)
        (temporary / "run").touch(mode=0o700)
    (tmp_path / "usual").touch()
    usual = (tmp_path / "usual").stat().st_mode & 0o777
    assert (tmp_path / "made" / "weights").stat().st_mode & 0o777 == usual
    assert (tmp_path / "made" / "run").stat().st_mode & 0o777 == usual | 0o700


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for content in ("one", "two"):
        with atomic_folder(path) as temporary:
            (temporary / content).write_text(content)
            (temporary / "deep").mkdir()
            (temporary / "deep" / "file").write_text(content)
    assert names(path) == ["deep", "two"]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("failure", [ValueError("x"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_a_failed_folder_leaves_what_was_there(tmp_path: Path, failure: BaseException) -> None:
    path = tmp_path / "folder"
    with atomic_folder(path) as temporary:
        (temporary / "file").write_text("old")
    with pytest.raises(type(failure)), atomic_folder(path) as temporary:
        (temporary / "file").write_text("half")
        raise failure
    assert names(tmp_path) == ["folder"]
    assert (path / "file").read_text() == "old"


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    """Temporary files are private; results are as readable as any other file of the user."""
    before = os.umask(0o027)
    try:
        with atomic_file(tmp_path / "file") as temporary:
            temporary.write_text("x")
        with atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


APPEND = """
import sys
from compact_biomed.records.files import append_record
for number in range(100):
    append_record(sys.argv[1], {"process": sys.argv[2], "number": number, "padding": "x" * 5000})
"""


def test_lines_of_several_processes_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "records.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", APPEND, str(path), name]) for name in "abc"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for name in "abc":
        assert [r["number"] for r in records if r["process"] == name] == list(range(100))


def test_a_record_is_whole_or_absent(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "records.jsonl"
    append_record(path, {"a": 1})
    whole, write = path.read_bytes(), os.write
    monkeypatch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:7]))  # as on a full disk
    with pytest.raises(OSError, match="No space left"):
        append_record(path, {"b": 2})
    assert path.read_bytes() == whole


def test_a_line_without_its_end_is_not_glued_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text('{"a": 1}')
    append_record(path, {"b": 2})
    assert path.read_text() == '{"a": 1}\n{"b": 2}\n'


def test_records_are_text_that_people_can_read(tmp_path: Path) -> None:
    append_record(tmp_path / "records", {"name": "Sjögren"})
    assert (tmp_path / "records").read_bytes() == '{"name": "Sjögren"}\n'.encode()
    write_json(tmp_path / "value", {"b": 1, "a": "é"})
    assert (tmp_path / "value").read_text(encoding="utf-8") == '{\n  "b": 1,\n  "a": "é"\n}\n'


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    one, two = FileLock(path), FileLock(path)
    with one:
        assert not two.acquire(wait=False) and two.descriptor is None
        two.release()  # nothing
        assert not two.acquire(wait=False)
    assert one.descriptor is None and two.acquire(wait=False)
    two.release()
    assert names(path.parent) == ["lock"]


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_on_the_new_one(tmp_path: Path, monkeypatch) -> None:
    """The former holder removes the file between the open and the lock of the next."""
    path, flock, opened = tmp_path / "lock", fcntl.flock, []

    def remove_first(descriptor: int, how: int) -> None:
        if not opened:
            path.unlink()
        opened.append(descriptor)
        flock(descriptor, how)

    monkeypatch.setattr(files.fcntl, "flock", remove_first)
    with FileLock(path, remove=True) as lock:
        assert len(opened) == 2
        assert os.path.samestat(os.fstat(lock.descriptor), path.stat())
    assert names(tmp_path) == []


HOLD = """
import sys
from pathlib import Path
from compact_biomed.files import one_at_a_time
with one_at_a_time(Path(sys.argv[1]), "at it"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_at_a_time_waits_for_the_other(tmp_path: Path, monkeypatch) -> None:
    lock = tmp_path / "lock"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    output = []

    def end_other(text: str) -> None:
        output.append(text)
        other.kill()

    monkeypatch.setattr(files, "say", end_other)
    with one_at_a_time(lock, "downloading"):
        assert output == ["waiting: another process is downloading"]
    other.wait()
    with one_at_a_time(lock, "downloading"):
        pass
    assert len(output) == 1


def test_the_hash_of_a_value_does_not_depend_on_the_order_of_keys() -> None:
    assert sha256_json({"a": 1, "b": [2]}) == sha256_json({"b": [2], "a": 1}) != sha256_json({"a": 1, "b": [3]})


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COMPACT_BIOMED_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("COMPACT_BIOMED_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "compact-biomed"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache" / "compact-biomed"


KILLED = """
import os, signal, sys
from pathlib import Path
from compact_biomed import files
from compact_biomed.errors import UserError

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

path, where = Path(sys.argv[1]), sys.argv[2]
if where == "between":  # the two renames of a folder that is replaced
    replace = files.os.replace
    files.os.replace = lambda a, b: replace(a, b) if str(b).endswith(".replaced") else kill()
with files.atomic_folder(path) as temporary:
    (temporary / "new").write_text("new")
    if where == "within":
        kill()
"""


@pytest.mark.parametrize("where", ["within", "between"])
@pytest.mark.parametrize("next_step", ["write", "sweep", "restore"])
def test_what_a_killed_process_left_is_swept_and_nothing_is_lost(tmp_path: Path, where: str, next_step: str) -> None:
    path = tmp_path / "folder"
    with atomic_folder(path) as temporary:
        (temporary / "old").write_text("old")
    assert subprocess.run([sys.executable, "-c", KILLED, str(path), where]).returncode == -9
    assert any(files.is_leftover(item) for item in tmp_path.iterdir())
    if next_step == "write":
        with atomic_folder(path) as temporary:
            assert names(path) == ["old"]
            (temporary / "new").write_text("newer")
        assert names(path) == ["new"]
    elif next_step == "sweep":
        files.sweep(tmp_path)
        assert names(path) == ["old"]
    else:
        files.restore(path)
        assert names(path) == ["old"]
        return
    assert names(tmp_path) == ["folder"]


def test_what_a_living_process_writes_is_not_swept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_file(path) as first:
        first.write_text("first")
        files.sweep(tmp_path)
        with atomic_file(path) as second:  # of another process, or thread
            second.write_text("second")
            assert first != second and first.exists()
        assert path.read_text() == "second"
    assert path.read_text() == "first" and names(tmp_path) == ["file"]


def test_long_names_leave_room_for_the_temporary_name(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 127)  # 254 bytes
    for _ in range(2):
        with atomic_file(path) as temporary:
            temporary.write_text("x")
    assert names(tmp_path) == [path.name]


def test_a_place_for_a_result_is_checked_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    for path in ("file", "new/folder/result"):
        require_writable_at(tmp_path / path)
    require_writable_at(os.path.relpath(tmp_path / "new" / "result"))
    for path in ("file/result", "new/" + 300 * "a"):
        with pytest.raises(OSError, match=r"Not a directory|File name too long"):
            require_writable_at(tmp_path / path)
    assert names(tmp_path) == ["file"]
    for check in (require_writable_at, require_writable):
        with pytest.raises(PermissionError) as caught:  # not the name of the file by which it was tried
            check("/proc/none/result")
        assert caught.value.filename == "/proc/none/result"


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "of the system"), RuntimeError("of a library"), None]
)
@pytest.mark.parametrize("write", [atomic_file, atomic_folder])
def test_what_somebody_removes_while_it_is_written_is_one_line(tmp_path: Path, write, error: Exception | None) -> None:
    with pytest.raises(UserError, match=r"run/a: removed by somebody else while it was written \(run the same"):
        with write(tmp_path / "run" / "a"):
            shutil.rmtree(tmp_path / "run")
            if error is not None:
                raise error
    assert names(tmp_path) == []
    for error in (OSError(errno.ENOSPC, "full"), UserError("another")):
        with pytest.raises(type(error)) as raised, write(tmp_path / "run" / "a"):
            shutil.rmtree(tmp_path / "run")
            raise error
        assert isinstance(error, UserError) == (raised.value is error)
