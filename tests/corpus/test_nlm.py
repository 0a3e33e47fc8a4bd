"""Downloads from a server that fails in many ways.

Each file of the server has a list of faults, one for each request to come; after the
last it behaves.
"""

import hashlib
import itertools
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from compact_biomed.corpus import nlm
from compact_biomed.errors import UserError

NAMES = [f"pubmed25n{number:04d}.xml.gz" for number in (1, 2, 3, 4)]
FIRST = NAMES[0]
FILE = f"/baseline/{FIRST}"


def md5_line(name: str, content: bytes, form: str = "openssl") -> bytes:
    digest = hashlib.md5(content).hexdigest()
    return (f"MD5({name})= {digest}\n" if form == "openssl" else f"{digest.upper()}  {name}\n").encode()


def index_page(names: Iterable[str]) -> bytes:
    rows = "".join(f'<a href="{name}">{name}</a>\n<a href="{name}.md5">{name}.md5</a>\n' for name in names)
    return f'<html><a href="/pubmed/">Parent</a><a href="README.txt">README.txt</a>\n{rows}</html>'.encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments) -> None:
        pass

    def do_GET(self) -> None:
        site = self.server.site
        fault = next(site.faults.get(self.path, iter(())), None)
        requested = self.headers.get("Range")
        site.seen.append((self.path, requested))
        body = site.files.get(self.path)
        if fault in (503, 429, 500):
            return self.answer(fault, b"busy", {"Retry-After": "0"})
        if body is None:
            return self.answer(404, b"<html>not here</html>")
        if fault == "wrong bytes":
            body = body[:-1] + bytes([body[-1] ^ 1])
        start = int(requested.removeprefix("bytes=").removesuffix("-")) if requested and fault != "no ranges" else 0
        if start >= len(body) > 0:
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
        headers = {"Content-Encoding": "gzip"} if fault == "labeled as compressed" else {}
        if requested and fault != "no ranges":
            first = start + (fault == "another range")
            headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
        body = body[start:]
        length = len(body) + {"length too long": 10, "length too short": -10}.get(fault, 0)
        self.send_response(206 if "Content-Range" in headers else 200)
        for name, value in (headers | {"Content-Length": str(length)}).items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = fault is not None
        if fault in ("cut", "stall"):
            self.wfile.write(body[: len(body) // 2])
            if fault == "stall":
                site.released.wait(20)
            return None
        self.wfile.write(body[:length])
        return None

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ((headers or {}) | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class Site:
    """A server on this machine, its files, the faults to come and the requests that came."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, Iterator] = {}
        self.seen: list[tuple[str, str | None]] = []
        self.released = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.site = self
        self.base = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def put(self, folder: str, names: Iterable[str], size: int = 1 << 20) -> None:
        names = list(names)
        for name in names:
            content = random.Random(name).randbytes(size)
            self.files[f"/{folder}/{name}"] = content
            self.files[f"/{folder}/{name}.md5"] = md5_line(name, content)
        self.files[f"/{folder}/"] = index_page(names)

    def requests(self, path: str = FILE) -> list[str | None]:
        """The Range headers of the requests for a path."""
        return [requested for seen, requested in self.seen if seen == path]

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(nlm, "_FIRST_WAIT", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    site = Site()
    site.put("baseline", NAMES)
    monkeypatch.setenv("COMPACT_BIOMED_NLM", site.base)
    yield site
    site.close()


def check(site: Site, paths: list[Path], names: Iterable[str] = (FIRST,), folder: str = "baseline") -> None:
    """The named files are there, right to the byte, and no part is left."""
    assert [path.name for path in paths] == list(names)
    for path in paths:
        assert path.read_bytes() == site.files[f"/{folder}/{path.name}"]
        assert path.with_name(f"{path.name}.md5").exists()
        assert not path.with_name(f"{path.name}.part").exists()


def check_nothing_taken_for_whole(folder: Path) -> None:
    assert not list(folder.glob("*.xml.gz")) and not list(folder.glob("*.md5"))


def test_all_files_once(site, tmp_path, capsys):
    check(site, nlm.download(tmp_path), NAMES)
    assert len(site.seen) == 1 + 2 * len(NAMES)
    message = capsys.readouterr().err
    assert "fetching 4 of 4 files" in message and "terms of use" in message
    check(site, nlm.download(tmp_path), NAMES)
    assert len(site.seen) == 2 + 2 * len(NAMES)  # one look at the list, no file
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("fault", "ranges"),
    [
        ("cut", [None, "bytes=524288-"]),
        ("stall", [None, "bytes=524288-"]),
        ("length too long", [None]),  # the md5 says that it is whole
        ("length too short", [None, None]),
        ("wrong bytes", [None, None]),
        ("labeled as compressed", [None]),
        (503, [None, None]),
        (429, [None, None]),
        (500, [None, None]),
    ],
)
def test_one_fault_is_got_over(site, tmp_path, fault, ranges):
    site.faults[FILE] = iter([fault])
    check(site, nlm.download(tmp_path, subset="1", timeout=1.0 if fault == "stall" else 60.0))
    assert site.requests() == ranges


def test_several_faults_in_a_row(site, tmp_path):
    site.faults[FILE] = iter([503, "cut", "cut", "cut"])
    check(site, nlm.download(tmp_path, subset="1"))
    assert site.requests() == [None, None, "bytes=524288-", "bytes=786432-", "bytes=917504-"]


def test_server_without_ranges_starts_over(site, tmp_path):
    site.faults[FILE] = iter(["cut", "no ranges"])
    check(site, nlm.download(tmp_path, subset="1"))
    assert site.requests() == [None, "bytes=524288-"]


def test_another_range_than_asked_for(site, tmp_path):
    site.faults[FILE] = iter(["cut", "another range"])
    check(site, nlm.download(tmp_path, subset="1"))
    assert site.requests() == [None, "bytes=524288-", None]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("cut", "cut off"),
        ("stall", "stalled: no data for 300 ms"),
        ("wrong bytes", "md5 .* instead of .*, discarded"),
        (503, "HTTP 503"),
    ],
)
def test_endless_fault_ends_in_one_line(site, tmp_path, fault, message):
    site.faults[FILE] = itertools.repeat(fault)
    with pytest.raises(UserError, match=message) as caught:
        nlm.download(tmp_path, subset="1", retries=2, timeout=0.3)
    assert site.base + FILE in str(caught.value) and "\n" not in str(caught.value)
    assert len(site.requests()) == 3
    check_nothing_taken_for_whole(tmp_path)


def test_waits_double_and_follow_the_server(site, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(nlm.time, "sleep", waits.append)
    monkeypatch.setattr(nlm, "_FIRST_WAIT", 1.0)
    site.faults[FILE] = iter([503, 503, 503])
    nlm.download(tmp_path, subset="1")
    assert waits == [1, 2, 4]

    web, failures = nlm.Web(retries=2), iter([nlm.Transient("busy", wait=7), nlm.Transient("busy", 9e9)])

    def busy():
        for error in failures:
            raise error
        return "done"

    waits.clear()
    assert web.retry("url", busy) == "done"
    assert waits == [7, nlm._LONGEST_REQUESTED_WAIT]


@pytest.mark.parametrize("lost", [FILE, f"{FILE}.md5", "/baseline/"])
def test_404_stops_at_once(site, tmp_path, lost):
    del site.files[lost]
    with pytest.raises(UserError, match="HTTP 404") as caught:
        nlm.download(tmp_path, subset="1")
    assert f"{site.base}{lost}:" in str(caught.value)
    assert len(site.requests(lost)) == 1
    check_nothing_taken_for_whole(tmp_path)


def test_md5_file_without_md5(site, tmp_path):
    site.files[f"{FILE}.md5"] = b"<html>please log in</html>"
    with pytest.raises(UserError, match="no md5 in"):
        nlm.download(tmp_path, subset="1", retries=1)
    check_nothing_taken_for_whole(tmp_path)


def test_plain_form_of_md5(site, tmp_path):
    site.files[f"{FILE}.md5"] = md5_line(FIRST, site.files[FILE], form="md5sum")
    check(site, nlm.download(tmp_path, subset="1"))


def test_part_of_an_older_edition_is_discarded(site, tmp_path):
    (tmp_path / f"{FIRST}.part").write_bytes(b"older" * 1000)
    check(site, nlm.download(tmp_path, subset="1"))
    assert site.requests() == ["bytes=5000-", None]


@pytest.mark.parametrize("suffix", ["", ".part"])
def test_whole_file_without_md5_is_checked_not_fetched(site, tmp_path, suffix):
    (tmp_path / f"{FIRST}{suffix}").write_bytes(site.files[FILE])
    check(site, nlm.download(tmp_path, subset="1"))
    assert site.requests() == []


def test_wrong_file_without_md5_is_replaced(site, tmp_path):
    (tmp_path / FIRST).write_bytes(site.files[FILE][:1000])
    check(site, nlm.download(tmp_path, subset="1"))


def test_goes_on_after_kill(site, tmp_path):
    """A process killed in the middle of a file; the next one fetches the other half only."""
    site.faults[FILE] = iter(["stall"])
    script = f"from compact_biomed.corpus import nlm; nlm.download({str(tmp_path)!r}, subset='1')"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=subprocess.DEVNULL)
    part = tmp_path / f"{FIRST}.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    check_nothing_taken_for_whole(tmp_path)
    size = part.stat().st_size
    check(site, nlm.download(tmp_path, subset="1"))
    assert site.requests() == [None, f"bytes={size}-"]


def test_goes_on_after_giving_up(site, tmp_path):
    site.faults[FILE] = iter(["cut"])
    with pytest.raises(UserError):
        nlm.download(tmp_path, subset="1", retries=0)
    check_nothing_taken_for_whole(tmp_path)
    check(site, nlm.download(tmp_path, subset="1"))
    assert site.requests() == [None, "bytes=524288-"]


def test_no_network_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(nlm, "_FIRST_WAIT", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(UserError, match="gave up after 3 attempts: no connection") as caught:
        nlm.download(tmp_path, base="http://127.0.0.1:9", retries=2)
    assert "http://127.0.0.1:9/baseline/" in str(caught.value) and "\n" not in str(caught.value)


def test_without_network_what_is_here_is_used(site, tmp_path, capsys):
    nlm.download(tmp_path, subset="1-2")
    del site.files["/baseline/"]
    check(site, nlm.download(tmp_path, subset="1-2"), NAMES[:2])
    assert "the list of files saved before" in capsys.readouterr().err


@pytest.mark.parametrize("base", ["no address", "ftp://127.0.0.1/pubmed", "http://"])
def test_bad_address(tmp_path, base):
    with pytest.raises(UserError, match="not an address"):
        nlm.download(tmp_path, base=base)


@pytest.mark.parametrize(
    ("subset", "names"),
    [
        (None, NAMES),
        ("all", NAMES),
        ("first:3", NAMES[:3]),
        ("first:9", NAMES),
        ("2", NAMES[1:2]),
        ("4,1-2, 0002", [NAMES[0], NAMES[1], NAMES[3]]),
    ],
)
def test_subsets(site, tmp_path, subset, names):
    site.put("baseline", NAMES, size=100)
    check(site, nlm.download(tmp_path, subset=subset), names)


@pytest.mark.parametrize("subset", ["", "x", "3-1", "1-", "-1", "first:0", "first:x", "1,,2", "1;2", ",", "99999999"])
def test_bad_subset(site, tmp_path, subset):
    with pytest.raises(UserError, match="does not name files") as caught:
        nlm.download(tmp_path, subset=subset)
    assert f"nlm:{subset}" in str(caught.value) and site.seen == []


def test_number_that_is_not_listed(site, tmp_path):
    with pytest.raises(UserError, match=r"no file number 5 .* it lists 1 to 4"):
        nlm.download(tmp_path, subset="3-6")


def test_list_without_files(site, tmp_path):
    site.files["/baseline/"] = b"<html>Please agree to the terms</html>"
    with pytest.raises(UserError, match="no file named like"):
        nlm.download(tmp_path)


def test_bad_kind(tmp_path):
    with pytest.raises(UserError, match="baseline, updatefiles, both"):
        nlm.download(tmp_path, kind="daily")


def test_baseline_and_updates(site, tmp_path):
    updates = ["pubmed25n0005.xml.gz", "pubmed25n0006.xml.gz"]
    site.put("updatefiles", updates)
    paths = nlm.download(tmp_path, kind="both", subset="4-5")
    check(site, paths[:1], NAMES[3:])
    check(site, paths[1:], updates[:1], "updatefiles")
    check(site, nlm.download(tmp_path, kind="updatefiles"), updates, "updatefiles")


def test_only_the_newest_year(site, tmp_path):
    site.put("baseline", [*NAMES, "pubmed26n0001.xml.gz"])
    check(site, nlm.download(tmp_path), ["pubmed26n0001.xml.gz"])


def test_names_that_climb_out_are_not_followed(site, tmp_path):
    page = f'<a href="../../{FIRST}">x</a><a href="pubmed25n0009.xml.gz/../../x">x</a><A HREF={FIRST}>x</A>'
    site.files["/baseline/"] = page.encode()
    check(site, nlm.download(tmp_path / "in"))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
