"""Tables of claims, ablations and speed."""

from collections.abc import Sequence

from compact_biomed.report.ablation_table import MEASURES, Group
from compact_biomed.report.bench_table import power
from compact_biomed.report.claims import OPEN, Judged
from compact_biomed.report.manuscript.inputs import BENCH_STEP, Inputs, field
from compact_biomed.report.manuscript.latex import Row, code, long_table, table, text
from compact_biomed.report.manuscript.numbers import places


def claims(found: Inputs) -> str:
    """Every claim with what was measured, and the verdict."""
    rows: list[Row] = []
    on_pieces = [each for each in found.pieces if each.claim.of_paper and each.claim.pairs]
    for title, judged in (
        ("Claims of the paper", [each for each in found.words if each.claim.of_paper]),
        ("What they rest on", [each for each in found.words if not each.claim.of_paper]),
        ("Claims of the paper on its own scale of word-pieces, entity sets alone", on_pieces),
    ):
        rows.append(title)
        for each in judged:
            rows += _claim(each)
    caption = (
        "The claims, judged by the records: the model's score over the reference's in percent, averaged over the tasks "
        "that both have, with its 95\\,\\% bootstrap interval over examples and seeds; $p$: that the ratio is the "
        "threshold, after Holm's correction within the claim. "
        f"Made by {code('compact-biomed tables claims --records results/evaluation.jsonl')}."
    )
    head = ("comparison", "ratio, \\%", "tasks", "seeds", "$p$")
    return long_table("claims", caption, "lrrrr", head, rows)


def ablations(found: Inputs) -> str:
    """A table for each ablation, with a paragraph that says what differs."""
    parts = []
    for name in dict.fromkeys(group.ablation for group in found.ablations):
        groups = [group for group in found.ablations if group.ablation == name]
        rows: list[Row] = []
        for group in groups:
            rows.append(f"{code(group.recipe)}, preset {text(group.preset)}, {group.tokens:,} tokens a run")
            rows += _variants(group)
        lines = [line for group in groups for line in group.lines]
        caption = (
            f"{text(groups[0].question)} Mean $\\pm$ standard deviation over seeds (number of seeds), and the "
            "difference from the first variant within seeds with its 95\\,\\% interval (paired $t$). Records: "
            f"{code(places(lines))}, made by {code(f'python recipes/ablations/{name}.py')}."
        )
        head = ("variant", "measure", "value", "difference")
        label = f"ablation-{name.replace('_', '-')}"
        parts.append(f"{text(groups[0].question)} Table~\\ref{{tab:{label}}}.\n{_differences(groups)}\n")
        parts.append(table(label, caption, "llrr", head, rows, place="!htb"))
    return "\n".join(parts)


def speed(found: Inputs) -> str:
    """The training step beside the published one."""
    rows = []
    for recipe, line in found.steps.items():
        rates = (f"{field(line, 'tokens_per_s_published'):,.0f}", f"{field(line, 'tokens_per_s'):,.0f}")
        ratios = (f"{field(line, 'ratio'):.2f}", f"{field(line, 'peak_memory_ratio'):.2f}")
        loss = f"{power(field(line, 'loss_difference_fp32'))} / {power(field(line, 'loss_difference'))}"
        rows.append([text(recipe), *rates, *ratios, loss])
    devices = ", ".join(sorted({field(line, "device") for line in found.steps.values()}))
    caption = (
        f"The training step at the published size on {text(devices)}: tokens a second by the published way and ours, "
        "their ratio, ratio of peak memory, and relative difference of the loss (fp32 / as run). Records: "
        f"{code(places(found.steps.values()))}, made by {code(BENCH_STEP + ' --recipe NAME')}."
    )
    head = ("recipe", "published", "ours", "ratio", "memory", "loss differs by")
    return table("speed", caption, "lrrrrr", head, rows, place="!htb")


def _claim(each: Judged) -> list[Row]:
    """The claim and its verdict over all columns, then one row a contrast."""
    threshold = f" (threshold {100 * each.claim.threshold:g}\\,\\%)" if each.claim.pairs else ""
    said = f"{text(each.claim.text)}{threshold}: \\textbf{{{text(each.verdict)}}}"
    why = f" ({text(each.why)})" if each.verdict == OPEN else ""
    rows: list[Row] = [["\\addlinespace\\multicolumn{5}{@{}p{0.97\\linewidth}}{" + said + why + "}"]]
    for one, p in zip(each.contrasts, each.holm, strict=True):
        ratio = one.ratio
        interval = f"{100 * ratio.value:.1f} [{100 * ratio.low:.1f}, {100 * ratio.high:.1f}]"
        pair = f"\\quad {text(one.model)} / {text(one.reference)}"
        rows.append([pair, interval, f"{len(one.columns)}", f"{one.fewest}", f"{p:.2g}"])
    return rows


def _variants(group: Group) -> list[Row]:
    rows: list[Row] = []
    measures = list(MEASURES)
    for (name, measure), variant in sorted(group.variants.items(), key=lambda each: measures.index(each[0][1])):
        deviation = f" $\\pm$ {variant.summary.deviation:.3f}" if variant.summary.deviation is not None else ""
        value = f"{variant.summary.mean:.3f}{deviation} ({variant.summary.n})"
        d = variant.difference
        difference = f"${d.value:+.3f}$ [${d.low:+.3f}$, ${d.high:+.3f}$]" if d else "--"
        rows.append([text(name), text(MEASURES[measure]), value, difference])
    return rows


def _differences(groups: Sequence[Group]) -> str:
    """Which variants end with another loss than the reference, in words."""
    said = []
    for group in groups:
        for (name, measure), variant in group.variants.items():
            d = variant.difference
            if measure != "loss" or d is None:
                continue
            where = "higher" if d.low > 0 else "lower" if d.high < 0 else None
            told = (
                f"ends {abs(d.value):.3f} nats {where} than" if where else f"can not be told from ({d.value:+.3f} nats)"
            )
            said.append(f"{code(group.recipe)}: {text(name)} {told} {text(group.reference)} "
                        f"(95\\,\\%: ${d.low:+.3f}$ to ${d.high:+.3f}$)")  # fmt: skip
    return "Held-out loss: " + "; ".join(said) + "." if said else "No variant has two seeds to compare."
