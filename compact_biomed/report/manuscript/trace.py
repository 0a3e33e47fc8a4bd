"""The appendix that leads from each number to its records and the command that makes them."""

from collections.abc import Sequence

from compact_biomed.report.manuscript.inputs import REPRODUCE, Inputs, field, groups_of
from compact_biomed.report.manuscript.latex import Row, code, long_table, text
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
    align = "p{3.4cm}p{6.6cm}p{5.0cm}"
    return long_table("numbers", caption, align, ("number", "what it is", "from"), rows)


def of_scores(found: Inputs) -> str:
    """One row a model: the lines of its records, task by task."""
    rows: list[Row] = []
    for title, names in groups_of(sorted({line.model for line in found.scores})).items():
        rows.append(title)
        for name in names:
            mine = [line for line in found.scores if line.model == name]
            by_task = {task: [line for line in mine if line.task == task] for task in sorted({line.task for line in mine})}
            lines = "; ".join(f"{text(task)} {places(of).rpartition(':')[2]}" for task, of in by_task.items())
            rows.append([text(name), lines.replace(",", ",\\allowbreak{}"), _training(found, name)])
    files = ", ".join(code(str(file)) for file in dict.fromkeys(line.file for line in found.scores))
    trace = code('compact-biomed tables --records results/evaluation.jsonl --trace "MODEL,TASK"')
    caption = (
        f"The scores and trainings: lines of {files}, and of the training's record. {trace} prints the records behind a "
        f"cell, each with its command; {code(REPRODUCE + ' --only MODEL,TASK')} makes them."
    )
    return long_table("runs", caption, "p{3.4cm}p{7.8cm}p{3.8cm}", ("model", "scores", "training"), rows)


def of_code(found: Inputs) -> str:
    """Revisions and versions that the records name."""
    lines = [*found.scores, *found.trainings.values()]
    revisions = sorted({field(line, "from.revision")[:12] for line in lines})
    clean = all(field(line, "from.clean") for line in lines)
    versions = sorted({f"{name} {v}" for line in lines for name, v in field(line, "from.versions").items()})
    dates = sorted(field(line, "from.date")[:10] for line in lines)
    state = "without changes beside it" if clean else "some with changes beside it"
    return (
        f"The records were made from {dates[0]} to {dates[-1]} by revision{'s' * (len(revisions) > 1)} "
        f"{code(', '.join(revisions))} of the code, {state}, with {text(', '.join(versions))}.\n"
    )


def _training(found: Inputs, model: str) -> str:
    line = found.trainings.get(model)
    return code(places([line])) if line else "none: taken as it is"
