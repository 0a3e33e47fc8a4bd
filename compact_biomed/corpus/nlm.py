"""Download PubMed from the National Library of Medicine: the yearly baseline and the daily updates.

The library asks its users to read the terms in README.txt of the baseline folder and to name it as the
source. Its server is public and shared: files are fetched one at a time, failures are retried after
growing waits, and an interrupted download continues where it stopped.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar, get_args

import requests
import urllib3

from compact_biomed import __version__
from compact_biomed.console import duration, progress, say
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_file, one_at_a_time, write_text

BASE = "https://ftp.ncbi.nlm.nih.gov/pubmed"
FileKind = Literal["baseline", "updatefiles", "both"]

_NAME = re.compile(r"pubmed(\d\d)n(\d{4,})\.xml\.gz")
_LINK = re.compile(rf"""(?i:href)\s*=\s*["']?(?:[^"'\s>]*/)?({_NAME.pattern})["'\s>]""")
_MD5 = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", re.IGNORECASE)
_SUBSETS = 'use "all", "first:3", or file numbers such as "1-10" or "1,3,1298"'

_BLOCK = 1 << 16  # bytes; an interruption loses at most this much
_FIRST_WAIT = 1.0  # seconds; doubles after every failure
_LONGEST_WAIT = 60.0
_LONGEST_REQUESTED_WAIT = 300.0  # where the server sends Retry-After
T = TypeVar("T")


def download(
    folder: Path | str,
    *,
    base: str | None = None,
    kind: FileKind = "baseline",
    subset: str | None = None,
    retries: int = 4,
    timeout: float = 60.0,
) -> list[Path]:
    """Download MEDLINE files and check each by its md5; return their paths, sorted by number.

    A file gets its final name only once it is complete and its md5 matches. Its `.md5` file is then saved
    beside it, and it is not fetched again. An interrupted download is kept as `.part`, and the next call
    continues it.

    Args:
        folder: where to save the files.
        base: address of the parent of the folders baseline and updatefiles; by default the environment
            variable COMPACT_BIOMED_NLM, or else the library's server.
        kind: baseline, updatefiles, or both (the updates continue the numbering).
        subset: "all" (as None), "first:3", or file numbers such as "1-10,1298".
        retries: further attempts per file after a failure that may be temporary.
        timeout: seconds without data after which a connection counts as stalled.

    Raises:
        UserError: an unknown kind or subset, files that the server does not list, or a server that
            cannot be reached or keeps failing.
    """
    folder = Path(folder)
    base = (base or os.environ.get("COMPACT_BIOMED_NLM") or BASE).rstrip("/")
    if kind not in get_args(FileKind):
        raise UserError(
            f"unknown kind of files {kind!r}", where="nlm", remedy=f"use one of {', '.join(get_args(FileKind))}"
        )
    selection = _parse_subset(subset)
    web = Web(retries, timeout)
    with one_at_a_time(folder / ".lock", f"downloading into {folder}"):
        urls: dict[str, str] = {}
        for part in ("baseline", "updatefiles") if kind == "both" else (kind,):
            names = _list_files(web, f"{base}/{part}/", folder / f".{part}.txt")
            urls |= {name: f"{base}/{part}/{name}" for name in names}
        names = _select(urls, selection, subset, base)
        missing = [name for name in names if not (folder / name).exists() or not (folder / f"{name}.md5").exists()]
        if missing:
            say(f"fetching {len(missing)} of {len(names)} files from {base} (terms of use: {base}/baseline/README.txt)")
        for number, name in enumerate(missing, start=1):
            _fetch(web, urls[name], folder / name, f"{name} ({number} of {len(missing)})")
    return [folder / name for name in names]


def _parse_subset(subset: str | None) -> int | set[int] | None:
    """Return None for all files, a number n for the first n, or a set of file numbers."""
    text = "all" if subset is None else subset.replace(" ", "")
    if text == "all":
        return None
    if match := re.fullmatch(r"first:([1-9]\d{0,5})", text):
        return int(match[1])
    numbers: set[int] = set()
    for item in text.split(","):
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", item)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise UserError(f"{item!r} does not name files", where=f"nlm:{subset}", remedy=_SUBSETS)
        numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return numbers


def _list_files(web: "Web", url: str, saved_list: Path) -> list[str]:
    """Return the names of the files that an index page links to.

    The list is saved, so that files downloaded before can be used on a machine without network, such as a
    compute node.
    """
    try:
        page = web.retry(url, lambda: web.text(url))
    except UserError as error:
        if not saved_list.exists():
            raise
        say(f"{error}; using the list of files saved before")
        return saved_list.read_text(encoding="utf-8").split()
    names = sorted({match[1] for match in _LINK.finditer(page)})
    write_text(saved_list, "\n".join(names))
    return names


def _select(urls: dict[str, str], selection: int | set[int] | None, subset: str | None, base: str) -> list[str]:
    """Return the selected file names, sorted by number."""
    if not urls:
        raise UserError("no file named like pubmed25n0001.xml.gz is listed", where=base, remedy="check the address")
    # Each December a new baseline replaces last year's files, which may remain for a while.
    year = max(_NAME.fullmatch(name)[1] for name in urls)
    numbers = {int(match[2]): name for name in urls if (match := _NAME.fullmatch(name))[1] == year}
    if selection is None:
        selection = set(numbers)
    elif isinstance(selection, int):
        selection = set(sorted(numbers)[:selection])
    if absent := sorted(selection - numbers.keys()):
        raise UserError(
            f"no file number {absent[0]} in {base}: it lists {min(numbers)} to {max(numbers)}",
            where=f"nlm:{subset}",
            remedy=_SUBSETS,
        )
    return [numbers[number] for number in sorted(selection)]


def _fetch(web: "Web", url: str, target: Path, title: str) -> None:
    """Download one file, check its md5 and give it its final name."""
    part = target.with_name(f"{target.name}.part")

    def attempt() -> tuple[Path, str]:
        match = _MD5.search(web.text(f"{url}.md5"))
        if match is None:
            raise Transient("no md5 in its .md5 file")
        expected = match[0].lower()
        for candidate in (target, part):  # copied here by hand, or completed by a run that was then killed
            if candidate.exists() and _md5(candidate) == expected:
                return candidate, expected
        failure = None
        try:
            web.receive(url, part, title)
        except FAILURES as error:
            failure = error
        # The md5 decides, even after a failure: the server may only have announced a wrong length.
        received = _md5(part) if part.exists() else None
        if received == expected:
            return part, expected
        if failure is None:  # the download ended, but this is not the file
            part.unlink(missing_ok=True)
            failure = Transient(f"md5 {received} instead of {expected}, discarded")
        raise failure

    downloaded, expected = web.retry(url, attempt)
    os.replace(downloaded, target)
    # Written last, because it marks the file as complete: see `missing` in `download`.
    with atomic_file(target.with_name(f"{target.name}.md5")) as temporary:
        temporary.write_text(f"MD5({target.name})= {expected}\n", encoding="ascii")


def _md5(path: Path) -> str:
    # usedforsecurity=False: otherwise this fails where only approved algorithms are allowed.
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


# ---- HTTP with retries, waits and resumed downloads


class Transient(Exception):
    """A failure that may be temporary."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason)
        self.wait = wait  # seconds requested by the server


# requests wraps urllib3's errors, except those of the raw stream that `Web.receive` reads.
FAILURES = (Transient, requests.RequestException, urllib3.exceptions.HTTPError)
_PERMANENT = (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema)


class Web:
    """A connection to a server that retries and resumes.

    Args:
        retries: further attempts after a failure that may be temporary (interrupted, stalled, 429, 5xx).
        timeout: seconds without data, while connecting or in the middle of a file, that count as stalled.
    """

    def __init__(self, retries: int = 4, timeout: float = 60.0):
        self.retries, self.timeout = retries, timeout
        self.session = requests.Session()  # uses proxies, certificates and .netrc of the environment
        # No compression in transit, so that ranges and checksums refer to the same bytes.
        self.session.headers.update({"User-Agent": f"compact-biomed/{__version__}", "Accept-Encoding": "identity"})

    def retry(self, url: str, work: Callable[[], T]) -> T:
        """Return `work()`, repeated after waits that double while it fails.

        Raises:
            UserError: all attempts failed, or `url` is not an address.
        """
        for failed in range(self.retries + 1):
            try:
                return work()
            except FAILURES as error:
                if isinstance(error, _PERMANENT):
                    raise UserError(f"not an address: {error}", where=url, remedy="correct the address") from None
                reason = self._reason(error)
                requested = min(getattr(error, "wait", 0.0), _LONGEST_REQUESTED_WAIT)
                wait = max(min(_FIRST_WAIT * 2**failed, _LONGEST_WAIT), requested)
            if failed < self.retries:
                say(f"{url}: {reason}; attempt {failed + 2} of {self.retries + 1} in {duration(wait)}")
                time.sleep(wait)
        raise UserError(
            f"gave up after {self.retries + 1} attempts: {reason}",
            where=url,
            remedy="check the network, the proxy and the address; the same command continues where this one stopped",
        )

    def text(self, url: str) -> str:
        """Return the content of a small page, in one attempt."""
        with self._get(url) as response:
            return response.text

    def receive(self, url: str, part: Path, title: str = "") -> None:
        """Continue downloading `url` into `part`, in one attempt.

        The caller must verify the result by a checksum: `part` may hold the beginning of an older edition,
        and servers report wrong lengths.
        """
        start = part.stat().st_size if part.exists() else 0
        with self._get(url, start) as response:
            if response.status_code == 416:  # there is nothing beyond `start`
                return
            if response.status_code == 206:
                if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                    part.unlink(missing_ok=True)
                    raise Transient("the server sent another range than requested")
            else:  # the server ignores ranges: start from the beginning
                start = 0
            length = response.headers.get("Content-Length", "")
            total = start + int(length) if length.isdigit() else None
            bar = progress(total=total, initial=start, desc=title, unit="B", unit_scale=True, leave=False)
            with bar, open(part, "ab" if start else "wb") as output:
                # The raw stream, because some servers label .gz files as compressed transfers, which requests
                # would unpack.
                for block in response.raw.stream(_BLOCK, decode_content=False):
                    output.write(block)
                    bar.update(len(block))
                output.flush()
                os.fsync(output.fileno())
        # urllib3 2 notices a missing end itself, 1.26 does not.
        if total is not None and (received := part.stat().st_size) < total:
            raise Transient(f"cut off after {received} of {total} bytes")

    @contextmanager
    def _get(self, url: str, start: int = 0) -> Iterator[requests.Response]:
        headers = {"Range": f"bytes={start}-"} if start else None
        with self.session.get(url, headers=headers, stream=True, timeout=self.timeout) as response:
            status = f"HTTP {response.status_code} {response.reason}"
            if response.status_code == 429 or response.status_code >= 500:
                wait = response.headers.get("Retry-After", "")
                raise Transient(status, wait=float(wait) if wait.isdigit() else 0.0)
            if response.status_code >= 400 and response.status_code != 416:
                raise UserError(status, where=url, remedy="check that the address exists")
            yield response

    def _reason(self, error: Exception) -> str:
        """Describe a failure in a few words; the libraries' own messages are nested class names."""
        if isinstance(error, Transient):
            return str(error)
        if isinstance(error, requests.exceptions.ProxyError):
            return "the proxy does not answer"
        if isinstance(error, requests.exceptions.SSLError):
            return "the secure connection failed (certificates?)"
        if isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError):
            return f"stalled: no data for {duration(self.timeout)}"
        if isinstance(error, requests.exceptions.ChunkedEncodingError | urllib3.exceptions.ProtocolError):
            return "cut off"
        if isinstance(error, requests.exceptions.ConnectionError):
            return "no connection"
        return " ".join(str(error).split()) or type(error).__name__
