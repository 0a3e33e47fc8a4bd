"""What the flags name, at hand and fitting together, before anything is trained."""

import argparse
import math
from pathlib import Path

from compact_biomed.benchmarks import tasks
from compact_biomed.benchmarks.examples import Splits
from compact_biomed.benchmarks.readers import read
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.compress.distillation import LAYER_MAP, REST, TEMPERATURE
from compact_biomed.compress.distillation.method import FromTeacher
from compact_biomed.compress.distillation.teacher import Teacher, check_tokenizers
from compact_biomed.compress.distillation.terms import Transfer
from compact_biomed.compress.distillation.text import Unlabelled, clear_of, read_texts
from compact_biomed.console import say
from compact_biomed.errors import UserError
from compact_biomed.evaluation import protocols
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.protocols import Overrides
from compact_biomed.evaluation.runs import model_name
from compact_biomed.files import atomic_folder, cache_folder
from compact_biomed.machine import Speed
from compact_biomed.models import checkpoints
from compact_biomed.models.checkpoints import load_tokenizer, local_config, local_folder, longest_input
from compact_biomed.models.layer_maps import layer_map
from compact_biomed.models.students import copy_parts, depth_changed

# ----------------------------------------------------------------------------------------------------
# A student cut out of its teacher, as a checkpoint of its own: plain fine-tuning can start from it too.


def cut_out(teacher: "Teacher", layers: int) -> Path:
    """The folder of an encoder with `layers` layers of the teacher's, its embeddings and its pooler.

    The layers are the last ones of equal blocks ("spaced" in `models.layer_maps`). The folder lies in the cache, named
    by the teacher's weights, and is made once.

    Raises:
        UserError: as many layers cannot be cut out of this teacher.
    """
    folder = cache_folder() / "students" / f"{teacher.name}-{layers}-layers-{teacher.sums['weights_sha256'][:12]}"
    if folder.is_dir():
        return folder
    given = teacher.checkpoint.model
    try:
        chosen = layer_map("spaced", student_layers=layers, teacher_layers=given.config.num_hidden_layers)
        student = type(given)(depth_changed(given.config, layers))
        copy_parts(student, given, layers=chosen, head=False)
    except UserError as error:
        raise UserError(error.what, where=f"--student {layers}", remedy="name a checkpoint in its place") from error
    if getattr(given.base_model, "pooler", None) is not None:
        student.base_model.pooler.load_state_dict(given.base_model.pooler.state_dict())
    with atomic_folder(folder) as temporary:
        student.base_model.save_pretrained(temporary)
        teacher.tokenizer.save_pretrained(temporary)
    return folder


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
    check_tokenizers(task.kind, options.protocol, teacher, checkpoints.model_sha256(local_folder(start)))
    temperature = options.temperature or (1.0 if task.kind == "regression" else TEMPERATURE)
    transfer = _transfer(options, teacher, start) if options.transfer else None
    how = {"temperature": temperature, "soft_weight": options.soft_weight, "protocol": options.protocol}
    return student, FromTeacher(teacher, text, **how, transfer=transfer)


def _transfer(options: argparse.Namespace, teacher: Teacher, start: str) -> Transfer:
    """What of the layers is compared, if the two models can be set side by side token by token."""
    folder, theirs = local_folder(start), teacher.checkpoint.model.config
    config = local_config(str(folder))
    if config is None:
        raise UserError("no config.json here", where=folder, remedy="name a checkpoint of transformers with --student")
    if load_tokenizer(start).get_vocab() != teacher.tokenizer.get_vocab():
        raise UserError(
            "layers are compared token by token, and teacher and student have other vocabularies",
            where="--transfer",
            remedy="a student with the teacher's tokenizer, or --transfer none",
        )
    if (teacher.limit or math.inf) < (longest_input(config) or math.inf):
        raise UserError(
            f"the teacher reads at most {teacher.limit} tokens, the student {longest_input(config) or 'any number'}",
            where="--transfer",
            remedy="another teacher, or --transfer none",
        )
    if "attention" in options.transfer and config.num_attention_heads != theirs.num_attention_heads:
        raise UserError(
            f"maps of {config.num_attention_heads} heads cannot be compared with maps of {theirs.num_attention_heads}",
            where="--transfer attention",
            remedy="--transfer hidden, or a student with as many heads",
        )
    depths = {"student_layers": config.num_hidden_layers, "teacher_layers": theirs.num_hidden_layers}
    try:
        layers = layer_map(options.layer_map or LAYER_MAP, **depths)
    except UserError as error:
        raise UserError(error.what, where="--layer_map", remedy=error.remedy) from error
    widths = config.hidden_size, theirs.hidden_size
    return Transfer(options.transfer, layers, widths, options.transfer_weight or 1.0)


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
        whole = protocols.training_examples(splits, applied, protocols.NO_OVERRIDES)
        rest = [example for example in whole if id(example) not in used]
    return Unlabelled(clear, left_out, rest)
