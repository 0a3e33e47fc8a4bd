"""Tables of trainings: ablations, the pretraining runs of a reproduction, and what the scale of scoring changes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from compact_biomed.console import duration
from compact_biomed.errors import UserError
from compact_biomed.records.lines import Line
from compact_biomed.report.measured import Column, Measured, measure
from compact_biomed.report.resampling import Interval
from compact_biomed.report.statistics import Summary, paired_difference, summarize
from compact_biomed.report.table import MISSING, UNKNOWN, Cell, Row, Table, TableColumn, gain, number, score, words

MEASURES = {
    "loss": "held-out MLM loss",
    "accuracy": "accuracy, %",
    "kl_to_teacher": "KL to the teacher",
    "distillation_loss": "held-out distillation loss",  # of students that do not learn to predict words
}
_SAME = ("tokens", "corpus")  # must be equal for all runs of a seed
_LEGEND = (
    "Mean ± standard deviation over seeds (number of seeds). In brackets: the difference from the first variant within "
    "seeds, with its 95 % interval (paired t; from two seeds on). Loss and KL in nats per masked token, on the same "
    "masked tokens of held-out documents for all."
)


@dataclass(frozen=True)
class Variant:
    """The result of a variant on one measure.

    Args:
        summary: over its seeds.
        difference: from the reference within the seeds that both have; None for the reference itself, or one seed.
    """

    summary: Summary
    difference: Interval | None


@dataclass(frozen=True)
class Group:
    """The variants of one ablation, recipe and scale.

    Args:
        lines: the records behind it.
        measures: those of `MEASURES` that a run has.
        variants: (variant, measure) -> result, the reference first.
    """

    ablation: str
    recipe: str
    preset: str
    question: str
    reference: str
    lines: tuple[Line, ...]
    measures: tuple[str, ...]
    variants: dict[tuple[str, str], Variant]

    @property
    def tokens(self) -> int:
        """The largest number of tokens that a run read."""
        return max(line.record["tokens"] for line in self.lines)


def grouped(lines: Iterable[Line]) -> list[Group]:
    """Return the ablations, in the order of the records.

    Raises:
        UserError: no record of an ablation; runs of one seed that saw different text or numbers of tokens.
    """
    groups: dict[tuple[str, str, str, int], list[Line]] = {}
    for line in lines:
        if (r := line.record).get("record") == "ablation":
            key = (r["ablation"], r["recipe"], r["hyperparameters"]["preset"], r["hyperparameters"]["max_steps"])
            groups.setdefault(key, []).append(line)
    if not groups:
        raise UserError("no record of an ablation", where="--records", remedy="compact-biomed recipe ablations/NAME")
    return [_group(*key[:3], of_group) for key, of_group in groups.items()]


def ablation_tables(lines: Iterable[Line]) -> list[Table]:
    """Return one table per ablation, recipe and scale.

    Raises:
        UserError: see `grouped`.
    """
    return [ablation_table(group) for group in grouped(lines)]


def ablation_table(group: Group) -> Table:
    """Return one row per variant, one column per measure."""
    names = dict.fromkeys([group.reference, *(name for name, _ in group.variants)])
    rows = [
        Row((words(name), *(_variant_cell(group.variants.get((name, of))) for of in group.measures))) for name in names
    ]
    heads = (TableColumn("variant", "variant", left=True), *(TableColumn(of, MEASURES[of]) for of in group.measures))
    title = f"{group.ablation}: {group.recipe}, preset {group.preset}, {group.tokens:,} tokens per run"
    return Table(group.ablation, heads, tuple(rows), title=title, caption=group.question, legend=_LEGEND)


def _variant_cell(variant: Variant | None) -> Cell:
    if variant is None:
        return words(MISSING)
    return score(variant.summary, form=".3f", difference=variant.difference)


def _group(ablation: str, recipe: str, preset: str, lines: Sequence[Line]) -> Group:
    _refuse_mixture(lines)
    records = [line.record for line in lines]
    reference = records[0]["reference"]
    names = dict.fromkeys([reference, *(r["variant"] for r in records)])
    measures = tuple(name for name in MEASURES if any(name in r["heldout"]["after"] for r in records))
    results = {(name, of): _variant(records, name, reference, of) for name in names for of in measures}
    variants = {key: variant for key, variant in results.items() if variant}
    return Group(ablation, recipe, preset, records[0]["question"], reference, tuple(lines), measures, variants)


def _variant(records: Sequence[dict[str, Any]], variant: str, reference: str, name: str) -> Variant | None:
    scale = 100 if name == "accuracy" else 1
    having = [r for r in records if name in r["heldout"]["after"]]
    values = {
        which: {r["seed"]: scale * r["heldout"]["after"][name] for r in having if r["variant"] == which}
        for which in (variant, reference)
    }
    own, of_reference = values[variant], values[reference]
    if not own:
        return None
    both = sorted(own.keys() & of_reference.keys())
    difference = None
    if variant != reference and len(both) > 1:
        difference = paired_difference([own[seed] for seed in both], [of_reference[seed] for seed in both])
    return Variant(summarize(list(own.values())), difference)


def _refuse_mixture(lines: Sequence[Line]) -> None:
    seen: dict[tuple, Line] = {}
    of_seed: dict[int, Line] = {}
    for line in lines:
        variant, seed = line.record["variant"], line.record["seed"]
        twin = seen.setdefault((variant, seed), line)
        if twin is not line:
            where = f"{twin.where} and {line.where}"
            raise UserError(f"two runs of {variant}, seed {seed}", where=where, remedy="remove one of the two lines")
        first = of_seed.setdefault(seed, line)
        for name in _SAME:
            if first.record[name] != line.record[name]:
                where = f"{first.where} and {line.where}"
                remedy = "run the variants again on the same text and number of tokens"
                raise UserError(f"runs of seed {seed} have different {name}", where=where, remedy=remedy)


# ---- Pretraining runs


def pretraining_table(lines: Iterable[Line]) -> Table:
    """Return one row per model and pretraining seed, from its last record, in the order of the records.

    Raises:
        UserError: no record of a training.
    """
    last = _by_seed([line for line in lines if line.record.get("record") == "pretraining"])
    titles = {"parameters": "parameters", "tokens": "tokens", "rate": "learning rate"}
    titles |= {"before": "held-out MLM loss: start", "after": "end", "accuracy": "accuracy", "kl": "KL to the teacher"}
    heads = [TableColumn("model", "model", left=True), TableColumn("recipe", "recipe", left=True)]
    heads += [TableColumn(key, title, shown=key != "rate") for key, title in titles.items()]
    heads += [TableColumn("time", "time", left=True), TableColumn("device", "on", left=True)]
    rows = [_training_row(name, record) for name, record in last.items()]
    return Table("pretraining", tuple(heads), tuple(rows), notes=tuple(_notes(last)))


def _by_seed(lines: Sequence[Line]) -> dict[str, dict[str, Any]]:
    """Return model -> its last record; a model that was trained with several seeds is named with the seed, too."""
    last: dict[tuple[str, Any], dict[str, Any]] = {}
    for line in lines:
        last[line.record["model"], line.record["hyperparameters"].get("seed")] = line.record
    several = {model for model, count in Counter(model for model, _ in last).items() if count > 1}
    if not last:
        last_trainings(lines)  # raises
    return {f"{model}, seed {seed}" if model in several else model: record for (model, seed), record in last.items()}


def last_trainings(lines: Iterable[Line]) -> dict[str, Line]:
    """Return the last record of each model, in the order of the records.

    Raises:
        UserError: no record of a training.
    """
    last = {line.record["model"]: line for line in lines if line.record.get("record") == "pretraining"}
    if not last:
        raise UserError("no record of a training", where="--records", remedy="compact-biomed reproduce")
    return last


def _training_row(name: str, record: dict[str, Any]) -> Row:
    before, after = record["heldout"]["before"], record["heldout"]["after"]
    rate = record["hyperparameters"].get("learning_rate") if record["tokens"] else None
    return Row(
        (
            words(name),
            words(record["hyperparameters"]["recipe"]),
            number(record["parameters"], ",d"),
            number(record["tokens"], ",d"),
            number(rate, "g"),
            number(before.get("loss"), ".3f"),
            number(after.get("loss"), ".3f"),
            number(after.get("accuracy"), ".1f", "%", scale=100),
            number(after.get("kl_to_teacher"), ".3f"),
            words(duration(record["seconds"])),
            words(record["speed"]["device"]),
        )
    )


def _notes(last: dict[str, dict[str, Any]]) -> list[str]:
    """Return remarks on the text, and a warning where models were not made from the same text or number of tokens."""
    notes = []
    any_record = next(iter(last.values()))
    if unigram := next((r["heldout"]["unigram"] for r in last.values() if "unigram" in r["heldout"]), None):
        notes.append(f"Word frequencies alone: {unigram['loss']:.3f} nats per masked token.")
    trained = {name: record for name, record in last.items() if record["tokens"]}
    if len({record["tokens"] for record in trained.values()}) > 1:
        notes.append("Attention: the trained models did not see the same number of tokens.")
    if len({record["corpus"]["fingerprint"] for record in last.values()}) > 1:
        notes.append("Attention: the models were not made from the same text.")
    against = any_record["corpus"].get("decontamination")
    clear = ", ".join(against["benchmarks"]) if against else "no test set"
    return [*notes, f"The text was kept clear of: {clear}."]


# ---- Words and word-pieces


_SCALES_LEGEND = (
    "The same predictions counted twice. Mean ± standard deviation over seeds (number of seeds); the difference within "
    "runs with its interval (paired t; from two seeds on). Kendall's tau: do both scales put the models in one order?"
)


def scales_table(lines: Sequence[Line]) -> Table:
    """Return one row per task and model: F1 on words, on word-pieces, and the difference.

    Raises:
        UserError: no record holds both scales.
    """
    measured = {(each.column, each.model): each for each in measure(lines) if each.seeds}
    pairs = [
        (each, on_pieces)
        for (column, model), each in measured.items()
        if not column.on_pieces and (on_pieces := measured.get((Column(column.task, f"piece_{column.metric}"), model)))
    ]
    if not pairs:
        raise UserError("no record of an entity set", where="--records", remedy="compact-biomed evaluate --task ...")
    notes = []
    for task in sorted({on_words.column.task for on_words, _ in pairs}):
        of_task = [pair for pair in pairs if pair[0].column.task == task]
        if len(of_task) > 2:
            means = [[each.summary().mean for each in scale] for scale in zip(*of_task, strict=True)]
            tau = stats.kendalltau(*means).statistic
            notes.append(f"{task}: Kendall's tau {tau:.2f} over {len(of_task)} models")
    heads = [
        TableColumn("task", "task", left=True),
        TableColumn("model", "model", left=True),
        TableColumn("words", "F1 on words"),
    ]
    heads += [TableColumn("pieces", "F1 on word-pieces"), TableColumn("difference", "difference (95 %)")]
    rows = tuple(_scales_row(*pair) for pair in pairs)
    return Table("scoring_scale", tuple(heads), rows, legend=_SCALES_LEGEND, notes=tuple(notes))


def _scales_row(on_words: Measured, on_pieces: Measured) -> Row:
    scores = [on_words.scores(), on_pieces.scores()]
    difference = words(UNKNOWN)
    if len(scores[0]) > 1:
        difference = gain(paired_difference(scores[1], scores[0]))
    names = (words(on_words.column.task), words(on_words.model))
    return Row((*names, *(score(each.summary()) for each in (on_words, on_pieces)), difference))
