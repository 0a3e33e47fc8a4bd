"""The card of a released model: what it is, how it scores, how it was made, and what it is not for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compact_biomed.checksums import SUMS
from compact_biomed.console import count, counted
from compact_biomed.errors import UserError
from compact_biomed.models.cards import MINILM_ON_HUB, Measured, front_matter
from compact_biomed.records.lines import Line
from compact_biomed.report.compare import Comparison, compare
from compact_biomed.report.contrasts import Contrast, by_model_and_column, contrast
from compact_biomed.report.grid import score_grid
from compact_biomed.report.measured import Column, measure
from compact_biomed.report.render import markdown
from compact_biomed.report.scores import LEGEND, footnotes
from compact_biomed.report.table import UNKNOWN, Cell, Row, Table, TableColumn, score, share, words
from compact_biomed.training.summary import decontamination, has_vocabulary_head, heldout_table, rights

_LICENSES = {
    True: ("apache-2.0", "Apache 2.0, as sentence-transformers/all-MiniLM-L6-v2, from which these weights derive."),
    False: ("mit", "MIT."),
}
_LIMITS = """\
Intended for fine-tuning on English biomedical text (entities, relations, text classification, questions), for {use}

Not intended for decisions about patients, nor for any use in which a wrong answer does harm and nobody checks it. The
model {purpose} it must be fine-tuned and evaluated.

- It belongs to a family of miniatures: at most as deep and as wide as the paper's models, most of them smaller, and
  trained on a small part of their text. Its scores are not those of the published weights and do not compare with them.
- It was pretrained with a single seed. No interval includes the variation between pretraining seeds.
- It has read PubMed abstracts in English only, no full texts, clinical notes or other languages. It inherits
  the gaps and errors of the literature; bias was neither measured nor reduced."""
_OF_PREDICTORS = {
    "use": "filling\nmasks, and for the study of small models and of distillation.",
    "purpose": "fills masks; for any other task",
}
_OF_ENCODERS = {
    "use": "text\nembeddings, and for the study of small models and of distillation.",
    "purpose": "has no vocabulary head; for every task",
}
_OF_TESTS = "For tests of the software only: it was trained on generated text and knows nothing."


def release_card(name: str, record: dict[str, Any], lines: Sequence[Line], *, reference: str, derived: bool) -> str:
    """Return a README.md for a released model, with front matter as model hubs read it.

    Args:
        name: of the model in records.
        record: of its training.
        lines: scores of these weights and of the reference; may be empty.
        reference: name of the model to compare its scores with.
        derived: whether its weights derive from all-MiniLM-L6-v2.

    Raises:
        UserError: scores that do not belong together (`measured.measure`).
    """
    tag, terms = _LICENSES[derived]
    predicts = has_vocabulary_head(record)
    loader = "AutoModelForMaskedLM" if predicts else "AutoModel"
    matter = front_matter(
        name=name,
        measured=_measured(name, lines),
        license=tag,
        base_model=MINILM_ON_HUB if derived else None,
        language=["en"],
        library_name="transformers",
        pipeline_tag="fill-mask" if predicts else "feature-extraction",
        tags=["biomedical", "pubmed", *(["masked-lm"] if predicts else []), "compact"],
    )
    limits = _LIMITS.format(**(_OF_PREDICTORS if predicts else _OF_ENCODERS))
    return f"""{matter}
# {name}

A compact biomedical encoder of {count(record["parameters"])} parameters, made by compact-biomed
{record["from"]["versions"]["compact-biomed"]} after "On the Effectiveness of Compact Biomedical Transformers" (arXiv
2209.03182). A miniature: not one of the published models.

```python
from transformers import {loader}, AutoTokenizer
model, tokenizer = (kind.from_pretrained("{name}") for kind in ({loader}, AutoTokenizer))
```

## Scores

{_scores(name, lines, reference)}
## Training

{_training(record)}

{heldout_table(record["heldout"])}

Text: {_text(record)}

{decontamination(record["corpus"])}

`record.json` is the complete record: all settings, versions, checksums and the loss curve.

## Intended use and limits

{_OF_TESTS if record["hyperparameters"]["preset"] == "smoke" else limits}

## License

{terms}
{rights(record["hyperparameters"])}

`sha256sum -c {SUMS}` checks the files.
"""


def _measured(name: str, lines: Sequence[Line]) -> list[Measured]:
    """Return the fine-tuned scores on words, means over seeds."""
    own, found = [line for line in lines if line.model == name], []
    for each in measure(own) if own else []:
        if each.seeds and not each.column.on_pieces:
            kind, summary = each.lines[0].record["task"].get("kind", ""), each.summary()
            about = f"mean over {counted(summary.n, 'seed')} of fine-tuning"
            about += "" if each.whole else ", not all folds"
            found.append(Measured(each.column.task, kind, {each.column.metric: summary.mean}, about))
    return found


def _scores(name: str, lines: Sequence[Line], reference: str) -> str:
    """Return the fine-tuned scores by task beside the reference's, and what is retained over all of them."""
    if not any(line.model == name for line in lines):
        return "Not measured on any benchmark.\n"
    return markdown(_score_table(name, lines, reference))


def _score_table(name: str, lines: Sequence[Line], reference: str) -> Table:
    grid = score_grid(lines, intervals=False)
    columns = [column for column in grid.columns if (name, column) in grid.cells]
    compared = _compared(name, lines, reference)
    rows = []
    for column in columns:
        own = grid.cells[name, column]
        row = [words(column.title), score(own.summary, marked=own.marked)]
        rows.append(Row((*row, *(_reference_cells(compared.get(column)) if compared else ()))))
    heads = [TableColumn("column", "task, metric", left=True), TableColumn("score", name)]
    heads += [TableColumn("reference", reference), TableColumn("retained", "retained")] if compared else []
    notes = [*footnotes(grid.how_on(columns)), *_overall(name, lines, reference)]
    notes += [f"{column.title}: {'; '.join(n)}" for column in columns if (n := grid.cells[name, column].notes)]
    caption = f"After fine-tuning, on test sets, in percent. {LEGEND}"
    if compared:
        caption += f" Retained: of {reference}'s score (95 % bootstrap interval over test examples and seeds)."
    return Table("scores", tuple(heads), tuple(rows), caption=caption, notes=tuple(notes))


def _compared(name: str, lines: Sequence[Line], reference: str) -> dict[Column, Comparison]:
    if name == reference:
        return {}
    try:
        return {each.column: each for each in compare(lines, reference, models=[name])}
    except UserError:  # the lines belong together, as a table was made of them: the two have no task in common
        return {}


def _reference_cells(compared: Comparison | None) -> list[Cell]:
    if compared is None or compared.retained is None:
        return [words(UNKNOWN), words(UNKNOWN)]
    return [score(compared.of_teacher), share(compared.retained, compared.interval)]


def _overall(name: str, lines: Sequence[Line], reference: str) -> list[str]:
    compared = contrast(by_model_and_column(measure(lines), on_pieces=False), name, reference, 1.0)
    if name == reference or not isinstance(compared, Contrast):
        return []
    ratio, tasks = compared.ratio, ", ".join(column.task for column in compared.columns)
    interval = f"{100 * ratio.low:.1f} to {100 * ratio.high:.1f}"
    return [f"Of the scores of {reference} it retains {100 * ratio.value:.1f} % on average ({interval}; {tasks})."]


def _training(record: dict[str, Any]) -> str:
    hyperparameters, origin = record["hyperparameters"], record["from"]
    commit = f"commit {origin['revision']}" if origin["revision"] else "an installed package"
    changed = " (with changes)" if origin["clean"] is False else ""
    starts = [f"{name} (sha256 {digest})" for name, digest in (record["start_sha256"] or {}).items()]
    steps = f"{hyperparameters['max_steps']:,} steps of {hyperparameters['batch_size']} documents"
    lines = [
        f"{record['tokens']:,} tokens in {steps}, seed {hyperparameters['seed']}, on {record['speed']['device']}",
        f"`{origin['command']}`, {commit}{changed}, {origin['date'][:10]}",
        f"start: {hyperparameters['start']}; start weights: {', '.join(starts) or 'none'}",
        f"weights (sha256): {record['weights_sha256']}",
    ]
    if hyperparameters.get("teacher"):
        teacher = f"{hyperparameters['teacher']} (sha256 {hyperparameters['teacher_sha256']})"
        lines.insert(1, f"distilled from {teacher}, loss {hyperparameters['loss']}")
    return "\n".join(f"- {line}" for line in lines)


def _text(record: dict[str, Any]) -> str:
    corpus = record["corpus"]
    # Of files the name alone: their folder on the machine is private.
    names = [Path(n).name if (n := each["name"]).startswith("/") else n for each in corpus["sources"]]
    sources = ", ".join(
        f"{name} (sha256 {each['sha256']})" for name, each in zip(names, corpus["sources"], strict=True)
    )
    train = corpus["train"]
    return f"{train['documents']:,} documents, {train['tokens']:,} tokens, from {sources}."
