"""Prepare what task distillation trains: the student, the layers to compare, and the unlabeled text.

Everything is read and checked before any training begins.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from compact_biomed.benchmarks.examples import Splits
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.compression.distillation import (
    LAYER_MAP,
    RELATION_HEADS,
    RELATION_LAYER,
    REST,
    TRANSFERS,
    layers_of,
)
from compact_biomed.compression.distillation.method import Relations, Transfer
from compact_biomed.compression.distillation.teacher import Teacher
from compact_biomed.compression.distillation.text import UnlabeledText, clear_of, read_texts
from compact_biomed.console import say
from compact_biomed.errors import UsageError, UserError, check_choice, check_no_effect, check_positive
from compact_biomed.evaluation import protocols
from compact_biomed.evaluation.protocols import Overrides
from compact_biomed.evaluation.saved import model_name
from compact_biomed.files import atomic_folder, cache_folder
from compact_biomed.models.cards import CARD, base_model_of, front_matter
from compact_biomed.models.checkpoints import load_tokenizer, local_config
from compact_biomed.models.layer_maps import layer_map
from compact_biomed.models.locate import local_folder
from compact_biomed.models.positions import longest_input
from compact_biomed.models.students import copy_parts, depth_changed
from compact_biomed.objectives.evaluate import check_fit, fitting_relation_heads
from compact_biomed.objectives.terms import layer_number, relation_terms
from compact_biomed.objectives.terms import relation_layer as parsed_layer


@contextmanager
def students_folder(*, temporary: bool) -> Iterator[Path]:
    """Yield the folder of encoders that were cut out of teachers: in the cache, or one that the block leaves empty."""
    if not temporary:
        yield cache_folder() / "students"
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)


def student_checkpoint(
    student: str, teacher: Teacher, name: str | None = None, *, folder: Path | None = None
) -> tuple[str, str]:
    """Return the name of a student in records, and the checkpoint from which it starts.

    Args:
        student: a checkpoint, or how many layers to cut out of the teacher.
        name: in place of the name of its folder.
        folder: for what is cut out, see `students_folder`; by default in the cache.

    Raises:
        UserError: that many layers cannot be cut out.
    """
    if (layers := layers_of(student)) is None:
        return name or model_name(student), student
    checkpoint = cut_out(teacher, layers, folder)
    if checkpoint.is_relative_to(cache_folder()):  # else it does not stay
        say(f"The student before it learns: {checkpoint}")
    return name or f"{teacher.name}-{layers}-layers", str(checkpoint)


def cut_out(teacher: Teacher, layers: int, parent: Path | None = None) -> Path:
    """Return the folder of an encoder with `layers` layers of the teacher, its embeddings and its pooler.

    The layers are the last ones of equal blocks ("spaced" in `models.layer_maps`). The folder is a checkpoint from
    which plain fine-tuning can start too. It is in `parent` (by default in the cache), named by the teacher's weights,
    and is made once.

    Raises:
        UserError: that many layers cannot be cut out of this teacher.
    """
    parent = parent or cache_folder() / "students"
    folder = parent / f"{teacher.name}-{layers}-layers-{teacher.sums['weights_sha256'][:12]}"
    if folder.is_dir():
        return folder
    model = teacher.checkpoint.model
    depth = model.config.num_hidden_layers
    if not 1 <= layers <= depth:
        has = "1 layer" if depth == 1 else f"{depth} layers"
        remedy = f"give a number from 1 to {depth}, or name a checkpoint"
        raise UsageError(f"the teacher has {has}", where=f"--student {layers}", remedy=remedy)
    try:
        chosen = layer_map("spaced", student_layers=layers, teacher_layers=depth)
        student = type(model)(depth_changed(model.config, layers))
        copy_parts(student, model, layers=chosen, head=False)
    except UserError as error:
        raise UserError(error.what, where=f"--student {layers}", remedy="name a checkpoint instead") from error
    if getattr(model.base_model, "pooler", None) is not None:
        student.base_model.pooler.load_state_dict(model.base_model.pooler.state_dict())
    with atomic_folder(folder) as temporary:
        student.base_model.save_pretrained(temporary)
        teacher.tokenizer.save_pretrained(temporary)
        # What the student's own card will say it derives from.
        card = front_matter(base_model=base_model_of(teacher.checkpoint.name))
        (temporary / CARD).write_text(card, encoding="utf-8")
    return folder


def transfer_features(names: Sequence[str]) -> list[str]:
    """Return which features of the layers are compared; empty for "none".

    Raises:
        UsageError: a name that is not one of `TRANSFERS`, or "none" beside others.
    """
    for name in names:
        check_choice("transfer", name, TRANSFERS)
    features = sorted(set(names) - {"none"})
    if features and "none" in names:
        raise UsageError('"none" excludes the others', where="--transfer", remedy=f"{' and '.join(features)}, or none")
    return features


@dataclass(frozen=True)
class TransferSettings:
    """How layers are compared, as the user asks for it; None = the default.

    Args:
        features: see `transfer_features`.
        layer_map: the teacher layer of each student layer, see `models.layer_maps.layer_map`; relations do not read it.
        weight: of each term.
        relation_heads: None = as many as fit both models, up to `RELATION_HEADS`.
        relation_layer: of the teacher, see `objectives.terms.relation_layer`; of the student it is the last.
    """

    features: list[str]
    layer_map: str | Sequence[int] | None = None
    weight: float | None = None
    relation_heads: int | None = None
    relation_layer: int | str | None = None

    def check(self) -> None:
        """Raise a `UsageError` for a value that is impossible, or has no effect on these features."""
        check_positive("transfer_weight", self.weight)
        if not self.features:
            without, remedy = "without --transfer", "add --transfer hidden"
            check_no_effect(without, remedy, layer_map=self.layer_map, transfer_weight=self.weight)
        elif self.features == ["relations"]:
            check_no_effect("with relations alone", layer_map=self.layer_map)
        if "relations" in self.features:
            self.parsed_relation_layer()  # raises one
            if self.relation_heads is not None and self.relation_heads < 1:
                raise UsageError(f"--relation-heads {self.relation_heads} must be at least 1", remedy="leave it out")
        else:
            has_layer = self.relation_layer is not None  # 0 is one
            without = "without --transfer relations"
            check_no_effect(without, relation_heads=self.relation_heads, relation_layer=has_layer)

    def parsed_relation_layer(self) -> int | str:
        """Return the teacher layer of relations, see `objectives.terms.relation_layer`."""
        return parsed_layer(RELATION_LAYER if self.relation_layer is None else self.relation_layer)


def layer_transfer(settings: TransferSettings, teacher: Teacher, start: str) -> Transfer | None:
    """Return which layers are compared, if the two models can be compared token by token; None if none are wanted.

    Args:
        start: checkpoint of the student.

    Raises:
        UserError: models with different vocabularies, lengths or heads, or a layer map that does not fit.
    """
    features = settings.features
    if not features:
        return None
    folder, teacher_config = local_folder(start), teacher.checkpoint.model.config
    config = local_config(str(folder))
    if config is None:
        raise UserError("no config.json here", where=folder, remedy="name a checkpoint of transformers with --student")
    if load_tokenizer(start).get_vocab() != teacher.tokenizer.get_vocab():
        raise UserError(
            "layers are compared token by token, but teacher and student have different vocabularies",
            where="--transfer",
            remedy="a student with the teacher's tokenizer, or --transfer none",
        )
    if (teacher.limit or math.inf) < (longest_input(config) or math.inf):
        raise UserError(
            f"the teacher reads at most {teacher.limit} tokens, the student {longest_input(config) or 'any number'}",
            where="--transfer",
            remedy="another teacher, or --transfer none",
        )
    heads, teacher_heads = config.num_attention_heads, teacher_config.num_attention_heads
    if "attention" in features and heads != teacher_heads:
        raise UserError(
            f"maps of {heads} heads cannot be compared with maps of {teacher_heads}",
            where="--transfer attention",
            remedy="--transfer relations or hidden, or a student with as many heads",
        )
    depths = {"student_layers": config.num_hidden_layers, "teacher_layers": teacher_config.num_hidden_layers}
    chosen: Sequence[int] = ()
    if set(features) - {"relations"}:
        try:
            chosen = layer_map(settings.layer_map or LAYER_MAP, **depths)
        except UserError as error:
            raise UsageError(error.what, where="--layer-map", remedy=error.remedy) from error
    relations = None
    if "relations" in features:
        layer = settings.parsed_relation_layer()
        relations = _relations(config, teacher_config, settings.relation_heads, layer)
    widths = config.hidden_size, teacher_config.hidden_size
    weight = float(settings.weight or 1)  # as of the command line: an integer would give the run another key
    return Transfer(features, chosen, widths, weight, relations)


def _relations(student, teacher, heads: int | None, layer: int | str) -> Relations:
    """Return which relations of models with these configurations are compared."""
    if heads is None:
        heads = max(n for n in fitting_relation_heads(student, teacher) if n <= RELATION_HEADS)
    layers = student.num_hidden_layers - 1, layer_number(layer, teacher.num_hidden_layers)
    try:
        check_fit(relation_terms(1.0, *layers, heads), student, teacher)
    except UserError as error:
        raise UserError(error.what, where="--transfer relations", remedy=error.remedy) from error
    return Relations(heads, *layers)


def unlabeled_text(
    files: Sequence[str | Path], task: Task, splits: Splits, *, protocol: str, overrides: Overrides
) -> UnlabeledText:
    """Read unlabeled text, without what is in the dev or test set.

    Args:
        files: files, or `REST` for the training examples that `overrides.max_train_examples` leaves out.

    Raises:
        UserError: a file that cannot be read, or text that is all in dev or test.
    """
    needed = {"pairs": bool(getattr(splits.train[0], "pair", None)), "questions": task.kind == "qa"}
    texts = [text for path in files if path != REST for text in read_texts(path, **needed)]
    clear = clear_of(texts, [*splits.dev, *splits.test])
    if left_out := len(texts) - len(clear):
        say(f"Left out {left_out:,} of {len(texts):,} unlabeled texts: they are in the dev or test set.")
    if texts and not clear:
        raise UserError(
            "every unlabeled text is in the dev or test set", where="--unlabeled", remedy="name other files"
        )
    rest = []
    if REST in files:
        applied = protocols.protocol(protocol, task, len(splits.train), overrides)
        trained_on = {id(example) for example in protocols.training_examples(splits, applied, overrides)}
        everything = protocols.training_examples(splits, applied, protocols.NO_OVERRIDES)
        rest = [example for example in everything if id(example) not in trained_on]
    return UnlabeledText(clear, left_out, rest)
