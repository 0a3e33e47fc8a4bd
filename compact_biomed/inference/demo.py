"""Serve a page on this machine: paste a text, see its entities. Uses `http.server` of the standard library only."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

from compact_biomed.errors import UserError
from compact_biomed.inference.formats import is_text
from compact_biomed.inference.model import Predictor

HOST = "127.0.0.1"
LONGEST_BODY = 2_000_000  # bytes
_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'",
    "X-Content-Type-Options": "nosniff",
}


def serve(model: Predictor, port: int) -> ThreadingHTTPServer:
    """Return a server that is bound to `HOST` only; `serve_forever` starts it.

    Args:
        model: one for entities.
        port: 0 = a free one.

    Raises:
        UserError: the model finds no entities, or the port is taken.
    """
    if model.method != "entities":
        raise UserError(
            "the demo shows entities, and this model has none",
            where=model.name,
            remedy="name a model fine-tuned on entities",
        )
    page = Path(__file__).with_name("page.html").read_bytes()
    handler = type("Handler", (_Handler,), {"model": model, "page": page, "turn": Lock()})
    try:
        return _Server((HOST, port), handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", "no port has this number")
        raise UserError(f"cannot listen: {reason}", where=f"{HOST}:{port}", remedy="choose another --port") from error


class _Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """Ignore a browser that leaves before its answer."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    model: Predictor
    page: bytes
    turn: Lock  # one text at a time

    def do_GET(self) -> None:
        """Send the page, or the model's name."""
        if not self._is_local():
            return
        if self.path == "/":
            self._send(200, self.page, "text/html; charset=utf-8")
        elif self.path == "/about":
            self._json(200, {"model": self.model.name})
        else:
            self._json(404, {"error": "no such page"})

    def do_POST(self) -> None:
        """Answer {"text": ...} with {"entities": [...]}."""
        if not self._is_local():
            return
        if self.path != "/entities":
            return self._json(404, {"error": "no such page"})
        # A page of another site can post forms and plain text here, but JSON only if this server allowed it.
        if self.headers.get_content_type() != "application/json":
            return self._json(415, {"error": "send application/json"})
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            return self._json(411, {"error": "send a Content-Length"})
        if int(length) > LONGEST_BODY:
            return self._json(413, {"error": f"more than {LONGEST_BODY:,} bytes: use compact-biomed predict"})
        try:
            text = json.loads(self.rfile.read(int(length)))["text"]
            if not is_text(text):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError):
            return self._json(400, {"error": 'send {"text": ...}'})
        with self.turn:
            entities = self.model.entities(text)
        self._json(200, {"entities": [entity._asdict() for entity in entities]})

    def log_message(self, *_: Any) -> None:
        """Log nothing: texts may be confidential."""

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
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), **_SECURITY}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
