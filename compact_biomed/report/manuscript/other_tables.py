"""Tables of architectures, trainings, claims, ablations and speed."""

from collections.abc import Sequence

from compact_biomed.console import duration
from compact_biomed.models.architectures import ARCHITECTURES, PUBLISHED_PARAMETERS
from compact_biomed.report.ablation_table import MEASURES, Group
from compact_biomed.report.bench_table import power
from compact_biomed.report.claims import OPEN, Judged
from compact_biomed.report.manuscript.inputs import BENCH_STEP, REPRODUCE, Inputs, field, groups_of
from compact_biomed.report.manuscript.latex import Row, code, long_table, table, text
from compact_biomed.report.manuscript.numbers import places

_NAMES = {"biobert": "BioBERT", "biominilm": "BioMiniLM", "biomobilebert": "BioMobileBERT", "distilbiobert": "DistilBioBERT"}
_NAMES |= {"biodistilbert": "BioDistilBERT", "biotinybert": "BioTinyBERT", "tinybiobert": "TinyBioBERT"}
_NAMES |= {"compactbiobert": "CompactBioBERT"}


def architectures(found: Inputs) -> str:
    """Depth, width and parameters, as published and in miniature."""
    sizes = {line.model: line.record["model"].get("encoder_parameters") for line in found.scores}
    rows = []
    for key, published in PUBLISHED_PARAMETERS.items():
        name = _NAMES[key]
        mini = "BioMiniLM" if key == "biobert" else name
        measured = f"{sizes[mini]:,}" if sizes.get(mini) else "--"
        renamed = name if mini == name else f"{name} / {mini}"
        rows.append([text(renamed), *_shape(key, "paper"), f"{published:,}", *_shape(key, "mini"), measured])
    caption = (
        "The architectures: layers, width, attention heads, inner width of the feed-forward part, and parameters of the "
        "encoder; as published, and in miniature. Source: "
        f"{code('compact_biomed/models/architectures.py')}; parameters in miniature as recorded with the scores."
    )
    head = ("model", "\\multicolumn{2}{l}{published}", "parameters", "\\multicolumn{2}{l}{miniature}", "parameters")
    return table("architectures", caption, "llrrlrr", head, rows)


def trainings(found: Inputs) -> str:
    """What was pretrained, from how many tokens, and how good a language model it became."""
    rows: list[Row] = []
    for title, names in groups_of(list(found.trainings)).items():
        rows.append(title)
        for name in names:
            line = found.trainings[name]
            before, after = field(line, "heldout.before"), field(line, "heldout.after")
            kl = f"{after['kl_to_teacher']:.3f}" if "kl_to_teacher" in after else "--"
            rate = f"{field(line, 'science.learning_rate'):g}" if field(line, "tokens") else "--"
            loss = (f"{before['loss']:.3f}", f"{after['loss']:.3f}", f"{100 * after['accuracy']:.1f}", kl)
            how = (f"{field(line, 'parameters'):,}", f"{field(line, 'tokens'):,}", rate)
            rows.append([text(name), *how, *loss, duration(field(line, "seconds"))])
    caption = (
        "The trainings. Held-out loss of masked-language modeling before and after (nats a masked token), accuracy on "
        "masked tokens in percent, and the Kullback--Leibler divergence from the teacher's to the student's predictions. "
        f"Parameters with the vocabulary head. Records: {_files(found)}, made by {code(REPRODUCE + ' --only pretraining')}."
    )
    head = ("model", "parameters", "tokens", "rate", "loss: start", "end", "acc.", "KL", "time")
    return table("trainings", caption, "lrrrrrrrr", head, rows)


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
        "The claims, judged by the records. Measured: the model's score over the reference's in percent, averaged over the "
        "tasks that both have, with its 95\\,\\% bootstrap interval over examples and seeds; $p$: that the ratio is the "
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
            rows.append(f"{text(group.recipe)}, preset {text(group.preset)}, {group.tokens:,} tokens a run")
            rows += _variants(group)
        lines = [line for group in groups for line in group.lines]
        caption = (
            f"{text(groups[0].question)} Mean $\\pm$ standard deviation over seeds (number of seeds), and the difference "
            f"from the first variant within seeds with its 95\\,\\% interval (paired $t$). Records: {code(places(lines))}, "
            f"made by {code(f'python recipes/ablations/{name}.py')}."
        )
        head = ("variant", "measure", "value", "difference")
        label = f"ablation-{name.replace('_', '-')}"
        parts.append(f"{text(groups[0].question)} Table~\\ref{{tab:{label}}}.\n{_differences(groups)}\n")
        parts.append(table(label, caption, "llrr", head, rows))
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
        f"The training step at the published size on {text(devices)}: tokens a second by the published way and ours, their "
        "ratio, ratio of peak memory, and relative difference of the loss (fp32 / as run). Records: "
        f"{code(places(found.steps.values()))}, made by {code(BENCH_STEP + ' --recipe NAME')}."
    )
    head = ("recipe", "published", "ours", "ratio", "memory", "loss differs by")
    return table("speed", caption, "lrrrrr", head, rows)


def _shape(key: str, scale: str) -> list[str]:
    """Layers x width, and heads, inner width."""
    of = ARCHITECTURES[key][scale].options
    layers, width = of.get("num_hidden_layers", of.get("n_layers")), of.get("hidden_size", of.get("dim"))
    heads = of.get("num_attention_heads", of.get("n_heads"))
    inner = of.get("intermediate_size", of.get("hidden_dim"))
    return [f"{layers} $\\times$ {width}", f"{heads}, {inner:,}"]


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
    for (name, measure), variant in group.variants.items():
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
            said.append(f"{text(group.recipe)}: {text(name)} {told} {text(group.reference)} "
                        f"(95\\,\\%: ${d.low:+.3f}$ to ${d.high:+.3f}$)")  # fmt: skip
    return "Held-out loss: " + "; ".join(said) + "." if said else "No variant has two seeds to compare."


def _files(found: Inputs) -> str:
    return code(places(found.trainings.values()))
