"""Read questions in SQuAD's format, version 1 or 2, and the same as rows of a table."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compact_biomed.benchmarks.examples import QuestionExample
from compact_biomed.benchmarks.readers.files import read_json
from compact_biomed.benchmarks.readers.rows import Rows
from compact_biomed.errors import UserError

MOVED, CASE = "answers moved to where their text occurs", "answers written as their context has it"
_UNANSWERABLE = "questions without an answer (SQuAD v2), left out: the model always answers"
_LOST = "questions left out: no answer is in the context"
_REMEDY = "see docs/own-data.md for SQuAD's format: data, paragraphs, qas"
_BLANK = "questions left out: question or context is empty"


def squad_pairs(path: Path, content: Any = None) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield (question, context) of a SQuAD file: the question with its id and answers, as the file has it.

    Args:
        content: of the file, if it was read before.

    Raises:
        UserError: a part is missing or has another type, with its place in the file.
    """
    data = read_json(path) if content is None else content
    for n, article in enumerate(_part(data, "data", list, f"{path}")):
        in_article = f"{path}: data[{n}]"
        for m, paragraph in enumerate(_part(article, "paragraphs", list, in_article)):
            in_paragraph = f"{in_article}.paragraphs[{m}]"
            for k, question in enumerate(_part(paragraph, "qas", list, in_paragraph)):
                context = _part(paragraph, "context", str, in_paragraph)
                where = f"{in_paragraph}.qas[{k}]"
                for key in ("id", "question"):
                    _part(question, key, str, where)
                if not _are_answers(question.get("answers") or []):
                    raise UserError("answers without a text and a number answer_start", where=where, remedy=_REMEDY)
                yield question, context


def _part(content: Any, key: str, kind: type, where: str) -> Any:
    """Return the part of an object, a text or a list.

    Raises:
        UserError: it is missing or has another type, or this is no object.
    """
    if not isinstance(content, dict):
        what = f"not an object: {json.dumps(content)[:40]}"
    elif key not in content:
        what = f"no {key}"
    elif not isinstance(content[key], kind):
        what = f"{key} is not a {'text' if kind is str else 'list'}: {json.dumps(content[key])[:40]}"
    else:
        return content[key]
    raise UserError(what, where=where, remedy=_REMEDY)


def _are_answers(answers: Any) -> bool:
    return isinstance(answers, list) and all(
        isinstance(each, dict) and isinstance(each.get("text"), str) and type(each.get("answer_start")) is int
        for each in answers
    )


def align(text: str, start: int, context: str) -> tuple[tuple[str, int] | None, str | None]:
    """Find an answer in its context; return it with its position there, and what was corrected: `MOVED` or `CASE`.

    The answer is None if it does not occur. Case, and a full stop at the end, may differ from the context.
    """
    start = max(start, 0)  # Python would count a negative position from the end
    if text and context[start : start + len(text)] == text:
        return (text, start), None
    for answer in (text, text.rstrip(" .")):
        if not answer:
            continue
        if context[start : start + len(answer)].lower() == answer.lower():
            return (context[start : start + len(answer)], start), CASE
        # lower() may change the length of a text; such a context is searched as it is.
        lowered = context.lower() if len(context.lower()) == len(context) else context
        if (position := lowered.find(answer.lower())) >= 0:
            return (context[position : position + len(answer)], position), MOVED
    return None, None


def read_squad(path: Path, split: str, repairs: dict[str, int]) -> list[QuestionExample]:
    """Read the answerable questions of a SQuAD file.

    Args:
        split: "train", "dev" or "test". Where an answer is not in its context, a question of train is left out; others
            stay, to be counted as wrong.
        repairs: description of what was corrected or left out -> how often; added to.
    """
    content = read_json(path, "correct the file")
    asked = [
        (
            str(question["id"]),
            question["question"],
            context,
            [(a["text"], a["answer_start"]) for a in _answers(question)],
        )
        for question, context in squad_pairs(path, content)
    ]
    if not asked:
        raise UserError("no question", where=path, remedy="write data, paragraphs, qas")
    return _examples(asked, split, repairs, path)


def _answers(question: dict[str, Any]) -> list[dict[str, Any]]:
    return [] if question.get("is_impossible") else question.get("answers") or []


def questions_of_rows(
    rows: Rows, columns: dict[str, str], split: str, repairs: dict[str, int]
) -> list[QuestionExample]:
    """Read questions from a table: answers as `datasets` writes SQuAD, a text, or a list of texts.

    Args:
        columns: role -> column: question, context, answers, maybe answer_start and id.
    """
    asked = []
    for number, (row, where) in enumerate(zip(rows.rows, rows.where, strict=True)):
        question, context = (row.get(columns[role]) for role in ("question", "context"))
        for role, text in (("question", question), ("context", context)):
            if text is not None and not isinstance(text, str):
                what = f"{columns[role]} is not text: {str(text)[:40]!r}"
                raise UserError(what, where=where, remedy="write a text")
        answers = _answers_of_row(row, columns, where)
        key = row.get(columns.get("id", ""))
        asked.append((f"{split}/{number}" if key in (None, "") else str(key), question or "", context or "", answers))
    return _examples(asked, split, repairs, rows.where[0].partition(":")[0] if rows.where else None)


def _answers_of_row(row: dict[str, Any], columns: dict[str, str], where: str) -> list[tuple[str, int]]:
    value, start = row.get(columns["answers"]), row.get(columns.get("answer_start", ""))
    if isinstance(value, dict):  # {"text": [...], "answer_start": [...]}
        value, start = value.get("text"), value.get("answer_start")
    texts = [] if value in (None, "") else value if isinstance(value, list) else [value]
    starts = start if isinstance(start, list) else [start] * len(texts)
    try:
        if len(starts) != len(texts):
            raise ValueError(f"{len(texts)} answers, {len(starts)} positions")
        pairs = []
        for text, position in zip(texts, starts, strict=True):
            if isinstance(text, dict):  # [{"text": ..., "answer_start": ...}]
                text, position = text.get("text"), text.get("answer_start")
            if not isinstance(text, str):
                raise ValueError(f"an answer that is not text: {str(text)[:40]!r}")
            pairs.append((text, -1 if position in (None, "") else int(position)))
        return pairs
    except (TypeError, ValueError) as error:
        remedy = 'write {"text": ["..."], "answer_start": [17]}, or the answer as text'
        raise UserError(str(error), where=where, remedy=remedy) from None


def _examples(
    asked: list[tuple[str, str, str, list[tuple[str, int]]]], split: str, repairs: dict[str, int], where: object
) -> list[QuestionExample]:
    examples = []

    def count(what: str) -> None:
        repairs[f"{split}: {what}"] = repairs.get(f"{split}: {what}", 0) + 1

    for key, question, context, answers in asked:
        if not question.strip() or not context.strip():
            count(_BLANK)
            continue
        if not answers:
            count(_UNANSWERABLE)
            continue
        aligned = []
        for text, start in answers:
            answer, corrected = align(text, start, context)
            if corrected and start >= 0:
                count(corrected)
            if answer is not None:
                aligned.append(answer)
            elif split != "train" and text.strip():
                aligned.append((text, -1))
        if aligned:
            examples.append(QuestionExample(key, key, question.strip(), context, tuple(aligned)))
        else:
            count(_LOST)
    if asked and not examples:
        remedy = "copy answers from the context; for answers such as yes and no: --kind pairs --label-column answer"
        raise UserError(f"none of {len(asked)} questions has an answer in its context", where=where, remedy=remedy)
    return examples
