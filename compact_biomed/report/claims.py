"""The paper's claims, judged by records: each holds here, does not hold here, is undecided, or cannot be tested here.

A claim is a set of contrasts with a threshold. It holds if every contrast (or, for "up to", some contrast) is
above the threshold with its whole 95 % interval, and with p below 0.05 after Holm's correction within the
claim. It does not hold if one of them (or all) is below in the same way. Otherwise it is undecided; without the
records of a model, or with too few seeds, it cannot be tested.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from compact_biomed.console import counted
from compact_biomed.records.lines import Line
from compact_biomed.report.contrasts import RESAMPLES, Contrast, MeasuredByCell, by_model_and_column, contrast
from compact_biomed.report.family import CONTINUAL, DISTILLED, GENERAL, TEACHER
from compact_biomed.report.measured import measure, require_one_protocol
from compact_biomed.report.resampling import on_all_cores
from compact_biomed.report.statistics import FEWEST_SEEDS, holm
from compact_biomed.report.table import UNKNOWN, Cell, Row, Table, TableColumn, p_value, share, words

HOLDS, FAILS = "holds here", "does not hold here"
UNDECIDED, UNTESTED = "undecided here", "cannot be tested here"
SIGNIFICANCE = 0.05
_SIDES = {1: "above the threshold", -1: "below the threshold"}


@dataclass(frozen=True)
class Claim:
    """A statement, and the contrasts that decide it.

    Args:
        text: in words.
        pairs: model and reference; several names for the best of them.
        threshold: of the ratio of their scores.
        every: whether all pairs must be above it, or one.
        of_paper: whether the paper makes it; the others are what its claims rest on.
        why_not: why nothing here can decide a claim without pairs.
    """

    text: str
    pairs: tuple[tuple[str | tuple[str, ...], str | tuple[str, ...]], ...] = ()
    threshold: float = 1.0
    every: bool = True
    of_paper: bool = True
    why_not: str = ""


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict.

    Args:
        contrasts: those that could be computed.
        holm: their p-values, adjusted within the claim.
        verdict: `HOLDS`, `FAILS`, `UNDECIDED` or `UNTESTED`.
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
        tuple((model, f"{model}-start") for model in CONTINUAL),
        of_paper=False,
    ),
    Claim(
        "A teacher helps each student (against the same start and tokens by masked-language modeling alone)",
        tuple((model, f"{model}-mlm") for model in DISTILLED),
        of_paper=False,
    ),
    Claim(
        "Start weights help each architecture (against random ones, the same tokens)",
        (
            *((model, f"{model}-random") for model in CONTINUAL),
            ("DistilBioBERT-mlm", "DistilBioBERT-random"),
        ),
        of_paper=False,
    ),
)


def judge(lines: Sequence[Line], *, on_pieces: bool = False, resamples: int = RESAMPLES) -> list[Judged]:
    """Judge every claim by records of test scores.

    Args:
        on_pieces: on the published scale of word-pieces, entity sets alone; else on words.
        resamples: for each contrast; no p is below 1 / resamples.

    Raises:
        UserError: records that do not belong together (`measured.measure`), or models of different protocols.
    """
    measured = measure(lines) if lines else []
    require_one_protocol(measured)
    return judge_each(CLAIMS, by_model_and_column(measured, on_pieces=on_pieces), resamples=resamples)


def judge_each(claims: Sequence[Claim], scores: MeasuredByCell, *, resamples: int = RESAMPLES) -> list[Judged]:
    """Judge claims by scores; see `judge`."""
    return on_all_cores(lambda claim: _judge(claim, scores, resamples), claims, what="claims")


def _judge(claim: Claim, scores: MeasuredByCell, resamples: int) -> Judged:
    if claim.why_not:
        return Judged(claim, (), (), UNTESTED, claim.why_not)
    results = [_contrast(pair, claim.threshold, scores, resamples) for pair in claim.pairs]
    contrasts = tuple(each for each in results if isinstance(each, Contrast))
    missing = [each for each in results if isinstance(each, str)]
    adjusted = tuple(holm([each.p for each in contrasts]))
    sides = [_side(each, p, claim.threshold) for each, p in zip(contrasts, adjusted, strict=True)]
    few = [f"fewer than {FEWEST_SEEDS} seeds"] if any(each.fewest < FEWEST_SEEDS for each in contrasts) else []
    if few:
        return Judged(claim, contrasts, adjusted, UNTESTED, "; ".join([*few, *dict.fromkeys(missing)]))
    deciding = -1 if claim.every else 1
    if deciding in sides:
        some = ", ".join(each.model for each, side in zip(contrasts, sides, strict=True) if side == deciding)
        return Judged(claim, contrasts, adjusted, verdict_of(claim, sides), f"{some}: {_SIDES[deciding]}")
    if not missing and (verdict := verdict_of(claim, sides)):
        return Judged(claim, contrasts, adjusted, verdict, f"every interval is {_SIDES[-deciding]}")
    doubt = f"the interval includes {100 * claim.threshold:g} %, or p is not below {SIGNIFICANCE}"
    undecided = [f"{each.model}: {doubt}" for each, side in zip(contrasts, sides, strict=True) if side == 0]
    verdict = UNTESTED if missing else UNDECIDED
    return Judged(claim, contrasts, adjusted, verdict, "; ".join([*dict.fromkeys(missing), *undecided]))


def verdict_of(claim: Claim, sides: Sequence[int]) -> str | None:
    """Return the verdict from the side of the threshold of each contrast (1, -1, 0 if undecided); None if it is open.

    One contrast decides against "every" and for "some"; the other verdict needs all of them.
    """
    deciding, verdict, other = (-1, FAILS, HOLDS) if claim.every else (1, HOLDS, FAILS)
    if deciding in sides:
        return verdict
    return other if sides and all(side == -deciding for side in sides) else None


def _side(each: Contrast, adjusted: float, threshold: float) -> int:
    """Return 1 above the threshold, -1 below and 0 if undecided."""
    if adjusted >= SIGNIFICANCE or each.ratio.low <= threshold <= each.ratio.high:
        return 0
    return 1 if each.ratio.low > threshold else -1


def _contrast(pair, threshold: float, scores: MeasuredByCell, resamples: int) -> Contrast | str:
    chosen = []
    for names in pair:
        best = names if isinstance(names, str) else best_of(names, scores)
        if best is None:
            return f"not all of {', '.join(names)} were measured on one task"
        chosen.append(best)
    return contrast(scores, *chosen, threshold, resamples=resamples)


def best_of(names: Sequence[str], scores: MeasuredByCell) -> str | None:
    """Return the model with the highest mean score over the tasks that all of them have."""
    columns = {column for _, column in scores}
    common = [column for column in columns if all((name, column) in scores for name in names)]
    if not common:
        return None

    def mean(name: str) -> float:
        return fmean(scores[name, column].summary().mean for column in common)

    return max(names, key=mean)


# ---- Tables


_LEGEND = (
    "Measured: the model's score over the reference's, averaged over the tasks that both have (95 % bootstrap interval "
    "over test examples and seeds; seeds per model and task). p: two-sided, that the ratio is the claim's threshold, "
    "by the same resamples, after Holm's correction within the claim. A claim holds, or does not hold, where the "
    "interval and p decide it; otherwise it is undecided, or cannot be tested for lack of records. "
    '"Best" is chosen on the same scores, '
    "which favors the claim's first side a little. {pretraining} "
    "The family's models are miniatures of the paper's."
)
_PRETRAINED_ONCE = "Every model was pretrained once: what another seed of pretraining would change is in no interval."
_PRETRAINED_OFTEN = (
    "Some models were pretrained with several seeds: a score is the mean over trainings of the mean over their seeds, "
    "and the intervals include what another training would change. Its variance is pooled over the models that were "
    "trained several times ({freedom} degrees of freedom) and assumed for the others."
)


def claims_tables(
    on_words: Sequence[Judged], on_pieces: Sequence[Judged], not_counted: Sequence[str] = ()
) -> list[Table]:
    """Return the paper's claims and what they rest on, on words; then the paper's claims on word-pieces.

    Args:
        not_counted: a line for each task that is left out: why (`scores.not_counted_notes`).
    """
    sections = {
        "The paper's claims": [each for each in on_words if each.claim.of_paper],
        "What they rest on": [each for each in on_words if not each.claim.of_paper],
        "The paper's claims on its own scale of word-pieces (entity sets alone)": [
            each for each in on_pieces if each.claim.of_paper and each.claim.pairs
        ],
    }
    freedom = max((one.freedom for each in (*on_words, *on_pieces) for one in each.contrasts), default=0)
    pretraining = _PRETRAINED_OFTEN.format(freedom=freedom) if freedom else _PRETRAINED_ONCE
    legend = _LEGEND.format(pretraining=pretraining)
    tables = [claims_table(title, judged, legend) for title, judged in sections.items()]
    contrasts = [one for each in (*on_words, *on_pieces) for one in each.contrasts]
    tasks = sorted({column.title for one in contrasts for column in one.columns})
    return [*tables[:-1], replace(tables[-1], notes=(f"Tasks: {'; '.join(tasks) or 'none'}.", *not_counted))]


def claims_table(title: str, judged: Sequence[Judged], legend: str) -> Table:
    """Return one row per claim: threshold, contrasts, p-values, verdict and reason."""
    titles = ("claim", "measured here", "p", "verdict", "why")
    heads = tuple(TableColumn(name.split()[0], name, left=name != "p") for name in titles)
    return Table("claims", heads, tuple(map(_row, judged)), title=title, legend=legend)


def _row(each: Judged) -> Row:
    threshold = f" (threshold {100 * each.claim.threshold:g} %)" if each.claim.pairs else ""
    measured = tuple(map(contrast_cell, each.contrasts))
    p_values = tuple(map(p_value, each.holm))
    return Row(
        (
            words(each.claim.text + threshold),
            Cell(stacked=measured) if measured else words("nothing"),
            Cell(stacked=p_values) if p_values else words(UNKNOWN),
            words(each.verdict, strong=True),
            words(each.why),
        )
    )


def contrast_cell(one: Contrast) -> Cell:
    """Return the ratio of two models' scores, with their names before it and what it rests on behind it."""
    tasks = f"{counted(len(one.columns), 'task')}, {counted(one.fewest, 'seed')}"
    return share(one.ratio.value, one.ratio, label=f"{one.model} / {one.reference}", text=f"; {tasks}")
