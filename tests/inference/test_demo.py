"""The demo's page: what it answers, and what it turns away."""
# ruff: noqa: RUF001

import json
import threading
from http.client import HTTPConnection

import pytest
from tiny_checkpoints import make_checkpoint

from compact_biomed.errors import UserError
from compact_biomed.inference import demo
from compact_biomed.inference.model import load

TEXT = "🐸 the kinase of Müller–frogs and fevers"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(make_checkpoint(tmp_path_factory.mktemp("ner"), "token"))


@pytest.fixture(scope="module")
def ask(model):
    """ask(method, path, body, headers) -> (status, body)."""
    server = demo.serve(model, 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()

    def request(method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        connection = HTTPConnection(*server.server_address, timeout=20)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        answer = response.status, response.read()
        connection.close()
        return answer

    yield request
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_page_and_the_entities(ask, model) -> None:
    status, page = ask("GET", "/")
    assert status == 200 and b"<textarea" in page
    assert json.loads(ask("GET", "/about")[1]) == {"model": model.name}
    status, body = ask("POST", "/entities", json.dumps({"text": TEXT}).encode(), Content_Type="application/json")
    found = json.loads(body)["entities"]
    assert status == 200 and found == [entity._asdict() for entity in model.entities(TEXT)] != []


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


def test_a_length_that_is_no_number(ask) -> None:
    assert ask("POST", "/entities", b"{}", Content_Type="application/json", Content_Length="\xb2")[0] == 411


def test_texts_that_are_too_long(ask, monkeypatch) -> None:
    monkeypatch.setattr(demo, "LONGEST_BODY", 10)
    assert ask("POST", "/entities", b'{"text": "frogs"}', Content_Type="application/json")[0] == 413


def test_a_port_that_is_taken_and_a_model_without_entities(model, tmp_path) -> None:
    with demo.serve(model, 0) as server, pytest.raises(UserError, match="another --port"):
        demo.serve(model, server.server_address[1])
    with pytest.raises(UserError, match="another --port"):
        demo.serve(model, 99_999)
    with pytest.raises(UserError, match="shows entities"):
        demo.serve(load(make_checkpoint(tmp_path, "sequence")), 0)
