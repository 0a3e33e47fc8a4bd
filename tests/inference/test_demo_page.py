"""The demo's page: what its files hold, and what it does in a real browser, where there is one."""
# ruff: noqa: RUF001

import csv
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import CHROMIUM, CONTROL, DRIVER, END, ENTER, RIGHT, SPACE, TAB, Browser, browser
from tiny_checkpoints import make_checkpoint

from compact_biomed.evaluation.analysis.thresholds import Thresholds
from compact_biomed.inference import demo
from compact_biomed.inference.engines import TorchEngine
from compact_biomed.inference.formats import ENTITY_FORMATS
from compact_biomed.inference.model import Predictor, load

PAGE = Path(demo.__file__).with_name("page")
EVIL = "<img/src=x/onerror=document.title='run'>"  # one word, as a type has to be
TEXT = "🐸 the kinase of <b>Müller</b>–frogs & fevers,\nthe <script>document.title='run'</script> of the kin."


def test_the_page_loads_nothing_but_its_own_files_and_writes_no_markup() -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in PAGE.iterdir() if path.is_file()}
    assert set(files) == {name for name, _ in demo._PAGE.values()} | {"examples.json"}
    for name, content in files.items():
        assert "//" not in re.sub(r"(?m)(^|\s)//\s.*$", "", content), f"an address in {name}"
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|\son\w+=", content), name


def test_every_field_has_a_label_and_every_method_its_examples() -> None:
    page = _Fields()
    page.feed((PAGE / "page.html").read_text(encoding="utf-8"))
    assert len(page.fields) == 6 and page.fields <= page.labels
    examples = json.loads((PAGE / "examples.json").read_text(encoding="utf-8"))
    assert set(examples) == {"entities", "classify", "answers"}
    for method, several in examples.items():
        assert len({example["name"] for example in several}) == len(several) >= 2
        assert all(set(example) <= {"name", *demo._FIELDS[method]} for example in several)


class _Fields(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fields, self.labels = set(), set()

    def handle_starttag(self, name, attributes):
        found = dict(attributes)
        if name in ("input", "select", "textarea"):
            self.fields.add(found["id"])
        if name == "label":
            self.labels.add(found["for"])


# ---- in a browser


@contextmanager
def served(model: Predictor) -> Iterator[str]:
    """The address of a server of the model."""
    with demo.serve(model, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()
    model.close()


def downloaded(tab: Browser, folder: Path, form: str) -> str:
    """The file that a button saves."""
    path = folder / f"predictions.{form}"
    tab.click(f"[data-format={form}]")
    end = time.monotonic() + 20
    while not path.exists() or list(folder.glob("*.crdownload")):
        assert time.monotonic() < end
        time.sleep(0.02)
    content = path.read_bytes().decode()
    path.unlink()
    return content


def rows(tab: Browser) -> list[list[str]]:
    """The cells of the list."""
    cells = (
        "return [...document.querySelectorAll('#list tbody tr')].map(r => [...r.cells].map(c => c.textContent.trim()))"
    )
    return tab.run(cells)


@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not here")
def test_in_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TorchEngine, "thresholds", Thresholds({"Gene": 0.0}, default=1.0))
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    with browser(downloads) as tab:
        _entities(tab, downloads, load(make_checkpoint(tmp_path / "ner", "token", labels=_labels()), precision="fp32"))
        _classes(tab, downloads, load(make_checkpoint(tmp_path / "classes", "sequence"), precision="fp32"))
        _answers(tab, load(make_checkpoint(tmp_path / "span", "span"), precision="fp32"))
        logged = tab.call("POST", "/se/log", {"type": "browser"})
        assert [entry["message"] for entry in logged if "ERR_CONNECTION_REFUSED" not in entry["message"]] == []


def _labels() -> list[str]:
    return [f"B-{EVIL}", "B-Gene", f"I-{EVIL}", "I-Gene", "O"]


def _entities(tab: Browser, downloads: Path, model: Predictor) -> None:
    expected = model.entities(TEXT)
    assert {each.label for each in expected} == {EVIL, "Gene"}
    with served(model) as address:
        tab.open(address)
        tab.until("document.querySelector('#example').length > 1")
        tab.type(CONTROL + ENTER, "#text")  # by keyboard alone; the empty text is refused before it is sent
        assert "Enter a text" in tab.until("document.querySelector('#error').innerText")
        tab.run("document.querySelector('#text').value = arguments[0]", TEXT)
        tab.type(CONTROL + ENTER, "#text")
        tab.until("!document.querySelector('#output').hidden")
        assert [(row[0], row[1]) for row in rows(tab)] == [(each.text, each.label) for each in expected]
        assert [row[2] for row in rows(tab)] == [f"{each.score:.3f}" for each in expected]
        marks = tab.run("return [...document.querySelectorAll('mark')].map(m => [m.firstChild.textContent, m.title])")
        assert [mark[0] for mark in marks] == [each.text for each in expected]
        assert f"score {expected[0].score:.3f}" in marks[0][1]
        shown = tab.run("return document.querySelector('#marked').textContent")
        assert shown == "".join(_with_labels(TEXT, expected)) and tab.run("return document.title") != "run"
        assert tab.run("return document.querySelectorAll('#output img, #output b, #output script').length") == 0
        # A row leads to its mark, a box hides a type, and the slider hides low scores.
        tab.click("#list tbody button")
        assert tab.run("return document.activeElement.firstChild.textContent") == expected[0].text
        genes = [each for each in expected if each.label == "Gene"]
        assert f"Gene ({len(genes)})" in tab.text("#types")
        tab.run("document.querySelector('#types input').focus()")  # the boxes are in the order of the types
        tab.type(SPACE)
        assert [row[0] for row in rows(tab)] == [each.text for each in genes]
        assert tab.run("return document.activeElement.dataset.label") == EVIL
        assert json.loads(downloaded(tab, downloads, "json"))["entities"] == [each._asdict() for each in genes]
        tab.click("#types input")
        saved = list(csv.DictReader(downloaded(tab, downloads, "csv").splitlines(keepends=True)))
        assert [(row["text"], int(row["start"])) for row in saved] == [(each.text, each.start) for each in expected]
        words = model.words(demo.of_text(TEXT).read)
        assert downloaded(tab, downloads, "ann").splitlines() == list(ENTITY_FORMATS["brat"]("", words))
        assert downloaded(tab, downloads, "txt") == TEXT
        tab.run("document.querySelector('#threshold').focus()")
        tab.type(END)
        assert rows(tab) == [] and f"0 of {len(expected)} shown" in tab.text("#status")
        tab.click("#dev")  # the thresholds chosen on dev let genes through, whatever the slider says
        assert [row[0] for row in rows(tab)] == [each.text for each in genes]
        assert tab.run("return document.querySelector('#threshold').disabled")
        tab.run("document.querySelector('#text').value = 'x'.repeat(2100000)")
        tab.type(TAB + ENTER, "#text")  # to the button, and press it
        assert "This text has 2.1 MB" in tab.until("document.querySelector('#error').innerText")
    tab.run("document.querySelector('#text').value = 'frogs'")
    tab.click("#ask")
    assert "server does not answer" in tab.until("document.querySelector('#error').innerText")


def _with_labels(text: str, found: list) -> Iterator[str]:
    done = 0
    for each in found:
        yield text[done : each.end] + each.label
        done = each.end
    yield text[done:]


def _classes(tab: Browser, downloads: Path, model: Predictor) -> None:
    with served(model) as address:
        tab.open(address)
        tab.until("document.querySelector('#example').length > 1")
        tab.type(RIGHT, "#example")  # the first example, which is asked at once
        tab.until("!document.querySelector('#output').hidden")
        expected = model.classify(tab.run("return document.querySelector('#text').value"))
        assert rows(tab) == [[each.label, f"{each.score:.3f}"] for each in expected]
        saved = json.loads(downloaded(tab, downloads, "json"))
        assert saved["model"] == model.name and saved["classify"] == [each._asdict() for each in expected]
        assert not tab.run("return document.querySelector('#pair-field').hidden")


def _answers(tab: Browser, model: Predictor) -> None:
    with served(model) as address:
        tab.open(f"{address}#text=the%20fever%20of%20frogs&question=of%20what")
        tab.until("!document.querySelector('#output').hidden")
        expected = model.answers("of what", "the fever of frogs")
        assert [row[0] for row in rows(tab)] == [each.text for each in expected]
        assert tab.text("mark") == expected[0].text
        tab.click("#list tbody tr:nth-child(2) button")
        assert tab.text("mark") == expected[1].text
        tab.write("#question", " ")
        tab.click("#ask")
        assert "Enter a question" in tab.until("document.querySelector('#error').innerText")
