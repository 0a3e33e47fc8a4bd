"""Tables of models in rows by kind: scores, their intervals, and what is retained of the teacher."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from compact_biomed.console import duration
from compact_biomed.models.architectures import ARCHITECTURES, PUBLISHED_PARAMETERS
from compact_biomed.report.claims import OPEN, SIGNIFICANCE, Judged
from compact_biomed.report.compare import Comparison
from compact_biomed.report.family import CONTINUAL, DISTILLED, TEACHER, groups_of
from compact_biomed.report.gap import Gap
from compact_biomed.report.manuscript.inputs import BENCH_STEP, REPRODUCE, Inputs, field, places
from compact_biomed.report.measured import Cell, Column, Table, encoder_parameters, protocol_of
from compact_biomed.report.render import Row, code, long_table, table, text
from compact_biomed.report.speed import power
from compact_biomed.report.statistics import FEWEST_SEEDS, Interval
from compact_biomed.report.trainings import MEASURES, Group

_MOST_COLUMNS = 4
_NONE = "--"
_METRICS = {"f1": "F1", "mrr": "MRR"}
_SCALES = {False: "words", True: "word-pieces"}


def scores(found: Inputs) -> str:
    """Every model on every task: on words and other scales, then on word-pieces."""
    parts = []
    for on_pieces, label in ((False, "scores"), (True, "pieces")):
        for number, columns in enumerate(_portions(found, on_pieces)):
            caption = _as_first(label, number) or (
                f"Scores in percent, entities on {_SCALES[on_pieces]}: mean $\\pm$ standard deviation over seeds; in "
                "brackets the number of seeds where it is not the column's. M: parameters of the encoder in millions. "
                f"$^*$ fewer than {FEWEST_SEEDS} seeds, or not all folds."
            )
            caption += f" {_how(found, columns)} {sources(found)}"
            head = ["model", "M", *(_head(found, column) for column in columns)]
            rows = _rows(found, columns, lambda model, columns=columns: [
                _size(found, model), *(_score(found, model, column) for column in columns)])  # fmt: skip
            parts.append(table(_label(label, number), caption, "lr" + "r" * len(columns), head, rows))
    return "\n".join(parts)


def intervals(found: Inputs) -> str:
    """The interval of every score over test examples."""
    parts = []
    for on_pieces, label in ((False, "intervals"), (True, "intervals-pieces")):
        for number, columns in enumerate(_portions(found, on_pieces)):
            caption = _as_first(label, number) or (
                f"Mean scores, entities on {_SCALES[on_pieces]}, with their 95\\,\\% intervals over test examples (BCa "
                f"bootstrap, the seeds fixed). {sources(found)}"
            )
            rows = _rows(found, columns, lambda model, columns=columns: [
                _with_interval(found.table.cells.get((model, column))) for column in columns])  # fmt: skip
            head = ["model", *(_head(found, column) for column in columns)]
            parts.append(table(_label(label, number), caption, "l" + "r" * len(columns), head, rows, place="!ht"))
    return "\n".join(parts)


def retained(found: Inputs) -> str:
    """The ratios to the teacher's scores on words, and their mean over the tasks that every model has."""
    parts = []
    for number, columns in enumerate(_portions(found, on_pieces=False)):
        with_mean = bool(found.ratios) and number == 0
        caption = _as_first("retained", number) or (
            f"What is retained of {TEACHER}'s score, in percent, with its 95\\,\\% bootstrap interval over test "
            "examples and seeds. $^\\dagger$ the two differ over examples (approximate randomization, "
            f"$p < {SIGNIFICANCE}$ after Holm's correction).{_of_mean(found) if with_mean else ''} {sources(found)}"
        )
        rows = _rows(found, columns, lambda model, columns=columns, with_mean=with_mean: [
            *(_ratio(found.compared.get((model, column))) for column in columns),
            *([_mean(found, model)] if with_mean else []),
        ], leave_out=(TEACHER,))  # fmt: skip
        head = ["model", *(_head(found, column) for column in columns), *(["mean"] if with_mean else [])]
        align = "l" + "r" * (len(head) - 1)
        parts.append(table(_label("retained", number), caption, align, head, rows, tight=with_mean))
    return "\n".join(parts)


def all_comparisons(found: Inputs) -> str:
    """Each comparison with the teacher and its p-values, as it stands in `compact-biomed tables compare`."""
    rows: list[Row] = []
    for column in sorted({column for _, column in found.compared}):
        rows.append(text(column.title))
        models = [model for model, of in found.compared if of == column]
        rows += [_p_values(found.compared[name, column]) for names in groups_of(models).values() for name in names]
    command = code(f"compact-biomed tables compare --records results/reproduction/evaluation.jsonl --teacher {TEACHER}")
    caption = (
        f"Every comparison with {TEACHER}: ratio with its 95\\,\\% interval; two-sided $p$ over examples and over "
        f"seeds, in brackets after Holm's correction for all comparisons of the same scale. Made by {command}."
    )
    head = ("model", "retained, \\%", "$p$, examples", "$p$, $t$-test", "$p$, Wilcoxon")
    return long_table("comparisons", caption, "lrrrr", head, rows)


def sources(found: Inputs) -> str:
    """The files of the scores, and what makes them."""
    files = ", ".join(code(str(file)) for file in dict.fromkeys(line.file for line in found.scores))
    return f"Records: {files}, made by {code(REPRODUCE)}."


def _portions(found: Inputs, on_pieces: bool) -> list[list[Column]]:
    """Columns for one table each; those that only some of the models have come last, apart."""
    models = found.table.models
    columns = [column for column in found.table.columns if column.on_pieces == on_pieces]
    whole = [column for column in columns if all((model, column) in found.table.cells for model in models)]
    parts = [column for column in columns if column not in whole]
    return [some[k : k + _MOST_COLUMNS] for some in (whole, parts) for k in range(0, len(some), _MOST_COLUMNS)]


def _rows(
    found: Inputs, columns: Sequence[Column], cells: Callable[[str], list[str]], leave_out: Sequence[str] = ()
) -> list[Row]:
    """One row a model that has any of the columns."""
    measured = [name for name in found.table.models if any((name, column) in found.table.cells for column in columns)]
    rows: list[Row] = []
    for title, names in groups_of([name for name in measured if name not in leave_out]).items():
        rows += [title, *([text(name), *cells(name)] for name in names)]
    return rows


def _head(found: Inputs, column: Column) -> str:
    metric = column.metric.removeprefix("piece_")
    n = _usual_seeds(found, column)
    return f"\\shortstack[r]{{{text(column.task)}\\\\{_METRICS.get(metric, metric)}, {n} seed{'s' * (n > 1)}}}"


def _usual_seeds(found: Inputs, column: Column) -> int:
    return max(cell.summary.n for (_, of), cell in found.table.cells.items() if of == column)


def _size(found: Inputs, model: str) -> str:
    size = encoder_parameters(found.scores).get(model)
    return f"{size / 1e6:.1f}" if size else _NONE


def _score(found: Inputs, model: str, column: Column) -> str:
    cell = found.table.cells.get((model, column))
    if cell is None:
        return _NONE
    deviation = f"\\,$\\pm$\\,{cell.summary.deviation:.2f}" if cell.summary.deviation is not None else ""
    seeds = f" ({cell.summary.n})" if cell.summary.n != _usual_seeds(found, column) else ""
    return f"{cell.summary.mean:.2f}{deviation}{seeds}{'$^*$' if cell.marked else ''}"


def _with_interval(cell: Cell | None) -> str:
    if cell is None:
        return _NONE
    bounds = f" [{cell.interval.low:.1f}, {cell.interval.high:.1f}]" if cell.interval else ""
    return f"{cell.summary.mean:.1f}{bounds}"


def _how(found: Inputs, columns: Sequence[Column]) -> str:
    """By which protocol the columns were made, once for those made alike."""
    alike: dict[str, list[str]] = {}
    for column in columns:
        line = next(cell.lines[0] for (_, of), cell in found.table.cells.items() if of == column)
        alike.setdefault(protocol_of(line.record), []).append(column.task)
    said = [f"{', '.join(tasks)}: {how}" if len(alike) > 1 else how.capitalize() for how, tasks in alike.items()]
    return text("; ".join(said)) + "."


def _of_mean(found: Inputs) -> str:
    tasks = ", ".join(text(column.task) for column in found.shared)
    return f" Mean: over {tasks}, which every model has with at least {FEWEST_SEEDS} seeds."


def _ratio(each: Comparison | None) -> str:
    if each is None or each.retained is None:
        return _NONE
    p = each.holm.get("examples")
    mark = "$^\\dagger$" if p is not None and p < SIGNIFICANCE else ""
    return _percent(each.retained, each.interval) + mark


def _mean(found: Inputs, model: str) -> str:
    each = found.ratios.get(model)
    return _percent(each.ratio.value, each.ratio) if each else _NONE


def _percent(value: float, interval: Interval | None) -> str:
    bounds = f" [{100 * interval.low:.1f}, {100 * interval.high:.1f}]" if interval else ""
    return f"{100 * value:.1f}{bounds}"


def _p_values(each: Comparison) -> list[str]:
    tests = ["n/a" if p is None else text(f"{p:.2g} ({each.holm[test]:.2g})") for test, p in each.p.items()]
    return [text(each.model), _ratio(replace(each, holm={})), *tests]


def _as_first(name: str, number: int) -> str:
    """The caption of a table that goes on."""
    return f"As Table~\\ref{{tab:{name}}}, for more tasks, by the models that were measured on them." if number else ""


def _label(name: str, number: int) -> str:
    return f"{name}-{number + 1}" if number else name


# ----------------------------------------------------------------------------------------------------
# Tables of claims, ablations and speed.


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
        f"Made by {code('compact-biomed tables claims --records results/reproduction/evaluation.jsonl')}."
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


# ----------------------------------------------------------------------------------------------------
# Tables of architectures and of trainings.


_TEACHER = "biobert"  # among architectures
_NAMES = {name.lower(): name for name in (*CONTINUAL, *DISTILLED)} | {_TEACHER: "BioBERT"}


def architectures(found: Inputs) -> str:
    """Depth, width and parameters, as published and in miniature."""
    sizes = encoder_parameters(found.scores)
    rows = []
    for key, published in PUBLISHED_PARAMETERS.items():
        name = _NAMES[key]
        mini = TEACHER if key == _TEACHER else name
        measured = f"{sizes[mini]:,}" if sizes.get(mini) else "--"
        renamed = name if mini == name else f"{name} / {mini}"
        rows.append([text(renamed), *_shape(key, "paper"), f"{published:,}", *_shape(key, "mini"), measured])
    caption = (
        "The architectures: layers $\\times$ width; attention heads, inner width of the feed-forward part; parameters "
        "of the encoder, the published ones with the pooler. Source: "
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
            rate = f"{field(line, 'hyperparameters.learning_rate'):g}" if field(line, "tokens") else "--"
            loss = (f"{before['loss']:.3f}", f"{after['loss']:.3f}", f"{100 * after['accuracy']:.1f}", kl)
            how = (f"{field(line, 'parameters'):,}", f"{field(line, 'tokens'):,}", rate)
            rows.append([text(name), *how, *loss, duration(field(line, "seconds"))])
    caption = (
        "The trainings. Held-out loss of masked-language modeling before and after (nats a masked token), accuracy on "
        "masked tokens in percent, and KL divergence from the teacher's predictions. Parameters with the vocabulary "
        f"head. Records: {code(places(found.trainings.values()))}, made by {code(REPRODUCE + ' --only pretraining')}."
    )
    head = ("model", "parameters", "tokens", "rate", "loss: start", "end", "acc.", "KL", "time")
    return table("trainings", caption, "lrrrrrrrr", head, rows)


def _shape(key: str, scale: str) -> list[str]:
    """Layers x width, and heads, inner width."""
    of = ARCHITECTURES[key][scale].options
    layers, width = of.get("num_hidden_layers", of.get("n_layers")), of.get("hidden_size", of.get("dim"))
    heads = of.get("num_attention_heads", of.get("n_heads"))
    inner = of.get("intermediate_size", of.get("hidden_dim"))
    return [f"{layers} $\\times$ {width}", f"{heads}, {inner:,}"]


# ----------------------------------------------------------------------------------------------------
# The section on compression: a sentence and a table for each kind of record.


_ABOUT = {
    "task_distillation": (
        "Task distillation",
        "The baseline is the student that was fine-tuned on the labels alone; a number of epochs marks the one that "
        "took as many steps on them as the distilled student in all.",
    ),
    "int8": ("Precision", "The baseline is the same weights in PyTorch and float32; nothing is trained in between."),
    "pruning": (
        "Pruning",
        "The baseline is the model fine-tuned a second time with nothing removed; numbers are the percentage removed.",
    ),
}


def compression(found: Inputs) -> str:
    """What there is of task distillation, int8 and pruning, on words."""
    parts = []
    for name, gains in found.gains.items():
        title, about = _ABOUT[name]
        own = [each for each in gains if not each.column.on_pieces]
        label = name.replace("_", "-")
        lines = [line for line in found.compressed if line.file.name.startswith(name)]
        caption = (
            f"{title}: scores on words, gain over the baseline in points, its 95\\,\\% interval over examples "
            "and seeds; closed: the gain over the distance from baseline to teacher; $p$ by approximate randomization "
            f"over examples, not corrected. Records: {code(places(lines))}."
        )
        head = ("task", "model", "score", "baseline", "gain", "closed, \\%", "$p$")
        rows = [_row(each) for each in own]
        said = f"\\paragraph{{{title}.}} {about} Table~\\ref{{tab:{label}}}. {_sentence(own)}\n"
        parts.append(said + table(label, caption, "llrrrrr", head, rows, place="!htb"))
    return "\n".join(parts)


def _row(each: Gap) -> list[str]:
    scores = (f"{summary.mean:.2f} ({summary.n})" for summary in each.scores[:2])
    p = "--" if each.p_examples is None else f"{each.p_examples:.2g}"
    return [text(each.column.task), text(each.model), *scores, _interval(each.gain, "{:+.2f}"), _share(each), p]


def _sentence(gains: list[Gap]) -> str:
    """Which are told from their baseline."""
    told = [each for each in gains if each.gain.low > 0 or each.gain.high < 0]
    if not told:
        return "None can be told from its baseline."
    said = [f"{text(each.model)} on {text(each.column.task)} ({_interval(each.gain, '{:+.2f}')})" for each in told]
    rest = "" if len(told) == len(gains) else " The others can not."
    return f"Told from their baseline by the interval: {'; '.join(said)}.{rest}"


def _interval(value: Interval, form: str) -> str:
    low, high = (form.format(bound) for bound in (value.low, value.high))
    return f"${form.format(value.value)}$ [${low}$, ${high}$]"


def _share(each: Gap) -> str:
    if each.closed is None:
        return "--"
    low, high = (
        f"${100 * bound:.0f}$" if np.isfinite(bound) else "unbounded" for bound in (each.closed.low, each.closed.high)
    )
    return f"${100 * each.closed.value:.0f}$ [{low}, {high}]"


# ----------------------------------------------------------------------------------------------------
# The table of benchmarks, and what the picture of size against score shows.


_KINDS = {"ner": "entities", "relation": "relations", "qa": "questions"}


def benchmarks(found: Inputs) -> str:
    """Which sets were used, on how many examples, by how many models."""
    tasks = dict.fromkeys(column.task for column in found.table.columns)
    caption = "The benchmarks. Trained on: examples used, of those that the training set has. " + sources(found)
    head = ("set", "kind", "split", "trained on", "test", "models", "runs")
    return table("benchmarks", caption, "lllrrrr", head, [_benchmark_row(found, task) for task in tasks])


def for_picture(found: Inputs) -> tuple[Table, list[str]]:
    """The table of family, teacher and general models on words, and the tasks that all of the family have."""
    family = [model for model in found.table.models if model in (TEACHER, *DISTILLED, *CONTINUAL)]
    general = groups_of(found.table.models).get("General", [])
    columns = [
        column
        for column in found.table.columns
        if not column.on_pieces and all((model, column) in found.table.cells for model in family)
    ]
    return replace(found.table, models=(*family, *general), columns=tuple(columns)), [each.task for each in columns]


def _benchmark_row(found: Inputs, task: str) -> list[str]:
    lines = [line for line in found.scores if line.task == task]
    first = lines[0]
    in_train = field(first, "task.examples.train")
    used = min(field(first, "protocol.overrides").get("max_train_examples", in_train), in_train)
    folds = ", ".join(map(str, sorted({line.fold for line in lines} - {None})))
    split = f"fold {folds} of {field(first, 'task.folds')}" if folds else "fixed"
    kind = field(first, "task.kind")
    sizes = (f"{used:,} of {in_train:,}", f"{field(first, 'task.examples.test'):,}")
    counts = (len({line.model for line in lines}), len(lines))
    return [text(str(cell)) for cell in (task, _KINDS.get(kind, kind), split, *sizes, *counts)]
