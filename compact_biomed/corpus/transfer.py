"""Polite HTTP: few tries, growing waits, downloads that go on where they stopped."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import requests
import urllib3

from compact_biomed import __version__
from compact_biomed.console import duration, progress, say
from compact_biomed.errors import UserError

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
