"""The worked examples of docs/design.md: each adds something to the package in a few lines and runs it."""

import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from many_records import many_records
from small_runs import make_checkpoint, make_ner_set
from tiny_checkpoints import make_checkpoint as make_fine_tuned
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM

from compact_biomed import cli, distill, pretrain
from compact_biomed.benchmarks.tasks import TASKS, Task
from compact_biomed.inference import documents, formats
from compact_biomed.inference.model import load
from compact_biomed.inference.words import Word, entities
from compact_biomed.models.architectures import ARCHITECTURES, Architecture
from compact_biomed.objectives import losses, terms
from compact_biomed.objectives.terms import Term
from compact_biomed.records.lines import read_lines, score_lines
from compact_biomed.report.grid import ScoreGrid, score_grid
from compact_biomed.report.latex import latex
from compact_biomed.report.render import comma_separated, html, markdown
from compact_biomed.report.scores import scores_table
from compact_biomed.report.table import Table, TableColumn, number
from compact_biomed.training.recipe import DistillationRecipe, Recipe

DESIGN = Path(__file__).parents[1] / "docs" / "design.md"
FAST = ("--precision", "fp32", "--replicas", "1")


def lines_of(text: str) -> str:
    """Return a text without indentation and empty lines."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def test_the_page_quotes_this_file() -> None:
    quoted = re.findall(r"```python\n(.*?)```", DESIGN.read_text(encoding="utf-8"), re.DOTALL)
    here = lines_of(Path(__file__).read_text(encoding="utf-8"))
    assert len(quoted) >= 5 and [block for block in quoted if lines_of(block) not in here] == []


def test_a_new_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fevers = Task(
        name="Fevers",
        kind="ner",  # how examples are encoded and scored: a key of evaluation.kinds.KINDS
        version=1,
        place="NER/fevers",  # its folder in the data folder
        metric="f1",
        max_length=512,
        reader="ner",  # train, devel and test, one word and its tag per line
        sources=("where its files can be downloaded",),
    )
    monkeypatch.setitem(TASKS, fevers.name, fevers)
    make_ner_set(tmp_path / "data" / fevers.place, n=12)
    model, records = make_checkpoint(tmp_path / "small-bert"), tmp_path / "records.jsonl"
    flags = ["--task", "fevers", "--data", str(tmp_path / "data"), "--learning-rate", "0.01", "--epochs", "1", *FAST]
    assert cli.main(["evaluate", "--model", str(model), "--records", str(records), *flags]) == 0
    (scores,) = (record for record in map(json.loads, records.open()) if record["record"] == "scores")
    assert scores["task"]["name"] == "Fevers" and scores["task"]["examples"]["test"] == 6
    assert 0 <= scores["metrics"]["f1"] <= 100


def reverse_kl(student: Tensor, teacher: Tensor, mask=None, *, temperature: float = 1.0, reduction="mean") -> Tensor:
    """Return KL(softmax(student / T) || softmax(teacher / T)) in nats, [rows, vocabulary] -> scalar."""
    if mask is not None:
        student, teacher = student[mask.bool()], teacher[mask.bool()]
    ours = F.log_softmax(losses.wide(student) / temperature, dim=-1)
    theirs = F.log_softmax(losses.wide(teacher.detach()) / temperature, dim=-1)
    return losses.reduced((ours.exp() * (ours - theirs)).sum(), len(ours), reduction)


def test_a_new_loss_term(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(terms.FEATURES, "reverse_kl", "logits")
    monkeypatch.setattr(losses, "reverse_kl", reverse_kl, raising=False)
    recipe = DistillationRecipe(
        name="reverse",
        model="distilbiobert",
        teacher="biominilm_cl",
        layer_map="even",
        terms=(
            Term(loss="mlm_cross_entropy", weight=1.0),
            Term(loss="reverse_kl", weight=5.0),
        ),
    )
    result = distill(recipe, preset="smoke", max_steps=2, warmup_steps=0, output_dir=tmp_path / "run")
    assert result.record["log"][-1]["term/reverse_kl"] > 0
    assert [term["loss"] for term in result.record["hyperparameters"]["terms"]] == ["mlm_cross_entropy", "reverse_kl"]


def test_a_new_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"num_hidden_layers": 3, "hidden_size": 24, "num_attention_heads": 4, "intermediate_size": 48}
    architecture = {"smoke": Architecture("bert", sizes)}  # "paper" and "mini" likewise
    monkeypatch.setitem(ARCHITECTURES, "biodeepbert", architecture)
    RECIPE = Recipe(
        name="biodeepbert_cl",
        model="biodeepbert",
        settings={"weight_decay": 0.01},
        paper={"start": "OWNER/NAME"},  # a hub name
    )
    result = pretrain(RECIPE, preset="smoke", max_steps=1, warmup_steps=0, output_dir=tmp_path / "run")
    assert AutoModelForMaskedLM.from_pretrained(result.model).config.num_hidden_layers == 3


def with_runs(table: Table, grid: ScoreGrid) -> Table:
    """Return a table of scores with one more column: how many runs are behind each row."""
    runs = Counter(model for (model, _), score in grid.cells.items() for _ in score.lines)
    rows = [replace(row, cells=(*row.cells, number(runs[row.cells[0].text], ".0f"))) for row in table.rows]
    return replace(table, heads=(*table.heads, TableColumn("runs", "runs")), rows=tuple(rows))


def test_a_new_table_column(tmp_path: Path) -> None:
    path = many_records(tmp_path, models=("TinyBioBERT",), tasks=("GAD",), seeds=(1, 2), examples=10)
    grid = score_grid(score_lines(read_lines([path])), intervals=False)
    table = with_runs(scores_table(grid), grid)
    assert markdown(table).splitlines()[0].endswith(" | runs |") and markdown(table).splitlines()[2].endswith(" | 4 |")
    assert comma_separated(table).splitlines()[1].endswith(",4") and "& 4 \\\\" in latex(table) and ">4<" in html(table)


def tsv_lines(name: str, words: Iterable[Word]) -> Iterator[str]:
    """Yield one line per entity: document, start, end, label, text, separated by tabs."""
    for entity in entities(words):
        yield "\t".join([name, str(entity.start), str(entity.end), entity.label, entity.text])


def test_a_new_export_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(formats.ENTITY_FORMATS, "tsv", tsv_lines)
    model, text = load(make_fine_tuned(tmp_path / "ner", "token")), "the fever of frogs and kin"
    request = documents.Request("a.txt", io.StringIO(text).read)
    rows = [line.split("\t") for line in formats.output_lines(model, request, "tsv")]
    assert rows and all(text[int(start) : int(end)] == found for _, start, end, _, found in rows)
