"""The manuscript's tables of claims, ablations, speed, architectures, trainings, benchmarks and compression."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from compact_biomed.models.architectures import ARCHITECTURES, PUBLISHED_PARAMETERS, encoder_parameters
from compact_biomed.report.claims import UNDECIDED, UNTESTED, claims_tables
from compact_biomed.report.family import CONTINUAL, DISTILLED, TEACHER
from compact_biomed.report.gap import Gap, gap_table
from compact_biomed.report.latex import latex_cell, latex_code, latex_float, latex_long, latex_text
from compact_biomed.report.manuscript.inputs import BENCH_STEP, REPRODUCE, STUDY, Inputs, field, line_references
from compact_biomed.report.manuscript.score_tables import NONE, by_kind, dashes, sources, without_unit
from compact_biomed.report.speed import step_table
from compact_biomed.report.table import Cell, Row, Table, TableColumn, gain, number, words
from compact_biomed.report.trainings import Group, ablation_table, pretraining_table


def claims(inputs: Inputs) -> str:
    """Return every claim with what was measured, and the verdict."""
    caption = (
        "The claims, judged by the records: the model's score over the reference's in percent, averaged over the tasks "
        "that both have, with its 95\\,\\% bootstrap interval over examples and seeds; $p$: that the ratio is the "
        "threshold, after Holm's correction within the claim. "
        f"Made by {latex_code(f'compact-biomed tables claims --records {STUDY}/evaluation.jsonl')}."
    )
    return latex_long(claims_in_one(claims_tables(inputs.words, inputs.pieces), "claims"), caption)


def claims_in_one(tables: Iterable[Table], name: str) -> Table:
    """Return tables of claims as one: a sentence per claim, one row per contrast."""
    lines = []
    for table in tables:
        for number_of_row, row in enumerate(table.rows):
            lines += _claim(row, table.title if number_of_row == 0 else "")
    titles = ("comparison", "ratio, %", "tasks and seeds", "p")
    heads = tuple(TableColumn(title, title, left=title == "comparison") for title in titles)
    return Table(name, heads, tuple(lines))


def _claim(row: Row, title: str) -> list[Row]:
    """Return the claim and its verdict over all columns, then one row per contrast."""
    claim, measured, p_values, verdict, why = row.cells
    reason = f" ({why.text})" if verdict.text in (UNDECIDED, UNTESTED) else ""
    lines = [Row((words(f"{claim.text}: "), verdict, words(reason), words("")), section=title, spans=True)]
    for one, p in zip(measured.stacked, p_values.stacked, strict=True):
        ratio = replace(one, label="", text="", unit="")
        lines.append(Row((words(one.label), ratio, words(one.text.removeprefix("; ")), p)))
    return lines


def ablations(inputs: Inputs) -> str:
    """Return a table for each ablation, with a paragraph that says what differs."""
    parts = []
    for name in dict.fromkeys(group.ablation for group in inputs.ablations):
        groups = [group for group in inputs.ablations if group.ablation == name]
        lines = [line for group in groups for line in group.lines]
        question = latex_text(groups[0].question)
        caption = (
            f"{question} Mean $\\pm$ standard deviation over seeds (number of seeds), and the "
            "difference from the first variant within seeds with its 95\\,\\% interval (paired $t$). Records: "
            f"{latex_code(line_references(lines))}, made by {latex_code(f'python recipes/ablations/{name}.py')}."
        )
        label = f"ablation-{name.replace('_', '-')}"
        parts.append(f"{question} Table~\\ref{{tab:{label}}}.\n{_differences(groups)}\n")
        parts.append(latex_float(_long_ablation(groups, label), caption, place="!htb"))
    return "\n".join(parts)


def _long_ablation(groups: Sequence[Group], label: str) -> Table:
    """Return one row per measure and variant: the columns of the wide tables do not fit on a page."""
    rows = []
    for group in groups:
        wide = ablation_table(group)
        title = f"`{group.recipe}`, preset {group.preset}, {group.tokens:,} tokens per run"
        for column, head in enumerate(wide.heads[1:], 1):
            for row in (row for row in wide.rows if row.cells[column].value is not None):
                cell = row.cells[column]
                difference = replace(gain(cell.difference), form="+.3f") if cell.difference else words(NONE)
                value = replace(cell, difference=None)
                rows.append(Row((row.cells[0], words(head.title), value, difference), section=title))
    titles = ("variant", "measure", "value", "difference")
    return Table(label, tuple(TableColumn(each, each, left=each in titles[:2]) for each in titles), tuple(rows))


def _differences(groups: Sequence[Group]) -> str:
    """List in words the variants that end with another loss than the reference."""
    sentences = []
    for group in groups:
        for (name, measure), variant in group.variants.items():
            d = variant.difference
            if measure != "loss" or d is None:
                continue
            where = "higher" if d.low > 0 else "lower" if d.high < 0 else None
            result = f"ends {abs(d.value):.3f} nats {where} than {latex_text(group.reference)}"
            if where is None:
                result = f"shows no clear difference from {latex_text(group.reference)} (${d.value:+.3f}$ nats)"
            interval = f"95\\,\\%: ${d.low:+.3f}$ to ${d.high:+.3f}$"
            sentences.append(f"{latex_code(group.recipe)}: {latex_text(name)} {result} ({interval})")
    return f"Held-out loss: {'; '.join(sentences)}." if sentences else "No variant has two seeds to compare."


def speed(inputs: Inputs) -> str:
    """Compare the training step with the published one, and with that of tuned transformers where it was measured."""
    lines = inputs.steps.values()
    table = step_table(lines).map(lambda cell: replace(cell, unit="", code=False))
    table = table.titled(recipe="recipe", memory="memory", loss="loss differs by")
    devices = ", ".join(sorted({field(line, "device") for line in lines}))
    tuned = any(head.key == "tuned" for head in table.heads)
    compared = "of tuned transformers and ours, the ratios" if tuned else "and ours, their ratio"
    caption = (
        f"The training step at the published size on {latex_text(devices)}: tokens per second of the published "
        f"implementation {compared}, ratio of peak memory, and relative difference of the loss (fp32 / as "
        f"run). Records: {latex_code(line_references(lines))}, made by {latex_code(BENCH_STEP + ' --recipe NAME')}."
    )
    return latex_float(replace(table, name="speed"), caption, place="!htb")


# ---- Architectures, trainings and benchmarks


_TEACHER = "biobert"  # among architectures
_VOCABULARY = 30_522  # of all miniatures: that of MiniLM
_NAMES = {name.lower(): name for name in (*CONTINUAL, *DISTILLED)} | {_TEACHER: "BioBERT"}
_KINDS = {"ner": "entities", "relation": "relations", "qa": "questions"}


def architectures(inputs: Inputs) -> str:
    """Return depth, width and parameters, as published and in miniature."""
    rows = []
    for key, published in PUBLISHED_PARAMETERS.items():
        mini = TEACHER if key == _TEACHER else _NAMES[key]
        name = mini if mini == _NAMES[key] else f"{_NAMES[key]} / {mini}"
        count = inputs.grid.encoder_parameters.get(mini)
        shape = _shape(key, "mini") if _is_of_size(key, count) else (words(NONE), words(NONE))
        rows.append(Row((words(name), *_shape(key, "paper"), number(published, ",d"), *shape, number(count, ",d"))))
    caption = (
        "The architectures: layers $\\times$ width; attention heads, inner width of the feed-forward part; parameters "
        "of the encoder, the published ones with the pooler. Source: "
        f"{latex_code('compact_biomed/models/architectures.py')}; parameters in miniature as recorded with the scores. "
        "A dash: the recorded model has another number of parameters than the miniature of this code."
    )
    heads = [TableColumn("model", "model", left=True)]
    for scale in ("published", "miniature"):
        shape = [TableColumn(scale, scale, left=True), TableColumn(f"{scale} heads", "heads, inner")]
        heads += [*shape, TableColumn(f"{scale} parameters", "parameters")]
    return latex_float(dashes(Table("architectures", tuple(heads), tuple(rows))), caption)


def _is_of_size(key: str, count: int | None) -> bool:
    """Return whether a miniature of the code has a recorded number of parameters, which is without the pooler."""
    config = ARCHITECTURES[key]["mini"].config(_VOCABULARY)
    width, of_code = config.hidden_size, encoder_parameters(config)
    return count is not None and 0 <= of_code - count <= width * (width + 1)


def _shape(key: str, scale: str) -> tuple[Cell, Cell]:
    """Return layers x width, heads and inner width as text."""
    of = ARCHITECTURES[key][scale].options
    layers, width = of.get("num_hidden_layers", of.get("n_layers")), of.get("hidden_size", of.get("dim"))
    heads = of.get("num_attention_heads", of.get("n_heads"))
    inner = of.get("intermediate_size", of.get("hidden_dim"))
    return words(f"{layers} \N{MULTIPLICATION SIGN} {width}"), words(f"{heads}, {inner:,}")


def trainings(inputs: Inputs) -> str:
    """Return what was pretrained, from how many tokens, and how good a language model it became."""
    keys = ("model", "parameters", "tokens", "rate", "before", "after", "accuracy", "kl", "time")
    lines = inputs.trainings.values()
    table = pretraining_table(lines).select(*keys)
    table = table.map(without_unit, "accuracy").titled(rate="rate", before="loss: start", accuracy="acc.", kl="KL")
    caption = (
        "The trainings. Held-out loss of masked-language modeling before and after (nats per masked token), accuracy "
        "on masked tokens in percent, and KL divergence from the teacher's predictions. Parameters with the vocabulary "
        f"head. Records: {latex_code(line_references(lines))}, made by {latex_code(REPRODUCE + ' --only pretraining')}."
    )
    return latex_float(replace(by_kind(table), name="trainings"), caption)


def benchmarks(inputs: Inputs) -> str:
    """Return which sets were used, on how many examples, by how many models."""
    tasks = dict.fromkeys(column.task for column in inputs.grid.columns)
    titles = ("set", "kind", "split", "trained on", "test", "models", "runs")
    heads = tuple(TableColumn(title, title, left=title in titles[:3]) for title in titles)
    rows = tuple(_benchmark_row(inputs, task) for task in tasks)
    caption = "The benchmarks. Trained on: examples used, of those that the training set has. " + sources(inputs)
    return latex_float(Table("benchmarks", heads, rows), caption)


def _benchmark_row(inputs: Inputs, task: str) -> Row:
    lines = [line for line in inputs.scores if line.task == task]
    first = lines[0]
    in_train = field(first, "task.examples.train")
    used = min(field(first, "protocol.overrides").get("max_train_examples", in_train), in_train)
    folds = ", ".join(map(str, sorted({line.fold for line in lines} - {None})))
    split = f"fold {folds} of {field(first, 'task.folds')}" if folds else "fixed"
    kind = field(first, "task.kind")
    texts = (task, _KINDS.get(kind, kind), split, f"{used:,} of {in_train:,}")
    counts = (field(first, "task.examples.test"), len({line.model for line in lines}), len(lines))
    return Row((*map(words, texts), *(number(count, ",d") for count in counts)))


# ---- Compression: a paragraph and a table for each kind of record


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


def compression(inputs: Inputs) -> str:
    """Return the results of task distillation, int8 and pruning, on words."""
    parts = []
    for name, gains in inputs.gains.items():
        title, about = _ABOUT[name]
        own = [each for each in gains if not each.column.on_pieces]
        lines = [line for line in inputs.compressed if line.file.name.startswith(name)]
        caption = (
            f"{title}: scores on words, gain over the baseline in points, its 95\\,\\% interval over examples "
            "and seeds; closed: the gain over the distance from baseline to teacher; $p$ by approximate randomization "
            f"over examples, not corrected. Records: {latex_code(line_references(lines))}."
        )
        table = _gap_table(own, name.replace("_", "-"))
        paragraph = f"\\paragraph{{{title}.}} {about} Table~\\ref{{tab:{table.name}}}. {_gains_in_words(own)}\n"
        parts.append(paragraph + latex_float(table, caption, place="!htb"))
    return "\n".join(parts)


def _gap_table(gains: Sequence[Gap], name: str) -> Table:
    table = gap_table(gains)
    if not any(head.key == "closed" for head in table.heads):
        table = table.add(TableColumn("closed", "closed"), lambda _: words(NONE))
    table = table.select("task", "model", "score", "baseline", "gain", "closed", "p_examples")
    table = table.map(lambda cell: replace(cell, deviation=None), "score", "baseline")
    table = table.map(lambda cell: words(NONE) if cell.value is None else without_unit(cell), "closed")
    return dashes(replace(table.titled(closed="closed, %", p_examples="p"), name=name))


def _gains_in_words(gains: Sequence[Gap]) -> str:
    """List in words the models that differ from their baseline."""
    differing = [each for each in gains if each.gain.low > 0 or each.gain.high < 0]
    if not differing:
        return "The interval includes zero for all of them."
    names = [
        f"{latex_text(each.model)} on {latex_text(each.column.task)} ({latex_cell(gain(each.gain))})"
        for each in differing
    ]
    rest = "" if len(differing) == len(gains) else " For the others it does not."
    return f"The interval excludes zero for {'; '.join(names)}.{rest}"
