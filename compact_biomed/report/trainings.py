"""Records of an ablation -> a table: mean, deviation, and the difference within seeds with its interval."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from compact_biomed.console import duration
from compact_biomed.errors import UserError
from compact_biomed.records import Line
from compact_biomed.report.measured import Column, Measured, measure
from compact_biomed.report.render import markdown_rows, score
from compact_biomed.report.statistics import Interval, Summary, paired_difference, summarize

MEASURES = {"loss": "held-out MLM loss", "accuracy": "accuracy, %", "kl_to_teacher": "KL to the teacher"}
_SAME = ("tokens", "corpus")  # what all runs of a seed must share
_LEGEND = (
    "Mean ± standard deviation over seeds (number of seeds). In brackets: the difference from the first variant within "
    "seeds, with its 95 % interval (paired t; from two seeds on). Loss and KL in nats a masked token, on the same "
    "masked tokens of held-out documents for all."
)


@dataclass(frozen=True)
class Variant:
    """A variant on one measure.

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
        measures: those of `MEASURES` that all runs have.
        variants: (variant, measure) -> what was measured, the reference first.
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
        """The most that a run read."""
        return max(line.record["tokens"] for line in self.lines)


def grouped(lines: Iterable[Line]) -> list[Group]:
    """The ablations, in the order of the records.

    Raises:
        UserError: no record of an ablation; runs of one seed that saw different text or numbers of tokens.
    """
    groups: dict[tuple[str, str, str, int], list[Line]] = {}
    for line in lines:
        if (r := line.record).get("record") == "ablation":
            key = (r["ablation"], r["recipe"], r["hyperparameters"]["preset"], r["hyperparameters"]["max_steps"])
            groups.setdefault(key, []).append(line)
    if not groups:
        raise UserError("no record of an ablation", where="--records", remedy="python recipes/ablations/NAME.py")
    return [_group(*key[:3], found) for key, found in groups.items()]


def ablation_markdown(lines: Iterable[Line]) -> str:
    """A table for each ablation, recipe and scale.

    Raises:
        UserError: see `grouped`.
    """
    return "\n".join([_LEGEND + "\n", *map(_section, grouped(lines))])


def _group(ablation: str, recipe: str, preset: str, lines: Sequence[Line]) -> Group:
    _refuse_mixture(lines)
    records = [line.record for line in lines]
    reference = records[0]["reference"]
    names = dict.fromkeys([reference, *(r["variant"] for r in records)])
    measures = tuple(name for name in MEASURES if all(name in r["heldout"]["after"] for r in records))
    found = {(name, of): _variant(records, name, reference, of) for name in names for of in measures}
    variants = {key: variant for key, variant in found.items() if variant}
    return Group(ablation, recipe, preset, records[0]["question"], reference, tuple(lines), measures, variants)


def _section(group: Group) -> str:
    names = dict.fromkeys([group.reference, *(name for name, _ in group.variants)])
    rows = [[name, *(_cell(group.variants.get((name, of))) for of in group.measures)] for name in names]
    head = f"### {group.ablation}: {group.recipe}, preset {group.preset}, {group.tokens:,} tokens a run\n\n"
    table = markdown_rows(["variant", *(MEASURES[name] for name in group.measures)], rows)
    return f"{head}{group.question}\n\n{table}"


def _variant(records: Sequence[dict[str, Any]], variant: str, reference: str, name: str) -> Variant | None:
    scale = 100 if name == "accuracy" else 1
    values = {
        which: {r["seed"]: scale * r["heldout"]["after"][name] for r in records if r["variant"] == which}
        for which in (variant, reference)
    }
    mine, theirs = values[variant], values[reference]
    if not mine:
        return None
    both = sorted(mine.keys() & theirs.keys())
    difference = None
    if variant != reference and len(both) > 1:
        difference = paired_difference([mine[seed] for seed in both], [theirs[seed] for seed in both])
    return Variant(summarize(list(mine.values())), difference)


def _cell(found: Variant | None) -> str:
    if found is None:
        return "not measured"
    deviation = f" ± {found.summary.deviation:.3f}" if found.summary.deviation is not None else ""
    text = f"{found.summary.mean:.3f}{deviation} ({found.summary.n})"
    if found.difference is None:
        return text
    d = found.difference
    return f"{text} [{d.value:+.3f}, {d.low:+.3f} to {d.high:+.3f}]"


def _refuse_mixture(lines: Sequence[Line]) -> None:
    seen: dict[tuple, Line] = {}
    pairs: dict[int, Line] = {}
    for line in lines:
        record = line.record
        twin = seen.setdefault((record["variant"], record["seed"]), line)
        if twin is not line:
            raise UserError(
                f"two runs of {record['variant']}, seed {record['seed']}", where=f"{twin.where} and {line.where}",
                remedy="remove one of them",
            )  # fmt: skip
        first = pairs.setdefault(record["seed"], line)
        for name in _SAME:
            if first.record[name] != record[name]:
                raise UserError(
                    f"runs of seed {record['seed']} have different {name}", where=f"{first.where} and {line.where}",
                    remedy="variants are compared on the same text and number of tokens",
                )  # fmt: skip


# ----------------------------------------------------------------------------------------------------
# Records of trainings in a reproduction -> the table of what was made, from how many tokens.


_HEAD = ("model", "recipe", "parameters", "tokens", "held-out MLM loss: start", "end", "accuracy", "KL to the teacher")
_HEAD += ("time", "on")


def pretraining_markdown(lines: Iterable[Line]) -> str:
    """One row a model, its last record, in the order of the records.

    Raises:
        UserError: no record of a training.
    """
    last = {model: line.record for model, line in last_trainings(lines).items()}
    text = markdown_rows(_HEAD, [_training_row(record) for record in last.values()])
    return "\n".join([text, *(f"- {note}" for note in _notes(last))]) + "\n"


def last_trainings(lines: Iterable[Line]) -> dict[str, Line]:
    """Model -> its last record, in the order of the records.

    Raises:
        UserError: no record of a training.
    """
    last = {line.record["model"]: line for line in lines if line.record.get("record") == "pretraining"}
    if not last:
        raise UserError("no record of a training", where="--records", remedy="python recipes/reproduce.py")
    return last


def _training_row(record: dict[str, Any]) -> list[str]:
    before, after = record["heldout"]["before"], record["heldout"]["after"]
    kl = f"{after['kl_to_teacher']:.3f}" if "kl_to_teacher" in after else "n/a"
    return [
        record["model"],
        record["hyperparameters"]["recipe"],
        f"{record['parameters']:,}",
        f"{record['tokens']:,}",
        f"{before['loss']:.3f}",
        f"{after['loss']:.3f}",
        f"{100 * after['accuracy']:.1f} %",
        kl,
        duration(record["seconds"]),
        record["speed"]["device"],
    ]


def _notes(last: dict[str, dict[str, Any]]) -> list[str]:
    """Whether all were made from one text, and from as many tokens."""
    notes = []
    any_record = next(iter(last.values()))
    notes.append(f"Word frequencies alone: {any_record['heldout']['unigram']['loss']:.3f} nats a masked token.")
    trained = {name: record for name, record in last.items() if record["tokens"]}
    if len({record["tokens"] for record in trained.values()}) > 1:
        notes.append("Attention: the trained models did not see the same number of tokens.")
    if len({record["corpus"]["fingerprint"] for record in last.values()}) > 1:
        notes.append("Attention: the models were not made from the same text.")
    against = any_record["corpus"].get("decontamination")
    clear = ", ".join(against["benchmarks"]) if against else "no test set"
    return [*notes, f"The text was kept clear of: {clear}."]


# ----------------------------------------------------------------------------------------------------
# Records of entity sets -> what scoring on word-pieces, as the published scripts do, changes in place of words.


_SCALES_HEAD = ("task", "model", "F1 on words", "F1 on word-pieces", "difference (95 %)")
_SCALES_LEGEND = (
    "The same predictions counted twice. Mean ± standard deviation over seeds (number of seeds); the difference within "
    "runs with its interval (paired t; from two seeds on). Kendall's tau: do both scales put the models in one order?"
)


def scales_markdown(lines: Sequence[Line]) -> str:
    """One row a task and model.

    Raises:
        UserError: no record holds both scales.
    """
    found = {(each.column, each.model): each for each in measure(lines) if each.seeds}
    pairs = [
        (each, on_pieces)
        for (column, model), each in found.items()
        if not column.on_pieces and (on_pieces := found.get((Column(column.task, f"piece_{column.metric}"), model)))
    ]
    if not pairs:
        raise UserError("no record of an entity set", where="--records", remedy="compact-biomed evaluate --task ...")
    notes = []
    for task in sorted({words.column.task for words, _ in pairs}):
        mine = [(words, pieces) for words, pieces in pairs if words.column.task == task]
        if len(mine) > 2:
            means = [[summarize(each.scores()).mean for each in column] for column in zip(*mine, strict=True)]
            notes.append(f"- {task}: Kendall's tau {stats.kendalltau(*means).statistic:.2f} over {len(mine)} models\n")
    return (
        markdown_rows(_SCALES_HEAD, [_scales_row(*pair) for pair in pairs]) + f"\n{_SCALES_LEGEND}\n\n" + "".join(notes)
    )


def _scales_row(words: Measured, pieces: Measured) -> list[str]:
    scores = [words.scores(), pieces.scores()]
    difference = "n/a"
    if len(scores[0]) > 1:
        d = paired_difference(scores[1], scores[0])
        difference = f"{d.value:+.2f} ({d.low:+.2f} to {d.high:+.2f})"
    return [words.column.task, words.model, *(score(summarize(each), "±") for each in scores), difference]
