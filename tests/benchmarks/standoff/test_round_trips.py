"""A file that is read and written again is the same file: nothing of it is lost."""

import json
import random
from pathlib import Path

import pytest
from lxml import etree

from compact_biomed.benchmarks.standoff.documents import (
    AnnotatedDocument,
    Attribute,
    Concept,
    Mention,
    Note,
    Passage,
    Relation,
)
from compact_biomed.benchmarks.standoff.formats import (
    FORMATS,
    detect,
    document_lines,
    read_documents,
    write_documents,
)
from compact_biomed.errors import UserError

TEXT = "Mild fever in old frogs\n\nFever, or \U0001f438 pox, of left and right legs\tof frogs.\n"
BRAT = """T1\tDisease 5 10\tfever
T2\tAnimal 18 23\tfrogs
T3\tPart 45 49;60 64\tleft legs
T4\tVirus_2 35 40\t\U0001f438 pox
R1\tAffects Arg1:T1 Arg2:T2\tsure
*\tEquiv T1 T4
E1\tHas-part:T3 Theme:T2 Theme2:E2
E2\tNegative_regulation:T1
A1\tNegated E1
A2\tConfidence T1 L1
M3\tSpeculated R1
N1\tReference T1 MESH:D005334\tFever
N7\tReference T2 Taxonomy:8342\tAnura
#1\tAnnotatorNotes T1\tis it? \u00e9
#2\tNormalization R1\t12
"""
PUBTATOR = """1|t|Mild fever, in old frogs
1|a|Fever of frogs. Old age.
1\t5\t10\tfever\tDisease\tD005334
1\t19\t24\tfrogs\tSpecies\t
1\t25\t30\tFever\tDisease\tD005334|D999\tFever|fevers
1\t34\t39\tfrogs\tSpecies
1\tCID\tD005334\tD999
1\tAssociation\tD005334\t8342\tNovel

a-2|t|No mention

3|t|Empty abstract
3|a|
3\t0\t5\tEmpty\tState\t-

"""
BIOC = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE collection SYSTEM "BioC.dtd">
<collection><source>frog &amp; toad</source><date>2026-01-02</date><key>frog.key</key><infon key="set">1</infon>
<document><id>f1</id><infon key="year">1999</infon>
  <passage><infon key="type">title</infon><infon key="section">T</infon><offset>0</offset>
    <text>Mild fever &lt; old frogs</text>
    <annotation id="1"><infon key="identifier">D005334</infon><infon key="type">Disease</infon>
      <location offset="5" length="5"/><text>fever</text></annotation>
    <annotation id="2"><infon key="type">Cell line</infon><location offset="0" length="4"/>
      <location offset="17" length="5"/><text>Mild ... frogs</text></annotation>
  </passage>
  <passage><infon key="type">abstract</infon><offset>25</offset>
    <sentence><infon key="n">1</infon><offset>25</offset><text>Fever of frogs.</text>
      <annotation id="1"><infon key="type">Disease</infon><location offset="25" length="5"/>
        <text>Fever</text></annotation>
      <relation id="R2"><infon key="type">of</infon><node refid="1" role="what"/></relation></sentence>
    <sentence><offset>41</offset><text>Old \U0001f438 age.</text></sentence>
  </passage>
  <annotation id="d"><infon key="type">Topic</infon><location offset="41" length="3"/><text>Old</text></annotation>
  <relation id="R1"><infon key="type">CID</infon><infon key="sure">yes</infon><node refid="1" role="a"/>
    <node refid="2" role="b"/></relation>
</document>
<document><id>f2</id></document>
</collection>
""".replace("Mild ... frogs", "Mild frogs")
BIOC_JSON = {
    "source": "frogs",
    "date": "",
    "key": "",
    "infons": {"set": 1},
    "bioctype": "BioCCollection",
    "documents": [
        {
            "id": "f1",
            "infons": {},
            "bioctype": "BioCDocument",
            "passages": [
                {
                    "offset": 3,
                    "infons": {"type": "title", "n": 2.5},
                    "bioctype": "BioCPassage",
                    "text": "Mild fever",
                    "sentences": [],
                    "annotations": [
                        {
                            "id": "T1",
                            "infons": {"type": "Disease", "valid": True, "database": None, "names": ["a", "b"]},
                            "bioctype": "BioCAnnotation",
                            "text": "fever",
                            "locations": [{"offset": 8, "length": 5}],
                        }
                    ],
                    "relations": [],
                }
            ],
            "annotations": [],
            "relations": [
                {"id": "R1", "infons": {"relation": "CID", "Chemical": "D1", "Disease": "D2"}, "nodes": []},
                {"id": "R2", "infons": {"type": "x"}, "version": "1.0", "nodes": [{"refid": "T1", "role": ""}]},
            ],
        }
    ],
}


def rewritten(path: Path, form: str) -> Path:
    """The path of a copy that was read and written, after checking that what was read is read from the copy too."""
    assert detect(path) == form
    repairs: dict[str, int] = {}
    documents = read_documents(path, repairs=repairs)
    copy = path.with_name(f"copy{FORMATS[form].ending}")
    assert write_documents(documents, copy, form) == {}
    assert read_documents(copy, form) == documents
    return copy


def test_brat_loses_nothing(write, tmp_path: Path) -> None:
    write("set/b/doc 10.txt", TEXT)
    write("set/b/doc 10.ann", BRAT)
    write("set/doc2.txt", "")
    write("set/doc2.ann", "")
    folder = tmp_path / "set"
    documents = read_documents(folder)
    assert [document.id for document in documents] == ["b/doc 10", "doc2"]
    kinds = [type(each) for each in documents[0].annotations]
    assert kinds == [Mention] * 4 + [Relation] * 4 + [Attribute] * 3 + [Concept] * 2 + [Note] * 2
    copy = tmp_path / "copy"
    assert write_documents(documents, copy, "brat") == {"documents whose id is not the name of a file, renamed": 1}
    assert (copy / "b/doc_10.ann").read_text("utf-8") == BRAT
    assert (copy / "b/doc_10.txt").read_text("utf-8") == TEXT
    assert (copy / "doc2.ann").read_bytes() == (copy / "doc2.txt").read_bytes() == b""


def test_pubtator_loses_nothing(write) -> None:
    path = write("frogs.pubtator", PUBTATOR)
    assert rewritten(path, "pubtator").read_text("utf-8") == PUBTATOR
    first = read_documents(path)[0]
    assert [mention.type for mention in first.resolve("D005334")] == ["Disease", "Disease"]
    assert [first.text[mention.start : mention.end] for mention in first.resolve("D999")] == ["Fever"]
    packed = read_documents(write("packed.txt", PUBTATOR.replace("\n\n", "\n")))  # no empty lines between documents
    assert packed == read_documents(path)


def test_bioc_loses_nothing(write) -> None:
    path = write("frogs.xml", BIOC)
    copy = rewritten(path, "bioc")

    def canonical(file: Path) -> list:
        parser = etree.XMLParser(remove_blank_text=True)
        tree = etree.parse(file, parser)
        return [
            (each.getparent().tag if each.getparent() is not None else "", each.tag, each.text, dict(each.attrib))
            for each in tree.iter()
            if not (each.tag == "text" and not each.text)
        ]

    assert canonical(copy) == canonical(path)
    document = read_documents(path)[0]
    assert document.text == "Mild fever < old frogs\n\n\nFever of frogs.\nOld \U0001f438 age."
    assert [document.text_of(mention) for mention in document.mentions] == ["fever", "Mild frogs", "Fever", "Old"]
    # And by way of JSON.
    as_json = path.with_name("way.json")
    assert write_documents(read_documents(path), as_json, "bioc-json") == {}
    assert read_documents(as_json) == read_documents(path)


def test_bioc_json_loses_nothing(write) -> None:
    path = write("frogs.json", json.dumps(BIOC_JSON, indent=1))
    assert json.loads(rewritten(path, "bioc-json").read_text("utf-8")) == BIOC_JSON
    assert read_documents(path)[0].relations[0].arguments == (("Chemical", "D1"), ("Disease", "D2"))
    documents = read_documents(write("lines.json", "\n".join([json.dumps(BIOC_JSON["documents"][0])] * 2)))
    assert [document.mentions for document in documents] == [read_documents(path)[0].mentions] * 2
    assert len(read_documents(write("api.json", json.dumps({"PubTator3": BIOC_JSON["documents"]})))) == 1


@pytest.mark.parametrize("form", ["doccano", "prodigy", "label-studio"])
def test_spans_and_relations_come_back(write, tmp_path: Path, form: str) -> None:
    line = {"id": 7, "text": "Mild fever of frogs", "entities": [], "relations": [], "site": "pond"}
    for number, (start, end, label) in enumerate([(5, 10, "Disease"), (14, 19, "Animal")]):
        line["entities"].append({"id": number, "start_offset": start, "end_offset": end, "label": label})
    line["relations"].append({"id": 3, "from_id": 0, "to_id": 1, "type": "of"})
    documents = read_documents(write("frogs.jsonl", json.dumps(line) + "\n"), "doccano")
    path = tmp_path / "out"
    write_documents(documents, path, form)
    (back,) = read_documents(path, form)
    assert (back.id, back.text, back.infons["site"]) == ("7", line["text"], "pond")
    assert [(mention.type, mention.span) for mention in back.mentions] == [("Disease", (5, 10)), ("Animal", (14, 19))]
    (relation,) = back.relations
    ends = [back.resolve(target)[0].type for _, target in relation.arguments]
    assert (relation.type, ends) == ("of", ["Disease", "Animal"])


@pytest.mark.parametrize(
    ("form", "content"), [("pubtator", PUBTATOR), ("bioc", BIOC), ("bioc-json", json.dumps(BIOC_JSON))]
)
def test_a_damaged_file_is_an_error_in_one_line_or_is_read(write, form: str, content: str) -> None:
    chance = random.Random(form)
    refused = 0
    for _ in range(80):
        start = chance.randrange(len(content))
        put = chance.choice(["", "0", "-1", "null", '"x"', "[]", "{}", "\t", "\n", "<a/>", "\u2028"])
        path = write("damaged", content[:start] + put + content[start + chance.randint(0, 6) :])
        try:
            documents = read_documents(path, form)
        except UserError as error:
            assert "\n" not in str(error) and str(path) in str(error)
            refused += 1
        else:
            for other in ("pubtator", "bioc", "bioc-json", "prodigy", "label-studio", "conll"):
                assert list(document_lines(documents, other))
    assert 20 < refused < 80


def test_passages_that_leave_out_text_are_written_as_one(tmp_path: Path) -> None:
    mention = Mention("T1", "D", ((5, 10),), unit=0)
    document = AnnotatedDocument("1", "Mild fever", (mention, Relation("", "is", (("", "T1"),))), (Passage(0, 4),))
    path = tmp_path / "one.xml"
    assert write_documents([document], path, "bioc") == {
        "passages that leave out a part of the text, written as one": 1
    }
    (back,) = read_documents(path)
    assert (back.text, back.mentions[0].fragments, back.relations[0].id) == ("Mild fever", ((5, 10),), "R1")


def test_characters_that_xml_lacks_are_replaced_one_by_one(tmp_path: Path) -> None:
    document = AnnotatedDocument("a\x01", "\x00 \x0b fever\r\n\ttab", (Mention("T1", "D\x02", ((4, 9),)),))
    path = tmp_path / "one.xml"
    assert write_documents([document], path, "bioc") == {"characters that XML lacks, written as U+FFFD": 4}
    (back,) = read_documents(path)
    assert (back.text, back.mentions[0].fragments) == ("\ufffd \ufffd fever\r\n\ttab", ((4, 9),))
