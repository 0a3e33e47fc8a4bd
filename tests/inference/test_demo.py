"""The demo's page: what it answers, and what it turns away."""
# ruff: noqa: RUF001

import itertools
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from types import SimpleNamespace

import pytest
from tiny_checkpoints import make_checkpoint

from compact_biomed.errors import UserError
from compact_biomed.inference import demo
from compact_biomed.inference.model import load
from compact_biomed.inference.words import Word

TEXT = "🐸 the kinase of Müller–frogs and fevers"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(make_checkpoint(tmp_path_factory.mktemp("ner"), "token"))


@pytest.fixture(scope="module")
def ask(model) -> Iterator[Callable]:
    """ask(method, path, body, headers) -> (status, body)."""
    with asking(model) as request:
        yield request


@contextmanager
def asking(model) -> Iterator[Callable]:
    server = demo.serve(model, 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()

    def request(method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        connection = HTTPConnection(*server.server_address, timeout=20)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        request.headers = response.headers
        answer = response.status, response.read()
        connection.close()
        return answer

    request.address = server.server_address
    try:
        yield request
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_page_and_the_entities(ask, model) -> None:
    status, page = ask("GET", "/")
    assert status == 200 and b"<textarea" in page
    about = json.loads(ask("GET", "/about")[1])
    assert (about["model"], about["method"], about["labels"]) == (model.name, "entities", ["Disease", "Gene"])
    status, body = ask("POST", "/entities", json.dumps({"text": TEXT}).encode(), Content_Type="application/json")
    found = json.loads(body)["predictions"]
    brat = [entity.pop("brat") for entity in found]
    assert status == 200 and found == [entity._asdict() for entity in model.entities(TEXT)] != []
    assert brat[0] == f"{found[0]['label']} {found[0]['start']} {found[0]['end']}\t{found[0]['text']}"


@pytest.mark.parametrize(
    ("head", "asked"),
    [
        ("sequence", {"text": TEXT}),
        ("sequence", {"text": TEXT, "pair": "frogs"}),
        ("span", {"question": "of what?", "text": TEXT * 3}),
    ],
)
def test_classes_and_answers(tmp_path, head: str, asked: dict[str, str]) -> None:
    model = load(make_checkpoint(tmp_path, head), precision="fp32")
    with asking(model) as ask:
        about = json.loads(ask("GET", "/about")[1])
        path = f"/{about['method']}"
        assert path == f"/{model.method}" and about["labels"] == model.engine.labels
        status, body = ask("POST", path, json.dumps(asked).encode(), Content_Type="application/json")
        found = json.loads(body)["predictions"]
        assert status == 200 and found == [each._asdict() for each in getattr(model, model.method)(*asked.values())]
        status, body = ask("POST", path, b'{"text": "a", "pair": 3}', Content_Type="application/json")
        assert status == 400 and ("send a pair" if head == "sequence" else "send a question") in body.decode()
        status, body = ask("POST", "/entities", b"{}", Content_Type="application/json")
        assert status == 404 and f"asked at {path}" in body.decode()
    model.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (("GET", "/etc/passwd"), 404),
        (("POST", "/else", b"{}"), 404),
        (("POST", "/entities", b'{"text": "a"}'), 415),
    ],
)
def test_what_it_does_not_know(ask, request_, status: int) -> None:
    assert ask(*request_)[0] == status


@pytest.mark.parametrize("body", [b"no json", b"[]", b'{"text": 3}', b"{}", b"[" * 100_000, b'{"text": "\\ud800"}'])
def test_what_is_no_text(ask, body: bytes) -> None:
    assert ask("POST", "/entities", body, Content_Type="application/json")[0] == 400


def test_other_names_of_this_machine_are_turned_away(ask) -> None:
    assert ask("GET", "/", Host="evil.example:80")[0] == 403
    assert ask("GET", "/", Host="localhost:80")[0] == 200
    assert ask("GET", "/", Host="localhost")[0] == 200


@pytest.mark.parametrize(("length", "status"), [("\xb2", 411), ("-1", 411), ("9" * 5000, 413)])
def test_a_length_that_is_none(ask, length: str, status: int) -> None:
    assert ask("POST", "/entities", b"{}", Content_Type="application/json", Content_Length=length)[0] == status


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/" + "a" * 100_000, {}), ("/", {"X": "a" * 100_000}), ("/", {f"X-{n}": "a" * 900 for n in range(50)})],
)
def test_heads_that_are_too_long(ask, path: str, headers: dict[str, str]) -> None:
    assert ask("GET", path, **headers)[0] == 431


def test_the_page_can_run_its_own_files_only_and_be_framed_by_none(ask) -> None:
    page = ask("GET", "/")[1].decode()
    for name in ("page.css", "page.js"):
        assert f'"{name}"' in page and ask("GET", f"/{name}")[0] == 200
    assert all(ask("GET", f"/{name}.js")[0] == 200 for name in ("show", "save"))  # which page.js imports
    assert "<style" not in page and "<script>" not in page and "style=" not in page
    policy = ask.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy and "unsafe" not in policy and "default-src 'none'" in policy


class Endless:
    """A model that never finishes a text, and says which it has left."""

    method, name, pairs = "entities", "endless", None
    engine = SimpleNamespace(family="token", labels=["B", "I", "O"], problem_type=None, thresholds=None)

    def __init__(self):
        self.begun, self.left = threading.Event(), threading.Event()

    def words(self, read) -> Iterator[Word]:
        self.begun.set()
        try:
            for number in itertools.count():
                time.sleep(0.01)
                yield Word(number, number + 1, "O", 1.0, "", "a")
        finally:
            self.left.set()


@pytest.fixture
def busy(capfd):
    """A server that computes a text without end, and the socket of who asked for it."""
    server = demo.serve(Endless(), 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    reader = socket.create_connection(server.server_address)
    body = b'{"text": "a"}'
    head = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    reader.sendall(f"POST /entities HTTP/1.1\r\n{head}\r\n\r\n".encode() + body)
    assert server.model.begun.wait(20)
    yield server, reader
    server.shutdown()
    thread.join()
    server.server_close()
    reader.close()
    assert capfd.readouterr() == ("", "")  # no traceback of any thread


def test_a_reader_who_leaves_frees_the_model(busy) -> None:
    server, reader = busy
    assert not server.model.left.wait(0.5)
    reader.close()
    assert server.model.left.wait(20) and server.turn.acquire(timeout=20)
    server.turn.release()


def test_closing_ends_a_text_that_is_being_computed(busy) -> None:
    server, _ = busy
    server.shutdown()
    server.server_close()
    assert server.model.left.is_set()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"POST /entities HTTP/1.1\r\nHost: localhost\r\n"])
def test_a_request_that_never_ends_is_given_up(ask, monkeypatch, sent: bytes) -> None:
    monkeypatch.setattr(demo, "SECONDS", 0.3)
    with socket.create_connection(ask.address, timeout=20) as reader:
        reader.sendall(sent)
        assert reader.recv(100) == b""


@pytest.mark.slow
def test_ctrl_c_while_busy_ends_quietly(tmp_path) -> None:
    model = make_checkpoint(tmp_path, "token")
    command = [sys.executable, "-m", "compact_biomed", "demo", "--model", str(model), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    address = re.search(r"http://([\d.]+):(\d+)/", process.stderr.readline())
    body = json.dumps({"text": "the fever of frogs " * 30_000})
    connection = HTTPConnection(address[1], int(address[2]), timeout=60)
    connection.request("POST", "/entities", body, {"Content-Type": "application/json"})
    time.sleep(0.5)  # reading so much takes several times as long
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0 and process.stderr.read().strip() == ""


def test_texts_that_are_too_long(ask, monkeypatch) -> None:
    monkeypatch.setattr(demo, "LONGEST_BODY", 10)
    assert ask("POST", "/entities", b'{"text": "frogs"}', Content_Type="application/json")[0] == 413


def test_a_port_that_is_taken_and_a_model_without_a_task(model, tmp_path) -> None:
    with demo.serve(model, 0) as server, pytest.raises(UserError, match="another --port"):
        demo.serve(model, server.server_address[1])
    with pytest.raises(UserError, match=r"no port 99999 .from 0 to 65535"):
        demo.serve(model, 99_999)
    with pytest.raises(UserError, match="no task to predict"):
        demo.serve(load(make_checkpoint(tmp_path, "mlm")), 0)
