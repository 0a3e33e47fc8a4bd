"""Find out which columns of a table are what, and what kind of task they are, as far as they leave no doubt."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compact_biomed.benchmarks.readers.labels import holds_spans, is_blank, is_flag, kind_of, separator_of, split_labels
from compact_biomed.benchmarks.readers.rows import Rows
from compact_biomed.benchmarks.standoff.formats import PAGE
from compact_biomed.benchmarks.standoff.tokens import keys_of
from compact_biomed.benchmarks.tasks import NEGATIVE
from compact_biomed.console import shortened
from compact_biomed.errors import UsageError, UserError

# Names of columns, in lower case, in the order in which they are looked for.
TEXTS = ("text", "sentence", "abstract", "content", "body", "document_text", "review", "tweet", "utterance", "input")
PAIRS = (
    ("text_a", "text_b"),
    ("sentence1", "sentence2"),
    ("sentence_a", "sentence_b"),
    ("sent1", "sent2"),
    ("text1", "text2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "context"),
    ("question", "passage"),
    ("query", "document"),
    ("query", "passage"),
    ("text", "text_pair"),
    ("text", "pair"),
)
LABELS = ("label", "labels", "class", "classes", "category", "categories", "topic", "topics", "target", "gold_label")
LABELS += ("relation", "score", "similarity", "rating", "intent", "sentiment", "annotation", "y")
IDS = ("id", "idx", "index", "key", "guid", "uid", "example_id", "sentence_id")
_INDEX = ("", "Unnamed: 0")  # of pandas, written without being asked
SPLITS = ("split", "set", "subset", "partition")  # whose values are names of train, dev and test
SPLIT_NAMES = {
    "train": ("train", "training"),
    "dev": ("dev", "devel", "valid", "validation", "val", "development"),
    "test": ("test", "testing"),
}
DOCUMENTS = ("document", "document_id", "doc_id", "docid", "doc", "pmid", "article_id", "abstract_id", "note_id")
QUESTIONS = ("question", "context", "answers")  # as `datasets` writes SQuAD; "answer" and "answer_start" likewise
ANSWERS = ("answers", "answer")
KNOWN = frozenset((*TEXTS, *SPLITS, *(name for pair in PAIRS for name in pair), *LABELS, *IDS, *DOCUMENTS, *ANSWERS))


@dataclass(frozen=True)
class Layout:
    """What the columns of a table are.

    Args:
        kind: "classification", "multilabel", "regression", "qa" or "relation".
        columns: role -> column; roles are text, pair, label, id, document, question, context, answers. Several columns
            of 0 and 1 are separated by commas; the role "separator" is the letter between several labels in one cell.
        described: in words.
        splits: those that the column of the role "split" names; none without such a column.
    """

    kind: str
    columns: dict[str, str]
    described: str
    splits: tuple[str, ...] = ()


def layout_of(rows: Rows, kind: str | None, given: dict[str, str], where: object) -> Layout:
    """Return what the columns are; one may say which split a row belongs to.

    Args:
        rows: of train.
        kind: one of `benchmarks.OWN_KINDS` but "ner"; None: as the values are.
        given: role -> column, as the user says.
        where: what has the rows, for errors.

    Raises:
        UserError: a column that does not exist, or columns and values that could be several things.
    """
    layout = _layout_of(rows, kind, given, where)
    column = splits_column(rows)
    if column is None or column in layout.columns.values():
        return layout
    named = {split_of(value) for value in rows.values(column)}
    splits = tuple(split for split in SPLIT_NAMES if split in named)
    return replace(layout, columns=layout.columns | {"split": column}, splits=splits)


def splits_column(rows: Rows) -> str | None:
    """Return the column in which rows name their split, or None.

    It has one of the names in `SPLITS`, and most of its filled cells name one. Where every row names the same split,
    and it is not train, the table is a part of a larger one, and has no such column.
    """
    by_name = {name.strip().lower(): name for name in rows.columns}
    for name in (by_name[each] for each in SPLITS if each in by_name):
        splits = [split_of(value) for value in rows.values(name)]
        filled = sum(not is_blank(value) for value in rows.values(name))
        most = sum(split is not None for split in splits) * 2 > filled
        if most and {*splits} not in ({"dev"}, {"test"}):
            return name
    return None


def check_splits(rows: Rows, column: str) -> None:
    """Raise a `UserError` for the first row that does not name its split."""
    for value, where in zip(rows.values(column), rows.where, strict=True):
        if split_of(value) is None:
            what = f"no {column}" if is_blank(value) else f"{column} {str(value).strip()[:40]!r}"
            raise UserError(what, where=where, remedy="use train, dev or test, or rename the column")


def _layout_of(rows: Rows, kind: str | None, given: dict[str, str], where: object) -> Layout:
    if not rows.rows:
        raise UserError("no example", where=where, remedy=f"give one per row; see {PAGE}")
    columns = _Columns(rows, given, where)
    keys = keys_of(rows.rows[0])
    if kind == "ner" or (kind is None and keys):
        if keys is None:
            what = f"no columns tokens and ner_tags among {', '.join(rows.columns)}"
            raise UserError(what, where=where, remedy=f"see {PAGE} for the formats of entities")
        return columns.of_entities(*keys)
    if kind == "qa" or (kind is None and not given and columns.has_questions()):
        return columns.of_questions()
    found = columns.of_texts(pairs=kind == "pairs", labels_of_columns=kind in (None, "multilabel"))
    if kind == "pairs" and "pair" not in found:
        raise columns.doubt("a pair needs two columns of text", "--text-column NAME --pair-column NAME")
    labels = found["label"] if found["label"] in rows.columns else found["label"].split(",")
    if not isinstance(labels, str):
        return Layout("multilabel", found, _described("multilabel", f"{len(labels)} labels, a column each", found))
    values = [value for value in rows.values(labels) if value is not None]
    if any(holds_spans(value) for value in values):
        remedy = f"name a file of JSON Lines, or give columns tokens and ner_tags; see {PAGE}"
        raise UserError(f"column {labels} holds spans of characters, not labels", where=where, remedy=remedy)
    kind = {"pairs": "classification"}.get(kind, kind) or kind_of(rows, found, where)
    if kind == "multilabel":
        if separator := separator_of(values):
            found["separator"] = separator
        classes = {label for value in values for label in split_labels(value, separator)}
        between = f", separated by {separator!r}" if separator else ""
        return Layout(kind, found, _described(kind, f"{len(classes)} labels in column {labels}{between}", found))
    if kind == "regression":
        return Layout(kind, found, _described(kind, f"the number in column {labels}", found))
    classes = sorted({str(value).strip() for value in values})
    none = [name for name in classes if name in NEGATIVE] if kind == "relation" else []
    counted = f"{len(classes)} classes" + (f" ({', '.join(none)}: no relation)" if none else "")
    return Layout(kind, found, _described(kind, f"{counted} in column {shortened(labels)}", found))


def _described(kind: str, labels: str, found: dict[str, str]) -> str:
    texts = f"text in column {shortened(found['text'])}"
    if "pair" in found:
        texts = f"texts in columns {shortened(found['text'])} and {shortened(found['pair'])}"
    return f"{kind}: {labels}, {texts}"


class _Columns:
    """The search for columns by the names that the user gives, by usual names, and by what is left over."""

    def __init__(self, rows: Rows, given: dict[str, str], where: object):
        self.rows, self.given, self.where = rows, given, where
        self.by_name = {name.strip().lower(): name for name in reversed(rows.columns)}
        for role, name in given.items():
            for each in [name] if name in rows.columns or role != "label" else name.split(","):
                if each not in rows.columns:
                    raise UsageError(
                        f"no column {each!r}",
                        where=where,
                        remedy=f"there are {', '.join(rows.columns)}: --{role}-column",
                    )

    def doubt(self, what: str, flags: str) -> UserError:
        listed = ", ".join(self.rows.columns[:12])
        return UserError(f"{what}, of {listed}", where=self.where, remedy=f"say which by {flags}; see {PAGE}")

    def first(self, names: Iterable[str], taken: Iterable[str] = ()) -> str | None:
        """Return the first column of these names that is not taken."""
        return next((self.by_name[n] for n in names if n in self.by_name and self.by_name[n] not in {*taken}), None)

    def of_entities(self, tokens: str, tags: str) -> Layout:
        found = {"tokens": tokens, "tags": tags}
        if document := self.given.get("document") or self.first(DOCUMENTS):
            found["document"] = document
        types = {
            tag[2:] or "untyped" for row in self.rows.values(tags) for tag in row or () if str(tag) not in ("O", "0")
        }
        return Layout("ner", found, f"ner: {len(types)} types in column {tags}, words in column {tokens}")

    def has_questions(self) -> bool:
        return all(name in self.by_name for name in QUESTIONS[:2]) and self.first(ANSWERS) is not None

    def of_questions(self) -> Layout:
        found = {name: self.first([name]) for name in QUESTIONS[:2]}
        found |= {"answers": self.first(ANSWERS), "answer_start": self.first(["answer_start"]), **self._names(found)}
        missing = [role for role in (*QUESTIONS,) if not found.get(role)]
        if missing:
            remedy = f"name the columns question, context and answers; see {PAGE}"
            what = f"no column {missing[0]} among {', '.join(self.rows.columns)}"
            raise UserError(what, where=self.where, remedy=remedy)
        columns = {role: name for role, name in found.items() if name}
        return Layout("qa", columns, "qa: questions and their answers in a context")

    def of_texts(self, *, pairs: bool, labels_of_columns: bool) -> dict[str, str]:
        """Return text, label, and where there are such columns pair, id and document."""
        found = dict(self.given)
        for first, second in () if {"text", "pair"} & found.keys() else PAIRS:
            if first in self.by_name and second in self.by_name:
                found |= {"text": self.by_name[first], "pair": self.by_name[second]}
                break
        taken = [*found.values()]
        if label := found.get("label") or self.first(LABELS, taken):
            found["label"] = label
        if text := found.get("text") or self.first(TEXTS, found.values()):
            found["text"] = text
        found |= self._names(found)
        used = {name for value in found.values() for name in (value, *value.split(","))}
        left = [name for name in self.rows.columns if name not in {*used, *_INDEX, splits_column(self.rows)}]
        if "label" not in found and "text" in found and labels_of_columns:
            flags = [name for name in left if all(is_flag(value) for value in self.rows.values(name))]
            if len(flags) > 1:
                return found | {"label": ",".join(flags)}
        if "label" not in found and "text" not in found and len(left) == 2:
            found |= _by_content(self.rows, left)
        for role, other in (("label", "text"), ("text", "label")):
            if role not in found and other in found and len(left) == 1:
                found[role] = left[0]
        if missing := [role for role in ("text", "label") if role not in found]:
            named = " and ".join(f"the {role}" for role in missing)
            raise self.doubt(f"unclear which column has {named}", " ".join(f"--{role}-column NAME" for role in missing))
        return found

    def _names(self, found: dict[str, str]) -> dict[str, str]:
        names = {"id": found.get("id") or self.first(IDS, found.values())}
        names["document"] = found.get("document") or self.first(DOCUMENTS, found.values())
        return {role: name for role, name in names.items() if name}


def split_of(value: Any) -> str | None:
    """Return which split a cell names: "train", "dev" or "test"; None for other values."""
    name = str(value).strip().lower()
    return next((split for split, names in SPLIT_NAMES.items() if name in names), None)


def _by_content(rows: Rows, names: Sequence[str]) -> dict[str, str]:
    """Tell text and label of two columns apart: labels repeat and are short. Return nothing where that fails."""
    distinct = {name: len({str(value) for value in rows.values(name)}) for name in names}
    length = {name: sum(len(str(value)) for value in rows.values(name)) for name in names}
    label, text = sorted(names, key=distinct.__getitem__)
    if distinct[label] * 2 <= len(rows.rows) and distinct[label] < distinct[text] and length[label] < length[text]:
        return {"text": text, "label": label}
    return {}
