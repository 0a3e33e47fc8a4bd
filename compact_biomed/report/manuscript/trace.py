"""The appendix that leads from each number to its records and the command that makes them."""

from collections.abc import Sequence

from compact_biomed.report.manuscript.inputs import REPRODUCE, Inputs, field
from compact_biomed.report.manuscript.kinds_of_models import groups_of
from compact_biomed.report.manuscript.latex import RAGGED, Row, code, long_table, text
from compact_biomed.report.manuscript.numbers import Number, places


def values(numbers: Sequence[Number]) -> str:
    """What `\\val{NAME}` shows; each leads to its row of the appendix."""
    return "".join(f"\\setval{{{each.name}}}{{{text(each.text)}}}\n" for each in numbers)


def of_numbers(numbers: Sequence[Number]) -> str:
    """One row a number of the text."""
    rows: list[Row] = []
    for command in dict.fromkeys(each.command for each in numbers):
        rows.append(f"made by {code(command)}")
        for each in numbers:
            if each.command == command:
                target = f"\\hypertarget{{num.{each.name}}}{{{text(each.text)}}}"
                rows.append([target, f"{text(each.means)} {{\\scriptsize({code(each.name)})}}", code(each.source)])
    caption = "The numbers of the text: value, meaning (its name in the sources of the manuscript), file and lines."
    align = RAGGED.format("2.6cm") + RAGGED.format("6.8cm") + RAGGED.format("5.4cm")
    return long_table("numbers", caption, align, ("number", "what it is", "from"), rows)


def of_scores(found: Inputs) -> str:
    """One row a model: the lines of its records, task by task."""
    rows: list[Row] = []
    for title, names in groups_of(sorted({line.model for line in found.scores})).items():
        rows.append(title)
        rows += [[text(name), _lines_by_task(found, name), _training(found, name)] for name in names]
    files = ", ".join(code(str(file)) for file in dict.fromkeys(line.file for line in found.scores))
    trace = code('compact-biomed tables --records results/evaluation.jsonl --trace "MODEL,TASK"')
    caption = (
        f"The scores and trainings: lines of {files}, and of the training's record. {trace} prints the records behind "
        f"a cell, each with its command; {code(REPRODUCE + ' --only MODEL,TASK')} makes them."
    )
    align = RAGGED.format("3.6cm") + RAGGED.format("6.8cm") + RAGGED.format("4.4cm")
    return long_table("runs", caption, align, ("model", "scores", "training"), rows)


def of_code(found: Inputs) -> str:
    """Revisions and versions that the records name."""
    lines = [*found.scores, *found.trainings.values()]
    revisions = sorted({field(line, "from.revision")[:12] for line in lines})
    clean = all(field(line, "from.clean") for line in lines)
    versions = sorted({f"{name} {v}" for line in lines for name, v in field(line, "from.versions").items()})
    dates = sorted(field(line, "from.date")[:10] for line in lines)
    state = "without changes beside it" if clean else "some with changes beside it"
    when = f"on {dates[0]}" if dates[0] == dates[-1] else f"from {dates[0]} to {dates[-1]}"
    return (
        f"The records were made {when} by revision{'s' * (len(revisions) > 1)} "
        f"{code(', '.join(revisions))} of the code, {state}, with {text(', '.join(versions))}.\n"
    )


def _lines_by_task(found: Inputs, model: str) -> str:
    mine = [line for line in found.scores if line.model == model]
    tasks = sorted({line.task for line in mine})
    numbers = {task: places(line for line in mine if line.task == task).rpartition(":")[2] for task in tasks}
    return "; ".join(f"{text(task)} {lines}" for task, lines in numbers.items()).replace(",", ",\\allowbreak{}")


def _training(found: Inputs, model: str) -> str:
    if line := found.trainings.get(model):
        return code(places([line]))
    start = next(line.record["model"]["start"] for line in found.scores if line.model == model)
    return f"none: {code(start)}"
