"""What the flags name, at hand and fitting together, before anything is trained."""

import argparse

from compact_biomed.console import say
from compact_biomed.errors import UserError
from compact_biomed.evaluation import protocols, records, tasks
from compact_biomed.evaluation.examples import Splits
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.protocols import Overrides
from compact_biomed.evaluation.readers import read
from compact_biomed.evaluation.runs import model_name
from compact_biomed.evaluation.tasks import Task
from compact_biomed.models.start import local_folder
from compact_biomed.task_distillation.command import REST, TEMPERATURE
from compact_biomed.task_distillation.method import FromTeacher
from compact_biomed.task_distillation.soft_labels import check_tokenizers
from compact_biomed.task_distillation.student import cut_out
from compact_biomed.task_distillation.teacher import Teacher
from compact_biomed.task_distillation.text import Unlabelled, clear_of, read_texts
from compact_biomed.training.settings import Speed


def prepared(
    options: argparse.Namespace, task: Task, overrides: Overrides, speed: Speed
) -> tuple[dict[str, str], FromTeacher]:
    """The student, name -> start, and how it learns.

    Args:
        options: of `command.parser_of`.

    Raises:
        UserError: teacher, student, task and text that do not go together.
    """
    splits = read(task, tasks.find(task, options.data), options.fold)
    teacher = Teacher(options.teacher, speed)
    teacher.check(task, KINDS[task.kind].labels(splits), level=options.protocol, fold=options.fold)
    text = _unlabelled(options, task, splits, overrides)
    student = _student(options, teacher)
    (start,) = student.values()
    check_tokenizers(task.kind, options.protocol, teacher, records.model_sha256(local_folder(start)))
    temperature = options.temperature or (1.0 if task.kind == "regression" else TEMPERATURE)
    how = {"temperature": temperature, "soft_weight": options.soft_weight, "protocol": options.protocol}
    return student, FromTeacher(teacher, text, **how)


def _student(options: argparse.Namespace, teacher: Teacher) -> dict[str, str]:
    if not options.student.isdecimal():
        return {options.name or model_name(options.student): options.student}
    folder = cut_out(teacher, int(options.student))
    say(f"The student before it learns: {folder}")
    return {options.name or f"{teacher.name}-{options.student}-layers": str(folder)}


def _unlabelled(options: argparse.Namespace, task: Task, splits: Splits, overrides: Overrides) -> Unlabelled:
    needed = {"pairs": bool(getattr(splits.train[0], "pair", None)), "questions": task.kind == "qa"}
    texts = [text for path in options.unlabelled if path != REST for text in read_texts(path, **needed)]
    clear = clear_of(texts, [*splits.dev, *splits.test])
    if left_out := len(texts) - len(clear):
        say(f"{left_out:,} of {len(texts):,} unlabelled texts stand in dev or test and are left out.")
    if texts and not clear:
        raise UserError("every unlabelled text stands in dev or test", where="--unlabelled", remedy="other text")
    rest = []
    if REST in options.unlabelled:
        applied = protocols.protocol(options.protocol, task, len(splits.train), overrides)
        used = {id(example) for example in protocols.training_examples(splits, applied, overrides)}
        whole = protocols.training_examples(splits, applied, protocols.AS_IS)
        rest = [example for example in whole if id(example) not in used]
    return Unlabelled(clear, left_out, rest)
