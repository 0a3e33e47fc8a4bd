"""The paper's claims, judged by records: holds here, does not hold here, or cannot be told here, and why.

A claim is a set of contrasts with a threshold. It holds if every contrast (or, for "up to", some contrast) lies
above the threshold with its whole 95 % interval, and with p below 0.05 after Holm's correction within the
claim; it does not hold if one (or all) lie below in the same way; else these records can't tell.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from compact_biomed.console import count
from compact_biomed.errors import UserError
from compact_biomed.records import Line
from compact_biomed.report.compare import RESAMPLES, Contrast, Scores, by_model_and_column, contrast
from compact_biomed.report.family import CONTINUAL, DISTILLED, FAMILY, GENERAL, TEACHER, mean_cell
from compact_biomed.report.measured import Cell, Column, Table, encoder_parameters, measure
from compact_biomed.report.render import footnotes, legend_of_scores, markdown_rows, score
from compact_biomed.report.statistics import FEWEST_SEEDS, holm, on_all_cores

HOLDS, FAILS, OPEN = "holds here", "does not hold here", "cannot be tested here"
SIGNIFICANCE = 0.05
_PLACES = {1: "above the threshold", -1: "below the threshold"}


@dataclass(frozen=True)
class Claim:
    """A statement, and the contrasts that decide it.

    Args:
        text: in words.
        pairs: model and reference; several names for the best of them.
        threshold: of the ratio of their scores.
        every: whether all pairs must lie above it, or one.
        of_paper: whether the paper makes it; the others are what its claims rest on.
        why_not: of a claim without pairs: why nothing here can decide it.
    """

    text: str
    pairs: tuple[tuple[str | tuple[str, ...], str | tuple[str, ...]], ...] = ()
    threshold: float = 1.0
    every: bool = True
    of_paper: bool = True
    why_not: str = ""


@dataclass(frozen=True)
class Judged:
    """Args:
    contrasts: those that could be made.
    holm: their p-values, adjusted within the claim.
    verdict: `HOLDS`, `FAILS` or `OPEN`.
    why: in words.
    """

    claim: Claim
    contrasts: tuple[Contrast, ...]
    holm: tuple[float, ...]
    verdict: str
    why: str


def _of_teacher(models: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple((model, TEACHER) for model in models)


CLAIMS = (
    Claim("Distilled models retain up to 98.8 % of the teacher", _of_teacher(DISTILLED), 0.988, every=False),
    Claim("Continually pretrained models retain up to 98.6 % of it", _of_teacher(CONTINUAL), 0.986, every=False),
    Claim("BioMobileBERT retains up to 98.2 % of it", _of_teacher(("BioMobileBERT",)), 0.982),
    Claim("Distilled models are above continually pretrained ones (the best of each)", ((DISTILLED, CONTINUAL),)),
    Claim(
        "BioMobileBERT is the best model of those that the paper has under 30 M parameters",
        (("BioMobileBERT", "BioTinyBERT"), ("BioMobileBERT", "TinyBioBERT")),
    ),
    Claim(
        "DistilBioBERT and CompactBioBERT are the best of those above 30 M",
        (("DistilBioBERT", "BioDistilBERT"), ("CompactBioBERT", "BioDistilBERT")),
    ),
    Claim(
        "The published scores, to the digit",
        why_not="they need BioBERT, the published start weights and all of PubMed; here are miniatures",
    ),
    Claim("Pretraining further on PubMed helps the teacher", ((TEACHER, GENERAL),), of_paper=False),
    Claim(
        "Pretraining further on PubMed helps each compact model",
        tuple((model, f"{model}-start") for model in CONTINUAL), of_paper=False,
    ),
    Claim(
        "A teacher helps each student (against the same start and tokens by masked-language modeling alone)",
        tuple((model, f"{model}-mlm") for model in DISTILLED), of_paper=False,
    ),
    Claim(
        "Start weights help each architecture (against random ones, the same tokens)",
        (
            *((model, f"{model}-random") for model in CONTINUAL),
            ("DistilBioBERT-mlm", "DistilBioBERT-random"),
        ),
        of_paper=False,
    ),
)  # fmt: skip


def judge(lines: Sequence[Line], *, on_pieces: bool = False, resamples: int = RESAMPLES) -> list[Judged]:
    """Every claim by these records of test scores.

    Args:
        on_pieces: on the published scale of word-pieces, entity sets alone; else on words.
        resamples: for each contrast; no p is below 1 / resamples.

    Raises:
        UserError: records that don't go together (`measured.measure`).
    """
    scores = by_model_and_column(measure(lines), on_pieces=on_pieces) if lines else {}
    return on_all_cores(lambda claim: _judge(claim, scores, resamples), CLAIMS)


def _judge(claim: Claim, scores: Scores, resamples: int) -> Judged:
    if claim.why_not:
        return Judged(claim, (), (), OPEN, claim.why_not)
    made = [_contrast(pair, claim.threshold, scores, resamples) for pair in claim.pairs]
    contrasts = tuple(each for each in made if isinstance(each, Contrast))
    lacking = [each for each in made if isinstance(each, str)]
    adjusted = tuple(holm([each.p for each in contrasts]))
    sides = [_side(each, p, claim.threshold) for each, p in zip(contrasts, adjusted, strict=True)]
    # One contrast decides against "every" and for "some"; the other verdict needs all of them.
    deciding, verdict, other = (-1, FAILS, HOLDS) if claim.every else (1, HOLDS, FAILS)
    few = [f"fewer than {FEWEST_SEEDS} seeds"] if any(each.fewest < FEWEST_SEEDS for each in contrasts) else []
    if few:
        return Judged(claim, contrasts, adjusted, OPEN, "; ".join([*few, *dict.fromkeys(lacking)]))
    if deciding in sides:
        some = ", ".join(each.model for each, side in zip(contrasts, sides, strict=True) if side == deciding)
        return Judged(claim, contrasts, adjusted, verdict, f"{some}: {_PLACES[deciding]}")
    if sides and not lacking and all(side == -deciding for side in sides):
        return Judged(claim, contrasts, adjusted, other, f"every interval is {_PLACES[-deciding]}")
    undecided = [f"{each.model}: the interval holds {100 * claim.threshold:g} %, or p is not below {SIGNIFICANCE}"
                 for each, side in zip(contrasts, sides, strict=True) if side == 0]  # fmt: skip
    return Judged(claim, contrasts, adjusted, OPEN, "; ".join([*dict.fromkeys(lacking), *undecided]))


def _side(each: Contrast, adjusted: float, threshold: float) -> int:
    """1 above the threshold, -1 below, 0 not told."""
    if adjusted >= SIGNIFICANCE or each.ratio.low <= threshold <= each.ratio.high:
        return 0
    return 1 if each.ratio.low > threshold else -1


def _contrast(pair, threshold: float, scores: Scores, resamples: int) -> Contrast | str:
    chosen = []
    for names in pair:
        best = names if isinstance(names, str) else _best(names, scores)
        if best is None:
            return f"not all of {', '.join(names)} were measured on one task"
        chosen.append(best)
    return contrast(scores, *chosen, threshold, resamples=resamples)


def _best(names: Sequence[str], scores: Scores) -> str | None:
    """The one with the highest mean score over the tasks that all have."""
    columns = {column for _, column in scores}
    shared = [column for column in columns if all((name, column) in scores for name in names)]
    if not shared:
        return None

    def mean(name: str) -> float:
        means = [sum(s := scores[name, column].scores()) / len(s) for column in sorted(shared)]
        return sum(means) / len(means)

    return max(names, key=mean)


# ----------------------------------------------------------------------------------------------------
# Scores -> the one table that a reader sees first: the family, on the tasks that all of it was measured on.


_MARK = "\\*"


def headline(table: Table, lines: Sequence[Line]) -> str:
    """Models of the paper's family and the general model, with size, mean, what is retained, and each task; Markdown.

    Scores are on words. Tasks that some of the models were not measured on are left out, and named.

    Args:
        table: of `lines`.

    Raises:
        UserError: no model of the family was measured, or they have no task in common.
    """
    on_words = [column for column in table.columns if not column.on_pieces]
    models = [name for name in (*FAMILY, GENERAL) if any((name, column) in table.cells for column in on_words)]
    columns = [column for column in on_words if all((name, column) in table.cells for name in models)]
    if not columns or not set(FAMILY) & set(models):
        raise UserError("no task that all measured models of the family have", where="--records")
    scores = by_model_and_column(measure(lines), on_pieces=False)
    shown = {(name, column): found for (name, column), found in scores.items() if column in columns}
    rows = [_headline_row(name, [table.cells[name, column] for column in columns], shown) for name in models]
    head = ["model", "parameters", "mean", f"retained of {TEACHER}", *(column.title for column in columns)]
    below = [*footnotes({column: table.how[column] for column in columns}), *_left_out(on_words, columns)]
    return f"{markdown_rows(head, rows)}\n{_legend(models, columns)}\n\n" + "".join(f"- {note}\n" for note in below)


def _headline_row(name: str, cells: Sequence[Cell], scores: Scores) -> list[str]:
    size = encoder_parameters(line for cell in cells for line in cell.lines).get(name)
    mean = mean_cell(cells)
    return [
        name,
        count(size) if size else "n/a",
        _score(mean) if mean else "n/a",
        _retained(name, scores),
        *map(_score, cells),
    ]


def _score(cell: Cell) -> str:
    return score(cell.summary, "±", _MARK if cell.marked else "")


def _retained(name: str, scores: Scores) -> str:
    if name == TEACHER:
        return "100 %"
    found = contrast(scores, name, TEACHER, 1.0)
    if not isinstance(found, Contrast):
        return "n/a"
    shown = sum(of == name for of, _ in scores)
    part = "" if len(found.columns) == shown else f", on {len(found.columns)} of {shown} tasks"
    return f"{100 * found.ratio.value:.1f} % ({100 * found.ratio.low:.1f} to {100 * found.ratio.high:.1f}){part}"


def _legend(models: Sequence[str], columns: Sequence[Column]) -> str:
    over = "the task" if len(columns) == 1 else f"the {len(columns)} tasks"
    said = [
        f"Test scores on words after fine-tuning, in percent. {legend_of_scores('±', _MARK)}",
        f"Parameters: of the encoder. Mean: over {over}, seed by seed.",
        f"Retained: the score over the teacher's ({TEACHER}), averaged over tasks",
        "(95 % bootstrap interval over test examples and seeds), without those that have fewer than "
        f"{FEWEST_SEEDS} seeds. The family is a miniature of the paper's.",
    ]
    if GENERAL in models:
        said.append(f"{GENERAL} is the general model that the teacher starts from.")
    return " ".join(said)


def _left_out(on_words: Sequence[Column], columns: Sequence[Column]) -> list[str]:
    names = [column.title for column in on_words if column not in columns]
    return [f"Not shown, because not all of these models were measured on it: {'; '.join(names)}."] if names else []


# ----------------------------------------------------------------------------------------------------
# Judged claims as Markdown.


_HEAD = ("claim", "measured here", "p", "verdict", "why")
_LEGEND = (
    "Measured: the model's score over the reference's, averaged over the tasks that both have (95 % bootstrap interval "
    "over test examples and seeds; seeds a cell). p: two-sided, that the ratio is the claim's threshold, by the "
    "same resamples, after Holm's correction within the claim. A claim holds, or does not, where the interval and p "
    'tell it; where they do not, it cannot be tested with these records. "Best" is chosen on the same scores, '
    "which favors the claim's first side a little. Every model was pretrained once: what another seed of "
    "pretraining would change is in no interval. All models are miniatures of the paper's: half as deep, half as wide."
)


def claims_markdown(words: Sequence[Judged], pieces: Sequence[Judged]) -> str:
    """The claims of the paper and what they rest on, on words; then those of the paper on word-pieces."""
    parts = ["# The claims, judged by the records\n", _LEGEND + "\n"]
    for title, judged in (
        ("The paper's claims", [each for each in words if each.claim.of_paper]),
        ("What they rest on", [each for each in words if not each.claim.of_paper]),
        ("The paper's claims on its own scale of word-pieces (entity sets alone)",
         [each for each in pieces if each.claim.of_paper and each.claim.pairs]),
    ):  # fmt: skip
        parts += [f"## {title}\n", markdown_rows(_HEAD, [_claim_row(each) for each in judged])]
    tasks = sorted({column.title for each in (*words, *pieces) for c in each.contrasts for column in c.columns})
    return "\n".join([*parts, f"Tasks: {'; '.join(tasks) or 'none'}."]) + "\n"


def _claim_row(each: Judged) -> list[str]:
    threshold = f" (threshold {100 * each.claim.threshold:g} %)" if each.claim.pairs else ""
    measured = "<br>".join(_contrast_text(one) for one in each.contrasts) or "nothing"
    adjusted = "<br>".join(f"{p:.2g}" for p in each.holm) or "n/a"
    return [each.claim.text + threshold, measured, adjusted, f"**{each.verdict}**", each.why]


def _contrast_text(one: Contrast) -> str:
    ratio = one.ratio
    tasks = f"{len(one.columns)} task{'s' * (len(one.columns) > 1)}, {one.fewest} seed{'s' * (one.fewest > 1)}"
    interval = f"{100 * ratio.value:.1f} % ({100 * ratio.low:.1f} to {100 * ratio.high:.1f})"
    return f"{one.model} / {one.reference}: {interval}; {tasks}"
