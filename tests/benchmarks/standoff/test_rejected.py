"""What is wrong in a file is named with its place; what a format has no place for is counted."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from compact_biomed.benchmarks.standoff.detect import ALL, DOCUMENT_FORMATS, detect
from compact_biomed.benchmarks.standoff.documents import AnnotatedDocument, Mention, Relation
from compact_biomed.benchmarks.standoff.formats import (
    FORMATS,
    document_lines,
    read_documents,
    read_sentences,
    write_documents,
)
from compact_biomed.errors import UserError

Write = Callable[..., Path]
TEXT = "Mild fever in frogs"


def bioc(text: str = TEXT, offset: int = 5, length: int = 5, more: str = "", kind: str = "D") -> str:
    return (
        f'<collection>\n<document><id>1</id><passage><offset>0</offset><text>{text}</text>\n<annotation id="1">'
        f'<infon key="type">{kind}</infon><location offset="{offset}" length="{length}"/><text>fever</text>'
        f"</annotation></passage>{more}</document></collection>"
    )


def as_json(label: object, **more: object) -> str:
    return json.dumps({"text": TEXT, "label": label, **more})


def studio(**value: object) -> str:
    result = [{"type": "labels", "value": {"start": 5, "end": 10, "labels": ["D"], **value}}]
    return json.dumps([{"data": {"text": TEXT}, "annotations": [{"result": result}]}])


@pytest.mark.parametrize(
    ("form", "content", "message"),
    [
        ("brat", "T1\tD 5 9\tfever", r"a\.ann:1: the text at 5-9 is 'feve', the file says 'fever'"),
        ("brat", "T1\tD 5 5\t", r":1: a mention from 5 to 5: no characters"),
        ("brat", "\nT1\tD 15 30\tfrogs", r":2: .*outside of the text, which has 19 characters"),
        ("brat", "T1\tD 4 5\t ", r":1: a mention of white space alone"),
        ("brat", "T1\tD 5 10;4 9\tfever", r":1: parts of a mention overlap"),
        ("brat", "T1\tD five 10\tfever", r":1: no characters START END: 'five 10'"),
        ("brat", "T1 D 5 10", r":1: not a line of annotations"),
        ("brat", "X1\tD 5 10\tfever", r":1: not a line of annotations: 'X1"),
        ("brat", "R1\tof T1 T2", r":1: arguments are ROLE:ID, not 'T1 T2'"),
        ("brat", "A1\tNegated", r":1: an attribute without a target"),
        ("brat", "N1\tReference T1", r":1: a reference is NAME TARGET IDENTIFIER"),
        ("pubtator", f"1|t|{TEXT}\n1|a|\n1\t5\t10\tfewer\tD", r":3: the text at 5-10 is 'fever', .* 'fewer'"),
        ("pubtator", f"1|t|{TEXT}\n1\t5\t99\tfever\tD", r":2: .*outside of the text"),
        ("pubtator", f"1|t|{TEXT}\n2\t5\t10\tfever\tD", r":2: a line of '2' in the document '1'"),
        ("pubtator", f"1|t|{TEXT}\n1\tfive\tten", r":2: 3 columns, neither a mention nor a relation"),
        ("pubtator", f"1|t|{TEXT}\n1\tx\ty\tfever\tD", r":2: not an offset: 'x'"),
        ("pubtator", f"1|t|{TEXT}\n1\t5\t10.0\tfever\tD\tD1", r":2: not an offset: '10.0'"),
        ("pubtator", f"1|t|{TEXT}\n1\t5\t10\tfever\t\tD1", r":2: a mention without a type"),
        ("pubtator", "1|a|Fever", r":1: no title of a document"),
        ("pubtator", f"1|t|{TEXT}\n2|a|Fever", r":1: no title of a document"),
        ("bioc", bioc(offset=4), r":3: the text at 4-9 is ' feve', the file says 'fever'"),
        ("bioc", bioc(length=0), r":3: a mention from 5 to 5: no characters"),
        ("bioc", bioc(kind=""), r':3: no infon "type"'),
        ("bioc", bioc(more="<passage><offset>7</offset><text>x</text></passage>"), r":3: this text begins at 7"),
        ("bioc", bioc(more="<passage><text>x</text></passage>"), r":3: not BioC: no 'offset'"),
        ("bioc", bioc(more="<passage><offset>9x</offset></passage>"), r":3: not BioC: .*'9x'"),
        ("bioc", bioc(text="&frog;"), r":2: undefined entity"),
        ("bioc", "<!DOCTYPE collection [<!ENTITY a 'b'>]>" + bioc(), "refused: the file has a DTD of its own"),
        ("bioc", bioc()[:-20], "broken XML"),
        ("bioc", "<frogs/>", r"the root element is <frogs> \(pass BioC XML, which begins with <collection>\)"),
        ("bioc-json", '{"documents": [{"id": 1, "passages": [{"text": "x"}]}]}', r"s\[0\].passages\[0\]: .*'offset'"),
        ("bioc-json", '{"documents": [3]}', r"documents\[0\]: not BioC"),
        ("bioc-json", '{"frogs": []}', "no documents, which hold passages"),
        ("doccano", as_json([[5, 10]]), r":1: not a span: \[5, 10\]"),
        ("doccano", as_json([[5, 10.5, "D"]]), r":1: not a span: .*10.5"),
        ("doccano", as_json([[False, True, "D"]]), r":1: not a span"),
        ("doccano", as_json([[5, 25, "D"]]), r":1: .*outside of the text"),
        ("doccano", "\n" + as_json([[5, 10, ""]]), r":2: a span without a type"),
        ("doccano", as_json("D"), r":1: no list spans, entities, labels or label"),
        ("doccano", as_json([], relations=[{"from_id": 1}]), r":1: not a relation: no 'to_id'"),
        ("doccano", "{", "not JSON"),
        ("prodigy", json.dumps({"spans": []}), r':1: no object with a "text"'),
        ("label-studio", studio(text="fewer"), r"\[0\]: the text at 5-10 is 'fever', the file says 'fewer'"),
        ("label-studio", json.dumps([{"data": {"a": "x", "b": "y"}}]), "2 texts in a task"),
        ("label-studio", json.dumps([{"data": {"text": "x"}, "annotations": [{"result": [3]}]}]), "not a task: "),
        ("label-studio", json.dumps([{"text": "x"}]), r'no task with "data"'),
        ("conll", "frogs\tO\tX\n", r":1: unknown tag 'X' in column 3"),
        ("tokens", json.dumps({"tokens": ["a"], "ner_tags": []}), r":1: 1 tokens and 0 tags"),
        ("tokens", json.dumps({"tokens": ["a", None], "ner_tags": ["O", "O"]}), r":1: tokens\[1\] is not text: null"),
        ("tokens", json.dumps({"tokens": ["a"], "ner_tags": [1]}), r":1: the tag 1 has no name: no names are given"),
        ("tokens", json.dumps({"tokens": ["a"], "ner_tags": ["X"]}), r":1: unknown tag 'X'"),
        ("tokens", json.dumps({"tokens": ["a"]}), r":1: no tokens and ner_tags"),
        ("frogs", "", "--format: no format 'frogs' .*pubtator.*own-data"),
    ],
)  # fmt: skip
def test_a_wrong_place_is_named(write: Write, form: str, content: str, message: str) -> None:
    if form == "brat":
        write("set/a.txt", TEXT)
        path = write("set/a.ann", content).parent
    else:
        path = write("a.file", content)
    with pytest.raises(UserError, match=message) as caught:
        read_sentences(path, "train", {}, form)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        ("A text of frogs.\nAnd more.", "a file that begins with 'A text of frogs.'"),
        ("<frogs/>", "XML without <collection>"),
        ('{"frogs": 1, "text": "x"}\n', "objects with the keys frogs, text"),
        ("text,label\nfrogs,3\n", "a file that begins with 'text,label'"),
        ("[1, 2]", r"a file that begins with '\[1, 2\]'"),
    ],
)
def test_an_unknown_format_names_the_formats_and_the_page(write: Write, content: str, seen: str) -> None:
    with pytest.raises(UserError, match=f"unknown format: {seen}") as caught:
        detect(write("a.file", content))
    assert all(form in str(caught.value) for form in ALL)
    assert "docs/own-data.md" in str(caught.value)
    assert DOCUMENT_FORMATS == tuple(FORMATS)
    predicted = {"document": "1", "start": 5, "end": 10, "label": "D", "score": 1.0, "text": "fever"}
    with pytest.raises(UserError, match=r"predictions without their texts .*--format bioc"):
        detect(write("b.file", json.dumps(predicted)))
    folder = write("empty/a.file", content).parent
    with pytest.raises(UserError, match=r"a folder without \.ann files"):
        detect(folder)
    with pytest.raises(UserError, match="no such file"):
        detect(folder / "none")


def test_a_text_without_annotations_and_annotations_without_a_text(write: Write) -> None:
    folder = write("set/a.txt", TEXT).parent
    write("set/a.a1", "T1\tD 5 10\tfever\n")
    write("set/a.a2", "E1\tOn:T1\n")
    write("set/b.txt", TEXT)
    repairs: dict[str, int] = {}
    assert [len(document.annotations) for document in read_documents(folder, repairs=repairs)] == [2]
    assert repairs == {"texts without a file of annotations, left out": 1}
    write("set/c.ann", "")
    with pytest.raises(UserError, match=r"c\.txt: there is no such text"):
        read_documents(folder)


def test_a_relation_with_more_columns_is_no_mention(write: Write) -> None:
    """A concept may occur in the text, as the name of another thing."""
    lines = [f"1|t|{TEXT}", "1\t5\t10\tfever\tD\tfrogs|D2", "1\tof\tD9\tfrogs\tnew", "1\tof\tD2\tx\tnew"]
    (document,) = read_documents(write("a.pubtator", "\n".join(lines)))
    assert [relation.arguments for relation in document.relations] == [
        (("", "D9"), ("", "frogs")),
        (("", "D2"), ("", "x")),
    ]


def test_other_ways_to_count_characters(write: Write) -> None:
    write("set/a.txt", "\ufeffMild\r\nfever")
    folder = write("set/a.ann", "T1\tD 5 10\tfever").parent
    repairs: dict[str, int] = {}
    (document,) = read_documents(folder, repairs=repairs)
    assert document.text == "Mild\nfever"
    assert repairs == {"texts whose offsets leave out a byte order mark, or half of CR LF": 1}
    write("set/a.ann", "T1\tD 6 11\tfever")  # as Windows' editors write: the mark is not counted, CR LF is two
    assert read_documents(folder)[0].text == "Mild\r\nfever"
    write("set/a.ann", "T1\tD 7 12\tfever")
    assert read_documents(folder)[0].text == "\ufeffMild\r\nfever"
    value = {"start": 3, "end": 8, "text": "fever", "labels": ["D", "E"]}
    task = {"data": {"text": "\U0001f438 fever"}, "annotations": [{"result": [{"value": value}]}] * 2}
    repairs = {}
    (document,) = read_documents(write("a.json", json.dumps([task])), "label-studio", repairs=repairs)
    assert [(mention.type, mention.span) for mention in document.mentions] == [("D", (2, 7)), ("E", (2, 7))]
    assert repairs == {
        "further annotations of a task, left out": 1,
        "mentions with the id of another one": 1,
        "spans whose offsets count units of UTF-16": 1,
    }


def test_rejected_answers_and_equal_ids_are_counted(write: Write) -> None:
    lines = [{"id": 1, "text": TEXT, "spans": [], "answer": answer} for answer in ("accept", "reject", "accept")]
    repairs: dict[str, int] = {}
    path = write("a.jsonl", "\n".join(map(json.dumps, lines)))
    assert len(read_sentences(path, "dev", repairs).examples) == 2
    assert repairs == {
        "dev: texts that the annotator rejected or ignored, left out": 1,
        "dev: documents with the id of another one": 1,
    }
    spacy = write("b.jsonl", json.dumps([TEXT, {"entities": [[5, 10, "D"]]}]))
    assert (detect(spacy), read_documents(spacy)[0].mentions[0].span) == ("doccano", (5, 10))


def test_any_column_and_any_names(write: Write) -> None:
    path = write("a.conll", "# doc 1 of frogs\nfrogs B-D NN\nold O JJ\n\n# x\n")
    repairs: dict[str, int] = {}
    for column in (2, -2):
        (example,) = read_sentences(path, "dev", repairs, "conll", column=column).examples
        assert (example.words, example.tags) == (("frogs", "old"), ("B-D", "O"))
    assert repairs == {"dev: lines of comments, left out": 4}
    for column in (1, 4, -3, 0):
        with pytest.raises(UserError, match=f":2: no tag in column {column}"):
            read_sentences(path, "dev", {}, "conll", column=column)
    rows = write("a.jsonl", json.dumps({"words": ["old", "frogs"], "tags": [2, 1]}))
    (example,) = read_sentences(rows, "dev", {}, names=["O", "I-D", "B-D"]).examples
    assert example.tags == ("B-D", "I-D")
    with pytest.raises(UserError, match="the tag 2 has no name: there are 2 names"):
        read_sentences(rows, "dev", {}, names=["O", "B-D"])


def test_what_a_format_has_no_place_for_is_counted(tmp_path: Path) -> None:
    mentions = (
        Mention("a", "Cell line", ((0, 4), (11, 13)), infons={"identifier": "D1", "sure": "yes"}),
        Mention("b", "D", ((5, 10),)),
    )
    relations = (
        Relation("r", "of", (("", "a"), ("", "b"))),
        Relation("", "on", (("", "D1"), ("", "b"), ("", "b")), trigger="b"),
    )
    document = AnnotatedDocument("x/../y|z", TEXT + "\nand\nmore", (*mentions, *relations))
    parts = "mentions in several parts, written from the first to the last"
    other = "relations that are not between two mentions, left out"
    expected = {
        "brat": {
            "documents whose id is not the name of a file, renamed": 1,
            "ids of mentions, written as a letter and a number": 2,
            "ids of relations, written as a letter and a number": 1,
            "arguments that are concepts, written as their first mention": 1,
        },
        "pubtator": {
            "documents whose id has | or white space, renamed": 1,
            "line breaks, written as U+2028": 1,
            parts: 1,
            "infons, left out": 1,
            "arguments that are mentions, written as their concept": 1,
            "relations without two arguments, left out": 1,
        },
        "bioc": {},
        "bioc-json": {},
        "doccano": {parts: 1, "infons of mentions, left out": 2, other: 1},
        "prodigy": {parts: 1, other: 1},
        "conll": {
            "mentions in several parts, read from the first to the last": 1,
            "overlapping mentions, shorter left out": 1,
            "mentions of a type with white space, written with _": 1,
            "relations, attributes, concepts and comments, left out": 2,
        },
    }  # fmt: skip
    for form, counts in expected.items():
        assert write_documents([document], tmp_path / form, form) == counts, form
    annotated = (tmp_path / "brat/x/_../y_z.ann").read_text().splitlines()
    assert annotated == [
        "T1\tCell_line 0 4;11 13\tMild in",
        "N1\tReference T1 id:D1\t",
        "#1\tAnnotatorNotes T1\tsure yes",
        "T2\tD 5 10\tfever",
        "R1\tof Arg1:T1 Arg2:T2",
        "E2\ton:T2 Arg1:T1 Arg2:T2 Arg3:T2",
    ]
    lines = list(document_lines([document], "pubtator"))
    assert lines[3:] == ["x/../y_z\t5\t10\tfever\tD\tb", "x/../y_z\tof\tD1\tb", ""]
    from_brat = read_documents(tmp_path / "brat")
    write_documents(from_brat, tmp_path / "again.json", "bioc-json")
    first = read_documents(tmp_path / "again.json")[0].mentions[0]
    assert first.infons == {"type": "Cell_line", "identifier": "D1", "AnnotatorNotes": "sure yes"}


def test_a_folder_is_not_overwritten_and_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    two = [AnnotatedDocument("1", TEXT), AnnotatedDocument("1", TEXT)]
    with pytest.raises(UserError, match="two documents with the id '1'"):
        write_documents(two, tmp_path / "set", "brat")
    assert not list(tmp_path.iterdir())
    write_documents(two[:1], tmp_path / "set", "brat")
    with pytest.raises(UserError, match="exists and is not an empty folder"):
        write_documents(two[:1], tmp_path / "set", "brat")

    def broken():
        yield two[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_documents(broken(), tmp_path / "a.xml", "bioc")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
