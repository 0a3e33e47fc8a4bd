"""The same annotated text gives the same words and tags in every format, and every change is counted."""

import random
import re
from pathlib import Path

import pytest

from compact_biomed.benchmarks.examples import WordsExample
from compact_biomed.benchmarks.standoff.documents import AnnotatedDocument, Mention
from compact_biomed.benchmarks.standoff.formats import (
    ALL,
    FORMATS,
    detect,
    read_documents,
    read_sentences,
    write_documents,
)
from compact_biomed.benchmarks.standoff.sentences import is_tokenized, split_sentences
from compact_biomed.benchmarks.standoff.words import WordRules, from_words, rules_of, to_sentences

BY_BLANKS = "documents whose words are separated by blanks, sentences by line breaks"

CUT = "mentions that cut words, extended to whole words"
JOINED = "sentences joined, as a mention crosses their boundary"


def document(text: str, *spans: tuple, name: str = "1") -> AnnotatedDocument:
    """spans: (type, start, end, start, end, ...)."""
    mentions = [
        Mention(f"T{number}", kind, tuple(zip(places[::2], places[1::2], strict=True)))
        for number, (kind, *places) in enumerate(spans, 1)
    ]
    return AnnotatedDocument(name, text, tuple(mentions))


def tagged(*documents: AnnotatedDocument, rules: WordRules | None = None) -> tuple[list[str], dict[str, int]]:
    repairs: dict[str, int] = {}
    examples = to_sentences(documents, "dev", repairs, rules).examples
    assert [example.key for example in examples] == [f"dev/{number}" for number in range(len(examples))]
    lines = [" ".join(f"{w}/{t}" for w, t in zip(e.words, e.tags, strict=True)) for e in examples]
    assert all(what.startswith("dev: ") for what in repairs)
    return lines, {what.removeprefix("dev: "): number for what, number in repairs.items()}


@pytest.mark.parametrize(
    ("text", "spans", "lines", "changes"),
    [
        ("Old fever, mild.", [("D", 4, 9)], ["Old/O fever/B-D ,/O mild/O ./O"], {}),
        ("fever", [("Entity", 0, 5)], ["fever/B"], {}),
        ("fever pox", [("Entity", 0, 5), ("D", 6, 9)], ["fever/B-Entity pox/B-D"], {}),
        ("No frogs.", [], ["No/O frogs/O ./O"], {}),
        ("", [], [], {}),
        # A mention that cuts words is extended; white space at its ends is left out of it.
        ("prefever", [("D", 3, 8)], ["prefever/B-D"], {CUT: 1}),
        (
            "a fever b",
            [("D", 1, 8)],
            ["a/O fever/B-D b/O"],
            {"mentions with white space at their ends, left out of them": 1},
        ),
        # In parts: from the first to the last; parts with nothing but white space between are one.
        (
            "left and right leg",
            [("P", 0, 4, 15, 18)],
            ["left/B-P and/I-P right/I-P leg/I-P"],
            {"mentions in several parts, read from the first to the last": 1},
        ),
        ("left\nleg", [("P", 0, 4, 5, 8)], ["left/B-P leg/I-P"], {JOINED: 1}),
        # Overlapping: the longest, then the first.
        (
            "left leg pain",
            [("P", 5, 8), ("D", 0, 13), ("D", 9, 13)],
            ["left/B-D leg/I-D pain/I-D"],
            {"overlapping mentions, shorter left out": 2},
        ),
        ("ab cd ef", [("X", 3, 8), ("Y", 0, 5)], ["ab/B-Y cd/I-Y ef/O"], {"overlapping mentions, shorter left out": 1}),
        ("ab", [("X", 0, 2), ("X", 0, 2)], ["ab/B-X"], {"mentions given twice, one left out": 1}),
        ("ab", [("X", 0, 2), ("Y", 0, 2)], ["ab/B-X"], {"overlapping mentions, shorter left out": 1}),
        ("ab cd", [("X", 0, 2), ("X", 3, 5)], ["ab/B-X cd/B-X"], {}),
        ("ab", [("Cell line", 0, 2)], ["ab/B-Cell_line"], {"mentions of a type with white space, written with _": 1}),
        # Sentences.
        (
            "Fever. Pox? (So.) E. coli of S. Typhi et al. Then vs. Sp. 5",
            [],
            ["Fever/O ./O", "Pox/O ?/O", "(/O So/O ./O )/O", "E/O ./O coli/O of/O S/O ./O Typhi/O et/O al/O ./O Then/O"
             " vs/O ./O Sp/O ./O 5/O"],
            {},
        ),
        (
            "One. Two. Three",
            [("X", 5, 15)],
            ["One/O ./O", "Two/B-X ./I-X Three/I-X"],
            {JOINED: 1},
        ),
        # Tokenized: blanks and line breaks alone, so words keep their punctuation.
        (
            "IL-2 , in E. coli .\n\nold 1,5 frogs .",
            [("G", 0, 4), ("D", 25, 34)],
            ["IL-2/B-G ,/O in/O E./O coli/O ./O", "old/O 1,5/B-D frogs/I-D ./O"],
            {BY_BLANKS: 1},
        ),
        ("a , b-c", [("G", 4, 5)], ["a/O ,/O b-c/B-G"], {BY_BLANKS: 1, CUT: 1}),
    ],
)  # fmt: skip
def test_what_becomes_of_a_text(text: str, spans: list, lines: list[str], changes: dict[str, int]) -> None:
    assert tagged(document(text, *spans)) == (lines, changes)


def test_dev_follows_the_rules_of_train() -> None:
    train, dev = document("old , mild", ("Entity", 0, 3)), document("IL-2", ("G", 0, 4))
    assert tagged(dev)[0] == ["IL/B-G -/I-G 2/I-G"]
    assert tagged(dev, rules=rules_of([train]))[0] == ["IL-2/B-G"]
    assert rules_of([train]) == WordRules(tokenized=True, bare=True)


@pytest.mark.parametrize(
    ("text", "tokenized"),
    [
        ("Fever , pox .", True),
        ("Fever ; pox", True),
        ("Fever of 1,5 .\nPox .", True),
        ("Fever, pox.", False),
        ("Fever of frogs", False),
        ("Fever.", False),
        ("", False),
        ("A, b, c and d , e.", False),
    ],
)
def test_which_texts_are_tokenized(text: str, tokenized: bool) -> None:
    assert is_tokenized([text]) == tokenized


def invented(chance: random.Random, typed: bool) -> list[WordsExample]:
    """Sentences of words that are hard to split or to escape, with entities that may touch."""
    words = ["fever", ",", ".", *'IL-2 (+)-x <i> &amp; " 1,5 \u00e9\u0301 \U0001f438 sp. |t| # [ {'.split()]
    sentences = []
    for number in range(chance.randint(3, 8)):
        row, tags = [], []
        while len(row) < 2 or chance.random() < 0.7:
            length = chance.randint(1, 3)
            row += chance.choices(words, k=length)
            kind = chance.choice(["-D", "-cell_line"]) if typed else ""
            tags += ["O"] * length if chance.random() < 0.5 else [f"B{kind}", *[f"I{kind}"] * (length - 1)]
        sentences.append(WordsExample(f"test/{number}", (*row, ",", "."), (*tags, "O", "O")))
    return sentences


@pytest.mark.parametrize("form", ALL)
def test_columns_in_any_format_give_the_same_examples(form: str, tmp_path: Path) -> None:
    chance = random.Random(form)
    for trial in range(6):
        examples = invented(chance, typed=trial % 2 == 0)
        ids = [f"doc-{number // 3}" for number in range(len(examples))] if trial % 3 else None
        documents = from_words(examples, ids)
        path = tmp_path / f"{trial}.{form}"
        scheme = ["IOB2", "BILOU", "IOBES"][trial % 3] if form not in FORMATS else "IOB2"
        write_documents(documents, path, form, scheme=scheme)
        assert detect(path) == form
        assert read_sentences(path, "test", {}).examples == examples
        back = read_documents(path, repairs={})
        if ids:  # else columns and tokens do not name documents
            assert [(d.id, d.text) for d in back] == [(d.id, d.text) for d in documents]
        assert [[(m.type, m.fragments) for m in d.mentions] for d in back] == [
            [(m.type, m.fragments) for m in d.mentions] for d in documents
        ]


@pytest.mark.parametrize("form", list(FORMATS))
def test_running_text_in_any_format_gives_the_same_examples(form: str, tmp_path: Path) -> None:
    texts = [
        document("Fever, mild.\nOld (E. coli). A \U0001f438 &", ("D", 0, 5), ("X y", 13, 18), ("D", 28, 30), name="7"),
        document("No title, and\nmore, of it.\nAnd more", ("D", 0, 13), ("D", 3, 8), name="8"),
    ]  # fmt: skip
    expected: dict[str, int] = {}
    examples = to_sentences(texts, "test", expected).examples
    path = tmp_path / "out"
    write_documents(texts, path, form)
    repairs: dict[str, int] = {}
    assert read_sentences(path, "test", repairs, form).examples == examples
    if form != "brat":  # whose types are one word in the file
        assert repairs == expected


def test_a_word_with_a_blank_is_told() -> None:
    counts: dict[str, int] = {}
    (made,) = from_words([WordsExample("test/0", ("in vitro", "x"), ("B", "O"))], counts=counts)
    assert (made.text, made.id) == ("in\u00a0vitro x", "test-0")
    assert counts == {"words with a blank inside, written with a no-break space": 1}
    assert to_sentences([made], "test", {}, WordRules(True, True)).examples[0].words == ("in\u00a0vitro", "x")


def test_no_character_is_lost_between_words() -> None:
    chance = random.Random(3)
    for _ in range(200):
        text = "".join(chance.choices("aB1.!?)(\"' \n\t\u00e9\U0001f438\u4e00", k=40))
        for tokenized in (True, False):
            words = [
                text[start:end] for sentence in split_sentences(text, tokenized=tokenized) for start, end in sentence
            ]
            assert "".join(words) == "".join(text.split())


def test_the_examples_of_the_page_say_the_same(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "own-data.md").read_text(encoding="utf-8")
    section = page.partition("## Entities\n")[2].partition("\n## ")[0]
    read = {}
    for before, content in re.findall(r"([^\n]+(?:\n[^\n]+)*)\n\n```\w*\n(.*?)```", section, re.DOTALL):
        names = re.findall(r"`(\w+\.\w+)`", before)
        if not names:  # the lines of a program
            continue
        if names[0] == "101.txt":
            (tmp_path / "set").mkdir()
            (tmp_path / "set/101.txt").write_text("Fever after aspirin.\nNo rash.", encoding="utf-8")
            (tmp_path / "set/101.ann").write_text(content, encoding="utf-8")
            path = tmp_path / "set"
        else:
            path = tmp_path / names[0]
            path.write_text(content, encoding="utf-8")
        read[detect(path)] = read_sentences(path, "train", {})
    assert set(read) == set(ALL)
    examples = [
        WordsExample("train/0", ("Fever", "after", "aspirin", "."), ("B-Symptom", "O", "B-Drug", "O")),
        WordsExample("train/1", ("No", "rash", "."), ("O", "B-Symptom", "O")),
    ]
    assert {form: sentences.examples for form, sentences in read.items()} == dict.fromkeys(ALL, examples)
    assert all(sentences.documents == ["101", "101"] for form, sentences in read.items() if form != "prodigy")
