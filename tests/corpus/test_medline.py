"""The MEDLINE reader: accepted and rejected files, and the error messages."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from corpus_inputs import DOCTYPE, citation, deletion, made_up, medline

from compact_biomed.corpus.document import Deletion, Document
from compact_biomed.corpus.medline import read_medline
from compact_biomed.errors import UserError

Write = Callable[..., Path]


def read(path: Path) -> list:
    return list(read_medline(path))


def test_reads_citations_and_deletions_in_file_order(write: Write) -> None:
    path = write("a.xml.gz", medline(citation(7, "[Frogs].", "Hop.", year=1979), deletion((7, 1), (8, 2)), citation(9)))
    assert read(path) == [
        Document("[Frogs].", "Hop.", 7, 1, 1979),
        Deletion(7, 1),
        Deletion(8, 2),
        Document("A title.", "", 9, 1, 2001),
    ]


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        (
            '<AbstractText Label="AIM">One.</AbstractText><AbstractText Label=" END&#8195;">Two.</AbstractText>',
            "AIM: One. END: Two.",
        ),
        ('<AbstractText Label="AIM" NlmCategory="OBJECTIVE"/><AbstractText>Two.</AbstractText>', "Two."),
        ("<AbstractText>Two\n   lines,\u00a0one\u2009gap.</AbstractText>", "Two lines, one gap."),
        (
            "<AbstractText>H<sub>2</sub>O and <i>E. <b>coli<sup>x</sup></b></i> end.</AbstractText>",
            "H2O and E. colix end.",
        ),
        (
            '<AbstractText>For <m:math xmlns:m="http://www.w3.org/1998/Math/MathML"><m:mi>r</m:mi><m:mo>=</m:mo>'
            "<m:mn>1</m:mn></m:math>.</AbstractText>",
            "For r=1.",
        ),
        ("<AbstractText>One<!-- not this --> two<?nor this?> &amp; &lt;3.</AbstractText>", "One two & <3."),
        ("<AbstractText><![CDATA[a < b]]></AbstractText>", "a < b"),
        (
            '<AbstractText Label="AIM:">One.</AbstractText><AbstractText Label="A &amp;amp; B : ">Two.</AbstractText>',
            "AIM: One. A & B: Two.",
        ),
        ("<AbstractText>p &amp;lt; 0.05, 5&amp;#8202;mg, S3&amp;rsquo;</AbstractText>", "p < 0.05, 5 mg, S3\u2019"),
        ("<AbstractText>In &amp;amp;lt;i&amp;amp;gt;vivo&amp;amp;lt;/i&amp;amp;gt;</AbstractText>", "In vivo"),
        (
            "<AbstractText>&lt;p class='x'&gt;In &lt;i&gt;E. coli&lt;/i&gt; H&lt;sub&gt;2&lt;/sub&gt;O.&lt;/p&gt;"
            "&lt;p&gt;End.&lt;br/&gt;&lt;o:p&gt;&lt;/o:p&gt;</AbstractText>",
            "In E. coli H2O. End.",
        ),
        (
            "<AbstractText>a &lt;b and c&gt; d, x&lt;p, AT&amp;T, R&amp;D; &lt;3&gt;, &amp;nothing;</AbstractText>",
            "a <b and c> d, x<p, AT&T, R&D; <3>, &nothing;",
        ),
        ("<AbstractText>Text.</AbstractText><CopyrightInformation>(c) Nobody</CopyrightInformation>", "Text."),
    ],
)
def test_abstract_is_flat_labeled_and_in_one_line(write: Write, inner: str, expected: str) -> None:
    [document] = read(write("a.xml", medline(citation(1, abstract=inner))))
    assert document.abstract == expected


@pytest.mark.parametrize("title", ["[Not Available].", "[Not available]", "Not Available.", "[NOT AVAILABLE]."])
def test_a_title_that_is_not_available_is_the_one_in_its_own_language(write: Write, title: str) -> None:
    vernacular = "<VernacularTitle>Über <i>Frösche</i>.</VernacularTitle></Article>"
    both = citation(1, title).replace("</Article>", vernacular)
    documents = read(write("a.xml", medline(both, citation(2, title), citation(3, f"{title} of frogs"))))
    assert [document.title for document in documents] == ["Über Frösche.", "", f"{title} of frogs"]


def test_other_abstract_is_left_out_and_old_records_are_read(write: Write) -> None:
    record = (
        "<MedlineCitation><PMID>5</PMID><Article><Journal><JournalIssue><PubDate><MedlineDate>1976 Jan-Feb"
        "</MedlineDate></PubDate></JournalIssue></Journal><ArticleTitle>Old.</ArticleTitle></Article>"
        "<OtherAbstract><AbstractText>Plain words.</AbstractText></OtherAbstract></MedlineCitation>"
    )
    text = f"<MedlineCitationSet>{record}{record.replace('>5<', '>6<')}{deletion((1, 1))}</MedlineCitationSet>"
    assert read(write("old.xml", text)) == [Document("Old.", "", n, 1, 1976) for n in (5, 6)] + [Deletion(1)]


def test_books_are_passed_over_and_a_citation_may_lack_everything_but_its_pmid(write: Write) -> None:
    book = "<PubmedBookArticle><BookDocument><PMID>3</PMID></BookDocument></PubmedBookArticle>"
    bare = "<PubmedArticle><MedlineCitation><PMID>4</PMID></MedlineCitation></PubmedArticle>"
    assert read(write("a.xml", medline(book, bare))) == [Document("", "", 4, 1)]


def test_encoding_is_the_one_that_the_file_names(write: Write) -> None:
    text = medline(citation(1, "Grüße aus Çeşme")).decode()
    for encoding in ("utf-16", "utf-8-sig"):
        data = text.replace('encoding="utf-8"', f'encoding="{encoding.removesuffix("-sig")}"').encode(encoding)
        assert read(write(f"{encoding}.xml", data))[0].title == "Grüße aus Çeşme"


def test_several_gzip_members_are_one_file_and_the_name_does_not_matter(write: Write) -> None:
    content = medline(*(citation(n, abstract=made_up(n)) for n in range(1, 400)))
    half = len(content) // 2
    packed = gzip.compress(content[:half]) + gzip.compress(content[half:]) + b"\0" * 512
    expected = read(write("a.xml.gz", content))
    assert read(write("b.xml", packed)) == expected
    assert read(write("c.xml", content)) == expected
    assert len(expected) == 399


BOMB = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "boom" * 10}">' for n in range(12))


@pytest.mark.parametrize(
    ("doctype", "title"),
    [
        (f"<!DOCTYPE PubmedArticleSet [{BOMB}]>", "&e11;"),
        (f"<!DOCTYPE PubmedArticleSet [{BOMB}<!ELEMENT x ANY>]>", '<i class="&e11;">x</i>'),
        ('<!DOCTYPE PubmedArticleSet [<!ENTITY x SYSTEM "file:///etc/passwd">]>', "&x;"),
        ('<!DOCTYPE PubmedArticleSet [<!ENTITY % x SYSTEM "http://localhost:9/x.dtd"> %x;]>', "t"),
        ('<!DOCTYPE PubmedArticleSet SYSTEM "file:///etc/passwd">', "t"),
        ('<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD" "ftp://localhost/x.dtd">', "t"),
        ("<!DOCTYPE PubmedArticleSet [<!ELEMENT PubmedArticleSet ANY>]>", "t"),
        ('<!DOCTYPE PubmedArticleSet [<!ATTLIST PMID Version CDATA "7">]>', "t"),
        ('<!DOCTYPE PubmedArticleSet [<!NOTATION n SYSTEM "x">]>', "t"),
        ("<!DOCTYPE PubmedArticleSet[]>", "t"),
        ("<!-- <PubmedArticleSet> --><!DOCTYPE PubmedArticleSet [<!ATTLIST PMID Version CDATA '7'>]>", "t"),
        ("<!DOCTYPE PubmedArticleSet PUBLIC '-//NLM//DTD' 'https://x/y.dtd' [\n<?pi?>]>", "t"),
        ("<!DOCTYPE PubmedArticleSet SYSTEM 'y.dtd' [%x;]>", "t"),
    ],
)
def test_entities_and_dtds_of_its_own_are_refused(write: Write, doctype: str, title: str) -> None:
    path = write("evil.xml.gz", medline(citation(1, title), doctype=doctype))
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "refused" in str(caught.value)
    assert "root:" not in str(caught.value)


@pytest.mark.parametrize(
    "doctype",
    [DOCTYPE, "", '<!DOCTYPE PubmedArticleSet SYSTEM "pubmed_190101.dtd">', "<!DOCTYPE PubmedArticleSet>"],
)
def test_the_ordinary_doctype_is_accepted_and_never_loaded(write: Write, doctype: str) -> None:
    assert len(read(write("a.xml", medline(citation(1), doctype=doctype)))) == 1


def test_a_dtd_of_its_own_is_found_in_utf_16(write: Write) -> None:
    doctype = '<!DOCTYPE PubmedArticleSet [<!ATTLIST PMID Version CDATA "7">]>'
    data = medline(citation(1), doctype=doctype).decode().replace('"utf-8"', '"utf-16"').encode("utf-16")
    with pytest.raises(UserError, match="refused"):
        read(write("a.xml", data))


@pytest.mark.parametrize("doctype", [DOCTYPE, "<!DOCTYPE PubmedArticleSet>", ""])
@pytest.mark.parametrize(
    "record",
    [
        citation(1, abstract="Good &alpha; bad."),
        citation(1, "Good &alpha; bad."),
        citation(1).replace(">1<", ">1&alpha;2<"),
        citation(1).replace("<PMID", '<PMID Owner="&alpha;"'),
        citation(1, abstract='<AbstractText Label="&alpha;">x</AbstractText>'),
        citation(1) + "&alpha;",
    ],
)
def test_an_undefined_entity_is_named_not_dropped(write: Write, record: str, doctype: str) -> None:
    with pytest.raises(UserError, match=r"a\.xml:\d+: undefined entity: .*alpha.*write the character itself"):
        read(write("a.xml", medline(record, doctype=doctype)))


def test_concatenated_files_are_named_as_such(write: Write) -> None:
    one, two = medline(citation(1)), medline(*(citation(n, abstract=made_up(n)) for n in range(2, 300)))
    for data in (one + two, two + b"\n" + one, gzip.compress(two) + gzip.compress(one)):
        with pytest.raises(UserError, match=r"both\.xml:\d+:\d+: .*files were concatenated.*split it"):
            read(write("both.xml", data))
    with pytest.raises(UserError, match=r"both\.xml:1: blank lines before <\?xml"):
        read(write("both.xml", b"\n" + one))


def test_every_way_of_being_cut_off_or_damaged_is_an_error(write: Write) -> None:
    content = medline(*(citation(n, abstract=made_up(n)) for n in range(1, 60)))
    packed = gzip.compress(content)
    for length in [*range(1, 40), *range(len(packed) - 40, len(packed)), len(packed) // 2]:
        with pytest.raises(UserError, match=r"cut\.xml\.gz"):
            path = write("cut.xml.gz", b"")
            path.write_bytes(packed[:length])
            read(path)
    for place in range(12, len(packed), len(packed) // 50):
        path.write_bytes(packed[:place] + bytes([packed[place] ^ 0x41]) + packed[place + 1 :])
        with pytest.raises(UserError, match=r"gzip|XML|PMID|entity|root"):
            read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"   \n", "no XML element|broken XML"),
        (b"no xml at all", "bad.xml:1:.*broken XML"),
        (b"<html><body>Not found</body></html>", "root element is <html>"),
        (b"<PubmedArticleSet>\n<PubmedArticle></PubmedArticleSet>", "bad.xml:2:.*broken XML"),
        (b"<PubmedArticleSet>\n<PubmedArticle>", "bad.xml:2:.*broken XML"),
        (b"<PubmedArticleSet/><PubmedArticleSet/>", "broken XML: .*concatenated"),
        (medline(citation(1)).replace(b'Version="1"', b'Version="' + b"9" * 5000 + b'"'), "bad.xml:4:.*not a PMID"),
        (medline(citation(1, "x")).replace(b">x<", b">\xff\xfe<"), "bad.xml:4:.*broken XML"),
        (medline(citation(1)).replace(b"utf-8", b"klingon"), "encoding"),
        (medline(citation(1).replace(">1<", ">one<")), "bad.xml:4:.*not a PMID"),
        (medline("<PubmedArticle><MedlineCitation/></PubmedArticle>"), "bad.xml:4:.*without PMID"),
    ],
)
def test_a_bad_file_is_named_with_its_place(write: Write, content: bytes, message: str) -> None:
    path = write("bad.xml", content)
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_flood_of_packed_zeros_does_not_fill_the_memory(write: Write) -> None:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as packer:
        packer.write(b"<PubmedArticleSet>")
        for _ in range(20):
            packer.write(b" " * (1 << 20))
    path = write("flood.xml", buffer.getvalue())
    with pytest.raises(UserError):
        read(path)
