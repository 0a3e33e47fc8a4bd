"""Serve a page on this machine: paste a text, see what a model predicts. It needs only the standard library.

One text is computed at a time. If its reader leaves, or the server ends, the rest of it is not computed.
"""

import io
import json
import select
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from http.client import LineTooLong
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock
from typing import Any

from compact_biomed.errors import UsageError, UserError
from compact_biomed.inference import words as tagging
from compact_biomed.inference.documents import Request, is_text, of_text
from compact_biomed.inference.engines import require_task
from compact_biomed.inference.formats import brat_place
from compact_biomed.inference.model import Predictor
from compact_biomed.inference.words import Word

HOST = "127.0.0.1"
LONGEST_BODY = 2_000_000  # bytes
LONGEST_HEAD = 16_384  # bytes of the request line and all headers; the buffer may hold some of the body beyond them
SECONDS = 20.0  # within which a request has to arrive, and each part of an answer to leave
_ATTENTION = 0.2  # seconds between two looks at whether somebody still waits for the answer
_PAGE = {  # path -> file, content type
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    **{f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8") for name in ("page", "save", "show")},
}
_FIELDS = {"entities": ("text",), "classify": ("text", "pair"), "answers": ("text", "question")}  # what a request holds
_OPTIONAL = ("pair",)
_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def serve(model: Predictor, port: int) -> "DemoServer":
    """Return a server that is bound to `HOST` only; `serve_forever` starts it.

    Args:
        model: of any task.
        port: 0 = a free one.

    Raises:
        UserError: the model has no task head, or the port is taken.
        UsageError: there is no port of this number.
    """
    require_task(model.engine, model.name)
    try:
        return DemoServer(model, port)
    except OverflowError as error:
        raise UsageError(f"no port {port}", where="--port", remedy="from 0 to 65535") from error
    except OSError as error:
        what = f"cannot listen: {error.strerror}"
        raise UserError(what, where=f"{HOST}:{port}", remedy="choose another --port") from error


class DemoServer(ThreadingHTTPServer):
    """The server of one model."""

    def __init__(self, model: Predictor, port: int):
        self.model, self.turn, self.ending = model, Lock(), Event()
        folder = Path(__file__).with_name("page")
        self.page = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in _PAGE.items()}
        examples = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
        self.about = {
            "model": model.name,
            "method": model.method,
            "labels": tagging.types(model.engine.labels) if model.method == "entities" else model.engine.labels,
            "problem": model.engine.problem_type,
            "thresholds": chosen.fields() if (chosen := model.engine.thresholds) else None,
            "longest": LONGEST_BODY,
            "pairs": model.pairs,
            "examples": [each for each in examples[model.method] if model.pairs in (None, "pair" in each)],
        }
        super().__init__((HOST, port), _Handler)

    def server_close(self) -> None:
        """Stop listening, and wait until the text that is being computed has been left."""
        self.ending.set()
        super().server_close()
        if self.turn.acquire(timeout=SECONDS):
            self.turn.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a reader that leaves before its answer, or is too slow."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Head(io.RawIOBase):
    """What arrives on a socket, with a limit on the time it takes and, until `open`, on its length."""

    def __init__(self, connection: socket.socket):
        self.connection, self.end = connection, time.monotonic() + SECONDS
        self.left: float = LONGEST_HEAD

    def readable(self) -> bool:
        return True

    def open(self) -> None:
        self.left = float("inf")

    def readinto(self, buffer: Any) -> int:
        seconds = self.end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the request takes too long")
        if self.left <= 0:
            raise LineTooLong("head of the request")
        self.connection.settimeout(seconds)
        n_bytes = self.connection.recv_into(buffer)
        self.left -= n_bytes
        return n_bytes


class _Handler(BaseHTTPRequestHandler):
    server: DemoServer
    requestline, request_version = "", "HTTP/1.0"  # until they are read

    def setup(self) -> None:
        super().setup()
        self.head = _Head(self.connection)
        self.rfile = io.BufferedReader(self.head)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except LineTooLong:  # already in the request line
            self.send_error(431)

    def finish(self) -> None:
        """Read what a refused request still sends: closing before that would reset the connection, answer and all."""
        super().finish()
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_ATTENTION)
            for _ in range(LONGEST_BODY >> 16):
                if not self.connection.recv(1 << 16):
                    break

    def do_GET(self) -> None:
        """Send a file of the page, or what it should know of the model."""
        if not self._is_local():
            return
        if self.path in self.server.page:
            self._send(200, *self.server.page[self.path])
        elif self.path == "/about":
            self._json(200, self.server.about)
        else:
            self._json(404, {"error": "no such page"})

    def do_POST(self) -> None:
        """Answer {"text": ...} at the model's method (/entities, /classify, /answers) with {"predictions": [...]}."""
        if not self._is_local():
            return
        method = self.server.model.method
        if self.path != f"/{method}":
            return self._json(404, {"error": f"no such page: this model is asked at /{method}"})
        # A page of another site can post forms and plain text here, but JSON only if this server allowed it.
        if self.headers.get_content_type() != "application/json":
            return self._json(415, {"error": "send application/json"})
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            return self._json(411, {"error": "send a Content-Length"})
        if len(length) > 9 or int(length) > LONGEST_BODY:
            return self._json(413, {"error": f"more than {LONGEST_BODY:,} bytes: use compact-biomed predict"})
        self.head.open()
        try:
            content = json.loads(self.rfile.read(int(length)))
            asked = {name: content.get(name) for name in _FIELDS[method]}
        except (ValueError, AttributeError, RecursionError):
            return self._json(400, {"error": "no JSON object"})
        for name, value in asked.items():
            if not is_text(value) and not (value is None and name in _OPTIONAL):
                return self._json(400, {"error": f"send a {name}: a string without half characters (lone surrogates)"})
        try:
            predictions = self._predictions(of_text(**asked))
        except UserError as error:  # logits that are not finite
            return self._json(500, {"error": str(error)})
        self._json(200, {"predictions": predictions})

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what `http.server` itself refuses."""
        self.close_connection = True
        self._json(code, {"error": message or self.responses[code][0]})

    def log_message(self, *_: Any) -> None:
        """Log nothing: texts may be confidential."""

    def _predictions(self, request: Request) -> list[dict[str, Any]]:
        model = self.server.model
        while not self.server.turn.acquire(timeout=_ATTENTION):
            self._require_reader()
        try:
            if model.method != "entities":
                found = model.predict(request, watch=self._require_reader)
                return [each._asdict() for each in found]
            with closing(model.words(request.read)) as words:
                found = tagging.entities(self._while_read(words))
                return [entity._asdict() | {"brat": brat_place(entity)} for entity in found]
        finally:
            self.server.turn.release()

    def _while_read(self, words: Iterable[Word]) -> Iterator[Word]:
        looked = time.monotonic()
        for word in words:
            if time.monotonic() - looked > _ATTENTION:
                self._require_reader()
                looked = time.monotonic()
            yield word

    def _require_reader(self) -> None:
        """Raise a `ConnectionError` if nobody waits for the answer any more."""
        poll = select.poll()
        poll.register(self.connection, select.POLLIN)
        if self.server.ending.is_set() or (poll.poll(0) and not self.connection.recv(1, socket.MSG_PEEK)):
            raise ConnectionAbortedError("the reader has left")

    def _is_local(self) -> bool:
        """Return whether the request names this machine; reject a foreign name that resolves to it."""
        name = (self.headers.get("Host") or "").partition(":")[0]  # without a port where that is 80
        if name in (HOST, "localhost"):
            return True
        self._json(403, {"error": "this page is for this machine only"})
        return False

    def _json(self, status: int, value: dict[str, Any]) -> None:
        self._send(status, json.dumps(value, ensure_ascii=False).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.connection.settimeout(SECONDS)
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), **_SECURITY}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
