"""Records of an ablation -> a table: mean, deviation, and the difference within seeds with its interval."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from compact_biomed.errors import UserError
from compact_biomed.report.records import Line
from compact_biomed.report.render import markdown_rows
from compact_biomed.report.resampling import Interval
from compact_biomed.report.statistics import Summary, paired_difference, summarize

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
            key = (r["ablation"], r["recipe"], r["science"]["preset"], r["science"]["max_steps"])
            groups.setdefault(key, []).append(line)
    if not groups:
        raise UserError("no record of an ablation", where="--records", remedy="python recipes/ablations/NAME.py")
    return [_group(*key[:3], found) for key, found in groups.items()]


def markdown(lines: Iterable[Line]) -> str:
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
