"""Names of sources are resolved to files, kinds and order."""

from collections.abc import Callable
from pathlib import Path

import pytest
from corpus_inputs import citation, medline

from compact_biomed.corpus.documents import look_into
from compact_biomed.corpus.sources import expand_sources
from compact_biomed.errors import UserError

Write = Callable[..., Path]


def names(*sources) -> list[str]:
    return [source.path.name for source in expand_sources(list(sources))]


def test_nlm_files_come_in_their_own_order_and_others_as_given(write: Write) -> None:
    order = ["pubmed25n0001.xml.gz", "pubmed24n1220.xml.gz", "pubmed25n1275.xml.gz", "pubmed25n0999.xml.gz"]
    paths = [write(name, b"x") for name in order]
    first, second = write("z.jsonl", b"x"), write("a.xml", b"x")
    assert names(first, *paths, second) == [
        "pubmed24n1220.xml.gz",
        "pubmed25n0001.xml.gz",
        "pubmed25n0999.xml.gz",
        "pubmed25n1275.xml.gz",
        "z.jsonl",
        "a.xml",
    ]


def test_folders_and_globs(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b/c.xml.gz", "b/d.JSONL", "b/e/f.txt", "b/README.txt", "b/.hidden.txt", "b/.h/x.txt", "b/g.md5"):
        write(name, b"x")
    monkeypatch.chdir(tmp_path)
    assert names("b") == ["c.xml.gz", "d.JSONL", "f.txt"]
    assert names("b/*") == ["README.txt", "c.xml.gz", "d.JSONL", "f.txt"]  # a glob is taken at its word
    assert names("b/**/*.txt") == ["README.txt", "f.txt"]
    assert names("b", "b/c.xml.gz") == ["c.xml.gz", "d.JSONL", "f.txt"]  # each file once
    assert [source.kind for source in expand_sources("b")] == ["xml", "jsonl", "text"]


def test_a_file_named_outright_is_known_by_its_content(write: Write) -> None:
    assert [s.kind for s in expand_sources([write("x", medline(citation(1))), write("y.gz", b'\n{"text": "a"}')])] == [
        "xml",
        "jsonl",
    ]
    with pytest.raises(UserError, match=r"z\.bin: unknown kind"):
        expand_sources(write("z.bin", b"\x89PNG"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.xml", "nowhere.xml: no such file"),
        ("nowhere/*.xml", r"nowhere/\*.xml: no such file"),
        ("hub:name-without-owner", "not a hub data set"),
    ],
)
def test_nothing_found_is_an_error(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        expand_sources(name)


def test_an_empty_folder_or_list_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.pdf").write_bytes(b"")
    with pytest.raises(UserError, match="no file to read among 1"):
        expand_sources(tmp_path)
    with pytest.raises(UserError, match="no source"):
        expand_sources([])


def test_registry_and_nlm_are_asked_by_name(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("pubmed20n0014.xml.gz", b"x")
    requested = []

    def download(folder, *, kind, subset):
        requested.append((kind, subset))
        return [path]

    monkeypatch.setattr("compact_biomed.corpus.registry.medline_sample", lambda: [path])
    monkeypatch.setattr("compact_biomed.corpus.nlm.download", download)
    assert names("registry") == ["pubmed20n0014.xml.gz"]
    for name in ("nlm", "nlm:first:3", "nlm:baseline", "nlm:updatefiles:1275-1300"):
        assert expand_sources(name)[0].name == "nlm:pubmed20n0014.xml.gz"
    assert requested == [("both", None), ("both", "first:3"), ("baseline", None), ("updatefiles", "1275-1300")]


def test_hub_set_becomes_a_snapshot_that_is_used_offline(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    from compact_biomed.corpus import sources as hub
    from compact_biomed.corpus.document import read_jsonl

    calls = []

    def load_dataset(name, **options):
        calls.append((name, options))
        return iter([{"body": "One.", "pmid": None}, {"body": "Two.", "pmid": None}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    revision = "0123abc"
    monkeypatch.setattr(hub, "_revision", lambda *_: revision)
    [source] = expand_sources("hub:some-one/their.set:validation:body")
    assert [document.text for document in read_jsonl(source.path)] == ["One.", "Two."]
    assert calls == [("some-one/their.set", {"split": "validation", "revision": "0123abc", "streaming": True})]
    revision = None  # offline
    assert expand_sources("hub:some-one/their.set:validation:body") == [source]
    with pytest.raises(UserError, match="cannot be reached"):
        expand_sources("hub:some-one/their.set:test:body")
    revision = "4567def"
    with pytest.raises(UserError, match="no column 'nothing'"):
        expand_sources("hub:some-one/their.set:validation:nothing")
    assert not list(cache.rglob("*nothing*"))  # nothing half-made is left


def test_the_first_documents_are_read_before_the_work(write: Write) -> None:
    good = write("a/good.txt", b"old frogs\n" * 1000 + b"\xff")  # broken beyond what is looked at
    look_into(["registry", "hub:OWNER/NAME", str(good), str(good.parent)])
    for name, content, message in (
        ("b.txt", b"\xff\xfeo\0l\0d\0", r"b\.txt:1: not UTF-8"),
        ("c.jsonl", b'{"txt": "frogs"}', r"c\.jsonl:1: no field title, abstract or text"),
        ("d.xml", b"frogs", r"d\.xml:1:1: broken XML"),
        ("a/zero.txt", b"", r"zero\.txt: the file is empty"),
    ):
        path = write(name, content)
        with pytest.raises(UserError, match=message):
            look_into([str(path.parent if "/" in name else path)])
