"""Pinned artifacts are complete and checked, or there is one clear error and nothing is left behind.

No network: pip is pointed, through its own configuration, at a folder that holds a
tiny wheel.
"""

import errno
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from compact_biomed.corpus import registry
from compact_biomed.corpus.registry import Archive, Artifact
from compact_biomed.errors import UserError

WHEEL = "tiny_artifact-1.0-py3-none-any.whl"
SDIST = "tiny_artifact-1.0.tar.gz"
CONTENT = {"a.txt": b"alpha\n" * 1000, "b.bin": bytes(range(256)) * 8192}  # b.bin: two blocks


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_wheel(path: Path, members: dict[str, bytes]) -> Archive:
    info = "tiny_artifact-1.0.dist-info"
    metadata = {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-artifact\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in (members | metadata).items():
            wheel.writestr(name, data)
    return Archive(path.name, sha256(path.read_bytes()), path.stat().st_size, "data/")


def make_sdist(path: Path, members: dict[str, bytes | str]) -> Archive:
    """A member given as str is a symbolic link to that name."""
    with tarfile.open(path, "w:gz") as sdist:
        for name, data in members.items():
            member = tarfile.TarInfo(f"tiny_artifact-1.0/data/{name}")
            if isinstance(data, str):
                member.type, member.linkname = tarfile.SYMTYPE, data
                sdist.addfile(member)
            else:
                member.size = len(data)
                sdist.addfile(member, io.BytesIO(data))
    return Archive(path.name, sha256(path.read_bytes()), path.stat().st_size, "tiny_artifact-1.0/data/")


def artifact_of(*archives: Archive, members: dict[str, bytes] = CONTENT) -> Artifact:
    return Artifact("tiny-artifact", "1.0", archives, {name: sha256(data) for name, data in members.items()})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPACT_BIOMED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that pip takes for the only place to find packages."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def tiny(index: Path) -> Artifact:
    return artifact_of(make_wheel(index / WHEEL, {f"data/{name}": data for name, data in CONTENT.items()}))


@pytest.fixture
def brought(tiny: Artifact, index: Path, cache: Path) -> Artifact:
    """The tiny artifact, its wheel brought by hand: what is tested is then not pip's second of start-up."""
    incoming = cache / "artifacts" / "incoming"
    incoming.mkdir(parents=True)
    (index / WHEEL).rename(incoming / WHEEL)
    return tiny


def forbid_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_args, **_options):
        raise AssertionError("pip was called")

    monkeypatch.setattr(registry.subprocess, "run", never)


def left_behind(cache: Path) -> list[str]:
    """All files of the cache but the lock, which is empty and stays."""
    return sorted(
        str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"
    )


def check_whole(folder: Path) -> None:
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT


def test_fetched_once_then_without_pip(tiny, cache, monkeypatch, capsys):
    folder = registry.ensure(tiny)
    check_whole(folder)
    assert "fetching tiny-artifact 1.0" in capsys.readouterr().err
    assert left_behind(cache) == ["artifacts/tiny-artifact-1.0/a.txt", "artifacts/tiny-artifact-1.0/b.bin"]
    forbid_pip(monkeypatch)
    assert registry.ensure(tiny) == folder
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", ["same size and time", "shorter", "gone"])
def test_damaged_cache_is_made_anew(brought, damage, capsys):
    path = registry.ensure(brought) / "b.bin"
    before = path.stat()
    if damage == "gone":
        path.unlink()
    elif damage == "shorter":
        path.write_bytes(CONTENT["b.bin"][:-1])
    else:
        path.write_bytes(CONTENT["b.bin"][:-1] + b"!")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    capsys.readouterr()
    check_whole(registry.ensure(brought))
    assert f"{path} is damaged" in capsys.readouterr().err


def test_damaged_cache_is_never_returned_when_pip_fails(brought, cache):
    path = registry.ensure(brought) / "a.txt"
    path.write_bytes(b"other")
    (cache / "artifacts" / "incoming" / WHEEL).unlink()
    with pytest.raises(UserError):
        registry.ensure(brought)


def test_tampered_archive(tiny, cache, index):
    expected = (index / WHEEL).read_bytes()
    # Another, valid wheel under the same name and version.
    actual = make_wheel(index / WHEEL, {f"data/{name}": b"evil" for name in CONTENT}).sha256
    with pytest.raises(UserError) as caught:
        registry.ensure(tiny)
    line = str(caught.value)
    assert WHEEL in line and actual in line and sha256(expected) in line and "pip cache purge" in line
    assert "\n" not in line
    assert left_behind(cache) == []


def test_truncated_archive(tiny, cache, index):
    data = (index / WHEEL).read_bytes()
    (index / WHEEL).write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"tiny-artifact|tiny_artifact"):
        registry.ensure(tiny)
    assert left_behind(cache) == []


def test_index_without_it_says_what_to_bring_and_that_is_used(tiny, cache, index, monkeypatch, capsys):
    wheel = index / WHEEL
    data = wheel.read_bytes()
    wheel.unlink()
    with pytest.raises(UserError) as caught:
        registry.ensure(tiny)
    line = str(caught.value)
    incoming = cache / "artifacts" / "incoming"
    assert "No matching distribution found for tiny-artifact==1.0" in line and "\n" not in line
    assert WHEEL in line and sha256(data) in line and str(incoming) in line
    assert left_behind(cache) == []

    incoming.mkdir(parents=True)
    (incoming / WHEEL).write_bytes(data)
    forbid_pip(monkeypatch)
    check_whole(registry.ensure(tiny))
    assert (incoming / WHEEL).exists()


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_half_an_archive_brought_by_hand(tiny, cache, index, keep):
    incoming = cache / "artifacts" / "incoming"
    incoming.mkdir(parents=True)
    (incoming / WHEEL).write_bytes((index / WHEEL).read_bytes()[:keep])
    with pytest.raises(UserError, match="half-downloaded or changed") as caught:
        registry.ensure(tiny)
    assert str(incoming / WHEEL) in str(caught.value)
    assert not tiny.folder.exists()


def test_source_distribution_brought_by_hand(tiny, cache, monkeypatch):
    incoming = cache / "artifacts" / "incoming"
    incoming.mkdir(parents=True)
    sdist = make_sdist(incoming / SDIST, CONTENT)
    forbid_pip(monkeypatch)
    check_whole(registry.ensure(replace(tiny, archives=(*tiny.archives, sdist))))


def test_link_in_a_source_distribution_is_refused(cache, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT["a.txt"])
    incoming = cache / "artifacts" / "incoming"
    incoming.mkdir(parents=True)
    for target in (str(secret), "b.bin", "../../../secret"):
        sdist = make_sdist(incoming / SDIST, {"a.txt": target, "b.bin": CONTENT["b.bin"]})
        artifact = artifact_of(sdist)
        with pytest.raises(UserError, match=r"a\.txt is not a regular file"):
            registry.ensure(artifact)
        assert not artifact.folder.exists()


@pytest.mark.parametrize("evil", ["../evil.txt", "/evil.txt", "data/../../../evil.txt", "..\\evil.txt"])
def test_names_that_climb_out_are_not_followed(cache, index, evil, tmp_path):
    members = {f"data/{name}": data for name, data in CONTENT.items()} | {evil: b"evil"}
    check_whole(registry.ensure(artifact_of(make_wheel(index / WHEEL, members))))
    assert not list(tmp_path.rglob("*evil*")) and not Path("/evil.txt").exists()


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a/b.txt", "..", ""])
def test_only_plain_names_can_be_wanted(name):
    with pytest.raises(ValueError, match="plain file name"):
        artifact_of(members={name: b""})


def test_missing_member(cache, index):
    artifact = artifact_of(make_wheel(index / WHEEL, {"data/a.txt": CONTENT["a.txt"]}))
    with pytest.raises(UserError, match=r"contains no data/b\.bin"):
        registry.ensure(artifact)
    assert left_behind(cache) == []


def test_wrong_member(tiny, cache):
    wrong = replace(tiny, members=tiny.members | {"b.bin": sha256(b"something else")})
    with pytest.raises(UserError, match=r"data/b\.bin: sha256 .* instead of"):
        registry.ensure(wrong)
    assert left_behind(cache) == []


def test_python_without_pip(tiny, cache, monkeypatch):
    answer = subprocess.CompletedProcess([], 1, stderr=f"{sys.executable}: No module named pip\n")
    monkeypatch.setattr(registry.subprocess, "run", lambda *_args, **_options: answer)
    with pytest.raises(UserError, match="No module named pip"):
        registry.ensure(tiny)
    assert left_behind(cache) == []


def test_no_network_is_said_so(tiny, cache, monkeypatch):
    """A real pip against a port where nothing listens."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(UserError, match="the package index cannot be reached") as caught:
        registry.ensure(tiny)
    assert WHEEL in str(caught.value)
    assert left_behind(cache) == []


def test_no_pip_of_the_current_folder_is_run(tiny, cache, tmp_path, monkeypatch):
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").write_text("raise SystemExit('hijacked')")
    (tmp_path / "pip" / "__main__.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    check_whole(registry.ensure(tiny))


def test_a_file_where_the_folder_should_be(tiny, cache):
    cache.mkdir()
    (cache / "artifacts").write_text("in the way")
    with pytest.raises(OSError) as caught:
        registry.ensure(tiny)
    assert caught.value.errno in (errno.EEXIST, errno.ENOTDIR)  # one line by errors.from_os_error


def test_full_disk_leaves_nothing(brought, monkeypatch):
    def full(_stream, target, *_args, **_options):
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(registry, "_copy_checked", full)
        with pytest.raises(OSError, match="No space left"):
            registry.ensure(brought)
    assert sorted(path.name for path in brought.folder.parent.iterdir()) == ["incoming", "tiny-artifact-1.0.lock"]
    check_whole(registry.ensure(brought))


def test_what_a_killed_run_left_is_removed(brought, cache):
    leftover = cache / "artifacts" / ".tiny-artifact-1.0.xyz.tmp"
    leftover.mkdir(parents=True)
    (leftover / "a.txt").write_bytes(b"half")
    registry.ensure(brought)
    assert not leftover.exists()


def test_two_processes_at_once(tiny, cache, tmp_path):
    """Both end with the whole folder; one of them fetched, the other waited."""
    script = tmp_path / "both.py"
    script.write_text(
        "from compact_biomed.corpus import registry as fetch\n"
        "from compact_biomed.corpus.registry import Archive, Artifact\n"
        f"fetch.ensure({tiny!r})\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, str(script)]
    both = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    message = "".join(process.communicate(timeout=60)[1] for process in both)
    assert [process.returncode for process in both] == [0, 0], message
    assert message.count("fetching tiny-artifact 1.0") == 1
    check_whole(tiny.folder)


@pytest.mark.network
def test_the_real_artifacts():
    files = registry.medline_sample()
    assert [path.name for path in files] == ["pubmed20n0014.xml.gz", "pubmed21n1298.xml.gz"]
    folder = registry.minilm_folder()
    assert (folder / "model.safetensors").stat().st_size == 90_868_376
