"""The manuscript's tables: those of the other modules with fewer columns, in sections and with captions in LaTeX."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from compact_biomed.console import counted
from compact_biomed.models.architectures import ARCHITECTURES, PUBLISHED_PARAMETERS, encoder_parameters
from compact_biomed.report.claims import SIGNIFICANCE, UNDECIDED, UNTESTED, claims_tables
from compact_biomed.report.compare import TESTS, Comparison, comparison_table, retention_table
from compact_biomed.report.family import CONTINUAL, DISTILLED, FAMILY, TEACHER, groups_of
from compact_biomed.report.gap import Gap, gap_table
from compact_biomed.report.grid import ScoreGrid
from compact_biomed.report.latex import latex_cell, latex_code, latex_float, latex_long, latex_text
from compact_biomed.report.manuscript.inputs import BENCH_STEP, REPRODUCE, STUDY, Inputs, field, line_references
from compact_biomed.report.measured import Column
from compact_biomed.report.protocols import protocol_of
from compact_biomed.report.scores import scores_table
from compact_biomed.report.speed import step_table
from compact_biomed.report.statistics import FEWEST_SEEDS
from compact_biomed.report.table import MISSING, UNKNOWN, Cell, Row, Table, TableColumn, gain, number, share, words
from compact_biomed.report.trainings import Group, ablation_table, pretraining_table

_MOST_COLUMNS = 4
_NONE = "--"
_METRICS = {"f1": "F1", "mrr": "MRR"}
_SCALES = {False: "words", True: "word-pieces"}


# ---- Scores


def scores(inputs: Inputs) -> str:
    """Return every model on every task: on words and other scales, then on word-pieces."""
    caption = (
        "Scores in percent, entities on {scale}: mean $\\pm$ standard deviation over seeds; in brackets the number of "
        f"seeds where it is not the column's. M: parameters of the encoder in millions. $^*$ fewer than {FEWEST_SEEDS} "
        "seeds, or not all folds."
    )
    parts = []
    for on_pieces, label in ((False, "scores"), (True, "pieces")):
        for part, columns in enumerate(_portions(inputs, on_pieces)):
            table = _of_columns(inputs, columns, "parameters")
            table = table.map(without_unit, "parameters", title="M")
            for column in columns:
                usual = _usual_seeds(inputs, column)
                table = table.map(_without_n(usual), column.title, detail=_metric_and_seeds(column, usual))
            first = caption.format(scale=_SCALES[on_pieces])
            text = f"{_as_first(label, part) or first} {_protocols(inputs, columns)} {sources(inputs)}"
            parts.append(latex_float(replace(table, name=_label(label, part)), text))
    return "\n".join(parts)


def intervals(inputs: Inputs) -> str:
    """Return the interval of every score over test examples."""
    caption = (
        "Mean scores, entities on {scale}, with their 95\\,\\% intervals over test examples (BCa bootstrap, the seeds "
        "fixed)."
    )
    parts = []
    for on_pieces, label in ((False, "intervals"), (True, "intervals-pieces")):
        for part, columns in enumerate(_portions(inputs, on_pieces)):
            table = _of_columns(inputs, columns)
            for column in columns:
                detail = _metric_and_seeds(column, _usual_seeds(inputs, column))
                table = table.map(_mean_alone, column.title, detail=detail, bounds=True)
            text = _as_first(label, part) or f"{caption.format(scale=_SCALES[on_pieces])} {sources(inputs)}"
            parts.append(latex_float(replace(table, name=_label(label, part)), text, place="!ht"))
    return "\n".join(parts)


def retained(inputs: Inputs) -> str:
    """Return the ratios to the teacher's scores on words, and their mean over the tasks that every model has."""
    parts = []
    for part, columns in enumerate(_portions(inputs, on_pieces=False)):
        table = retention_table(list(inputs.compared.values()), columns, inputs.grid, TEACHER, mark=_dagger)
        for column in columns:
            detail = _metric_and_seeds(column, _usual_seeds(inputs, column))
            table = table.map(without_unit, column.title, detail=detail, bounds=True)
        with_mean = bool(inputs.ratios) and part == 0
        if with_mean:
            table = table.add(TableColumn("mean", "mean"), lambda model: _mean_ratio(inputs, model))
        caption = _as_first("retained", part) or (
            f"What is retained of {TEACHER}'s score, in percent, with its 95\\,\\% bootstrap interval over test "
            "examples and seeds. $^\\dagger$ the two differ over examples (approximate randomization, "
            f"$p < {SIGNIFICANCE}$ after Holm's correction).{_of_mean(inputs) if with_mean else ''} {sources(inputs)}"
        )
        table = _by_kind(replace(table, name=_label("retained", part)))
        parts.append(latex_float(table, caption, tight=with_mean))
    return "\n".join(parts)


def all_comparisons(inputs: Inputs) -> str:
    """Return each comparison with the teacher and its p-values, as `compact-biomed tables compare` shows it."""
    columns = sorted({column for _, column in inputs.compared})
    models = [name for names in groups_of({model for model, _ in inputs.compared}).values() for name in names]
    ordered = [
        inputs.compared[name, column] for column in columns for name in models if (name, column) in inputs.compared
    ]
    table = comparison_table(ordered, TEACHER).select("model", "retained", *TESTS)
    table = table.map(without_unit, "retained", title="retained, %")
    rows = [replace(row, section=each.column.title) for row, each in zip(table.rows, ordered, strict=True)]
    command = latex_code(f"compact-biomed tables compare --records {STUDY}/evaluation.jsonl --teacher {TEACHER}")
    caption = (
        f"Every comparison with {TEACHER}: ratio with its 95\\,\\% interval; two-sided $p$ over examples and over "
        f"seeds, in brackets after Holm's correction for all comparisons of the same scale. Made by {command}."
    )
    return latex_long(replace(table, name="comparisons", rows=tuple(rows)), caption)


def sources(inputs: Inputs) -> str:
    """Return the files of the scores, and the command that makes them."""
    files = ", ".join(latex_code(str(file)) for file in dict.fromkeys(line.file for line in inputs.scores))
    return f"Records: {files}, made by {latex_code(REPRODUCE)}."


def for_picture(inputs: Inputs) -> tuple[ScoreGrid, list[str]]:
    """Return the scores of family, teacher and general models on words, and the tasks that all of the family have."""
    grid = inputs.grid
    family = [model for model in grid.models if model in FAMILY]
    general = groups_of(grid.models).get("General", [])
    columns = [
        column
        for column in grid.columns
        if not column.on_pieces and all((model, column) in grid.cells for model in family)
    ]
    return replace(grid, models=(*family, *general), columns=tuple(columns)), [each.task for each in columns]


def _portions(inputs: Inputs, on_pieces: bool) -> list[list[Column]]:
    """Return the columns of each table; columns that only some of the models have are last, in tables of their own."""
    grid = inputs.grid
    columns = [column for column in grid.columns if column.on_pieces == on_pieces]
    complete = [column for column in columns if all((model, column) in grid.cells for model in grid.models)]
    parts = [column for column in columns if column not in complete]
    return [some[k : k + _MOST_COLUMNS] for some in (complete, parts) for k in range(0, len(some), _MOST_COLUMNS)]


def _of_columns(inputs: Inputs, columns: Sequence[Column], *before: str) -> Table:
    """Return the scores on some columns, of the models that have any of them, by kind of model."""
    table = scores_table(inputs.grid).select("model", *before, *(column.title for column in columns))
    rows = [row for row in table.rows if any(cell.value is not None for cell in row.cells[1 + len(before) :])]
    return _by_kind(replace(table, rows=tuple(rows)))


def _by_kind(table: Table) -> Table:
    """Group the rows of a table by kind of model; missing values are dashes."""
    return _dashes(table.in_sections(groups_of([row.cells[0].text for row in table.rows])))


def _dashes(table: Table) -> Table:
    missing = (MISSING, UNKNOWN, "")
    return table.map(lambda cell: words(_NONE) if cell.value is None and cell.text in missing else cell)


def _metric_and_seeds(column: Column, n: int) -> str:
    metric = column.metric.removeprefix("piece_")
    return f"{_METRICS.get(metric, metric)}, {counted(n, 'seed')}"


def _usual_seeds(inputs: Inputs, column: Column) -> int:
    return max(score.summary.n for (_, of), score in inputs.grid.cells.items() if of == column)


def _without_n(usual: int) -> Callable[[Cell], Cell]:
    return lambda cell: replace(cell, n=None) if cell.n == usual else cell


def without_unit(cell: Cell) -> Cell:
    """Return a cell whose unit is in the heading."""
    return replace(cell, unit="")


def _mean_alone(cell: Cell) -> Cell:
    return replace(cell, form=".1f", deviation=None, n=None, mark="")


def _dagger(each: Comparison) -> str:
    p = each.holm.get("examples")
    return "†" if p is not None and p < SIGNIFICANCE else ""


def _mean_ratio(inputs: Inputs, model: str) -> Cell:
    each = inputs.ratios.get(model)
    return without_unit(share(each.ratio.value, each.ratio)) if each else words(_NONE)


def _protocols(inputs: Inputs, columns: Sequence[Column]) -> str:
    """Return the protocol of the columns, one sentence for all that share it."""
    tasks: dict[str, list[str]] = {}
    for column in columns:
        line = next(score.lines[0] for (_, of), score in inputs.grid.cells.items() if of == column)
        tasks.setdefault(protocol_of(line.record), []).append(column.task)
    if len(tasks) == 1:
        return f"{latex_text(next(iter(tasks)).capitalize())}."
    return latex_text("; ".join(f"{', '.join(names)}: {protocol}" for protocol, names in tasks.items())) + "."


def _of_mean(inputs: Inputs) -> str:
    tasks = ", ".join(latex_text(column.task) for column in inputs.common)
    return f" Mean: over {tasks}, which every model has with at least {FEWEST_SEEDS} seeds."


def _as_first(name: str, part: int) -> str:
    """Return the caption of a table that continues another."""
    return f"As Table~\\ref{{tab:{name}}}, for more tasks, by the models that were measured on them." if part else ""


def _label(name: str, part: int) -> str:
    return f"{name}-{part + 1}" if part else name


# ---- Claims, ablations and speed


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
                difference = replace(gain(cell.difference), form="+.3f") if cell.difference else words(_NONE)
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
        shape = _shape(key, "mini") if _is_of_size(key, count) else (words(_NONE), words(_NONE))
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
    return latex_float(_dashes(Table("architectures", tuple(heads), tuple(rows))), caption)


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
    return latex_float(replace(_by_kind(table), name="trainings"), caption)


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
        table = table.add(TableColumn("closed", "closed"), lambda _: words(_NONE))
    table = table.select("task", "model", "score", "baseline", "gain", "closed", "p_examples")
    table = table.map(lambda cell: replace(cell, deviation=None), "score", "baseline")
    table = table.map(lambda cell: words(_NONE) if cell.value is None else without_unit(cell), "closed")
    return _dashes(replace(table.titled(closed="closed, %", p_examples="p"), name=name))


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
