"""PubMed from the National Library of Medicine: the yearly baseline and the daily updates.

The library asks its users to read the terms that stand in the README.txt of the
baseline folder, and to name it as the source.
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

# ----------------------------------------------------------------------------------------------------
# Polite HTTP: few tries, growing waits, downloads that go on where they stopped.


_BLOCK = 1 << 16  # what a cut-off can lose
_FIRST_WAIT = 1.0  # seconds; doubled after every failure
_LONGEST_WAIT = 60.0  # of our own accord
_LONGEST_ASKED = 300.0  # at the server's wish

Result = TypeVar("Result")


class Transient(Exception):
    """A failure that another try may not meet."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason)
        self.wait = wait  # seconds that the server asked for


# requests wraps urllib3's errors, except those of the raw stream that `receive` reads.
FAILURES = (Transient, requests.RequestException, urllib3.exceptions.HTTPError)
_HOPELESS = (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema)


class Web:
    """One connection to a server, with patience.

    Args:
        retries: further tries after a failure that may pass (cut off, stalled, 429, 5xx).
        timeout: seconds of silence, in connecting or in the middle of a file, that count as a stall.
    """

    def __init__(self, retries: int = 4, timeout: float = 60.0):
        self.retries, self.timeout = retries, timeout
        self.session = requests.Session()  # takes proxies, certificates and .netrc from the environment
        # Not compressed on the way: ranges and checksums then speak of the same bytes.
        self.session.headers.update({"User-Agent": f"compact-biomed/{__version__}", "Accept-Encoding": "identity"})

    def patiently(self, url: str, work: Callable[[], Result]) -> Result:
        """`work()`, tried again after waits that double; a `UserError` naming `url` when all tries failed."""
        for failed in range(self.retries + 1):
            try:
                return work()
            except FAILURES as error:
                if isinstance(error, _HOPELESS):
                    raise UserError(f"not an address: {error}", where=url) from None
                reason = self._reason(error)
                asked = min(getattr(error, "wait", 0.0), _LONGEST_ASKED)
                wait = max(min(_FIRST_WAIT * 2**failed, _LONGEST_WAIT), asked)
            if failed < self.retries:
                say(f"{url}: {reason}; try {failed + 2} of {self.retries + 1} in {duration(wait)}")
                time.sleep(wait)
        raise UserError(
            f"gave up after {self.retries + 1} tries: {reason}",
            where=url,
            remedy="check the network, the proxy and the address; the same command goes on where this one stopped",
        )

    def text(self, url: str) -> str:
        """The content of a small page, in one try."""
        with self._get(url) as response:
            return response.text

    def receive(self, url: str, part: Path, title: str = "") -> None:
        """Bring `part` nearer to the content of `url`, in one try, going on where it ends.

        Whether the result is whole and right is for a checksum to say: `part` may hold
        the beginning of an older edition, and servers err about lengths.
        """
        start = part.stat().st_size if part.exists() else 0
        with self._get(url, start) as response:
            if response.status_code == 416:  # nothing lies beyond `start`
                return
            if response.status_code == 206:
                if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                    part.unlink(missing_ok=True)
                    raise Transient("the server sent another range than was asked for")
            else:  # the server knows no ranges: from the beginning
                start = 0
            length = response.headers.get("Content-Length", "")
            total = start + int(length) if length.isdigit() else None
            bar = progress(total=total, initial=start, desc=title, unit="B", unit_scale=True, leave=False)
            with bar, open(part, "ab" if start else "wb") as output:
                # The raw stream: some servers label .gz files as compressed transfers, and requests
                # would then unpack them.
                for block in response.raw.stream(_BLOCK, decode_content=False):
                    output.write(block)
                    bar.update(len(block))
                output.flush()
                os.fsync(output.fileno())
        # urllib3 2 notices a missing end by itself, 1.26 does not.
        if total is not None and (received := part.stat().st_size) < total:
            raise Transient(f"cut off after {received} of {total} bytes")

    @contextmanager
    def _get(self, url: str, start: int = 0) -> Iterator[requests.Response]:
        headers = {"Range": f"bytes={start}-"} if start else None
        with self.session.get(url, headers=headers, stream=True, timeout=self.timeout) as response:
            answer = f"HTTP {response.status_code} {response.reason}"
            if response.status_code == 429 or response.status_code >= 500:
                asked = response.headers.get("Retry-After", "")
                raise Transient(answer, wait=float(asked) if asked.isdigit() else 0.0)
            if response.status_code >= 400 and response.status_code != 416:
                raise UserError(answer, where=url, remedy="check the address and what it offers")
            yield response

    def _reason(self, error: Exception) -> str:
        """In a few words: the libraries' own texts are a nest of class names."""
        if isinstance(error, Transient):
            return str(error)
        if isinstance(error, requests.exceptions.ProxyError):
            return "the proxy does not answer"
        if isinstance(error, requests.exceptions.SSLError):
            return "the secure connection failed (certificates?)"
        if isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError):
            return f"stalled: nothing came for {duration(self.timeout)}"
        if isinstance(error, requests.exceptions.ChunkedEncodingError | urllib3.exceptions.ProtocolError):
            return "cut off"
        if isinstance(error, requests.exceptions.ConnectionError):
            return "no connection"
        return " ".join(str(error).split()) or type(error).__name__


BASE = "https://ftp.ncbi.nlm.nih.gov/pubmed"
Kind = Literal["baseline", "updatefiles", "both"]

_NAME = re.compile(r"pubmed(\d\d)n(\d{4,})\.xml\.gz")
_LINK = re.compile(rf"""(?i:href)\s*=\s*["']?(?:[^"'\s>]*/)?({_NAME.pattern})["'\s>]""")
_MD5 = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", re.IGNORECASE)
_SUBSETS = 'use "all", "first:3", or file numbers such as "1-10" or "1,3,1298"'


def download(
    folder: Path | str,
    *,
    base: str | None = None,
    kind: Kind = "baseline",
    subset: str | None = None,
    retries: int = 4,
    timeout: float = 60.0,
) -> list[Path]:
    """Fetch MEDLINE files, each checked by its md5; return their paths in order of number.

    A file has its final name only when it is whole and its md5 is right; its `.md5`
    stands beside it, and it is not fetched again. What was cut off stays as `.part`, and
    the next call goes on from there. One file is fetched at a time: the server is shared.

    Args:
        folder: where the files are kept.
        base: the address above the folders baseline and updatefiles; else the environment
            variable COMPACT_BIOMED_NLM, else the library's own server.
        kind: baseline, updatefiles, or both (numbered on from one to the other).
        subset: "all" (as None), "first:3", or file numbers such as "1-10,1298".
        retries: further tries for each file after a failure that may pass.
        timeout: seconds of silence after which a connection counts as stalled.
    """
    folder = Path(folder)
    base = (base or os.environ.get("COMPACT_BIOMED_NLM") or BASE).rstrip("/")
    if kind not in get_args(Kind):
        raise UserError(
            f"{kind!r} is not a kind of files", where="nlm", remedy=f"use one of {', '.join(get_args(Kind))}"
        )
    wanted = _parse(subset)
    web = Web(retries, timeout)
    with one_at_a_time(folder / ".lock", f"downloading into {folder}"):
        listed: dict[str, str] = {}
        for part in ("baseline", "updatefiles") if kind == "both" else (kind,):
            listed |= {
                name: f"{base}/{part}/{name}" for name in _listing(web, f"{base}/{part}/", folder / f".{part}.txt")
            }
        names = _select(listed, wanted, subset, base)
        missing = [name for name in names if not (folder / name).exists() or not (folder / f"{name}.md5").exists()]
        if missing:
            say(f"fetching {len(missing)} of {len(names)} files from {base} (terms of use: {base}/baseline/README.txt)")
        for number, name in enumerate(missing, start=1):
            _fetch(web, listed[name], folder / name, f"{name} ({number} of {len(missing)})")
    return [folder / name for name in names]


def _parse(subset: str | None) -> int | set[int] | None:
    """None for all files, a count for the first ones, or the numbers asked for."""
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


def _listing(web: Web, url: str, kept: Path) -> list[str]:
    """The files that an index page links to.

    The list is kept in the folder: on a machine without network (a compute node, say),
    files that are already here can then still be named.
    """
    try:
        page = web.patiently(url, lambda: web.text(url))
    except UserError as error:
        if not kept.exists():
            raise
        say(f"{error}; going on with the list of the last visit")
        return kept.read_text(encoding="utf-8").split()
    names = sorted({match[1] for match in _LINK.finditer(page)})
    write_text(kept, "\n".join(names))
    return names


def _select(listed: dict[str, str], wanted: int | set[int] | None, subset: str | None, base: str) -> list[str]:
    """The names asked for, in order of number."""
    if not listed:
        raise UserError("no file named like pubmed25n0001.xml.gz is listed", where=base, remedy="check the address")
    # Each December a new baseline replaces the last year's files, which may stand there for a while.
    year = max(_NAME.fullmatch(name)[1] for name in listed)
    numbers = {int(match[2]): name for name in listed if (match := _NAME.fullmatch(name))[1] == year}
    if wanted is None:
        wanted = set(numbers)
    elif isinstance(wanted, int):
        wanted = set(sorted(numbers)[:wanted])
    if absent := sorted(wanted - numbers.keys()):
        raise UserError(
            f"no file number {absent[0]} in {base}: it lists {min(numbers)} to {max(numbers)}",
            where=f"nlm:{subset}",
            remedy=_SUBSETS,
        )
    return [numbers[number] for number in sorted(wanted)]


def _fetch(web: Web, url: str, target: Path, title: str) -> None:
    """Bring one file, checked, to its final name."""
    part = target.with_name(f"{target.name}.part")

    def once() -> tuple[Path, str]:
        found = _MD5.search(web.text(f"{url}.md5"))
        if found is None:
            raise Transient("no md5 in the .md5 file beside it")
        expected = found[0].lower()
        for here in (target, part):  # put here by hand, or left whole by a killed run
            if here.exists() and _md5(here) == expected:
                return here, expected
        failure = None
        try:
            web.receive(url, part, title)
        except FAILURES as error:
            failure = error
        # The md5 has the last word, after a failure too: the server may only have erred about the length.
        received = _md5(part) if part.exists() else None
        if received == expected:
            return part, expected
        if failure is None:  # no more will come, and what came is not the file
            part.unlink(missing_ok=True)
            failure = Transient(f"md5 {received} instead of {expected}, discarded")
        raise failure

    whole, expected = web.patiently(url, once)
    os.replace(whole, target)
    # Last, for it vouches for the file: see `missing` in `download`.
    with atomic_file(target.with_name(f"{target.name}.md5")) as temporary:
        temporary.write_text(f"MD5({target.name})= {expected}\n", encoding="ascii")


def _md5(path: Path) -> str:
    # "Not for security": else this fails where only approved algorithms are allowed.
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
