"""A recipe's distillation made real: the student, the terms, the objective."""

from typing import TYPE_CHECKING

from compact_biomed.errors import UsageError, UserError
from compact_biomed.models import start
from compact_biomed.models.architectures import ARCHITECTURES, SCALE_OF_PRESET
from compact_biomed.models.layer_maps import layer_map
from compact_biomed.models.student import cut_student, depth_changed
from compact_biomed.objectives import published_terms
from compact_biomed.objectives.distillation import Distillation, Fidelity
from compact_biomed.objectives.mlm import MaskedLM
from compact_biomed.objectives.terms import Term
from compact_biomed.objectives.textbrewer_terms import read_terms
from compact_biomed.training.build import architecture_config
from compact_biomed.training.settings import DistillationScience, Science

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compact_biomed.training.machine import Plan


def objective_of_shape(science: Science, model: "PreTrainedModel", machine: "Plan"):
    """The objective with a teacher of random weights in place of the science's own, to tell what a run costs.

    The teacher has the shape of the one that is named if that lies in a folder here, else BioBERT's at the preset's
    scale.
    """
    if not isinstance(science, DistillationScience):
        return build_objective(science, model, None, machine)
    from transformers import AutoModelForMaskedLM

    config = start.config_at_hand(science.teacher)
    if config is None:
        config = ARCHITECTURES["biobert"][SCALE_OF_PRESET[science.preset]].config(model.config.vocab_size)
    return build_objective(science, model, AutoModelForMaskedLM.from_config(config), machine)


def build_objective(
    science: Science, model: "PreTrainedModel", teacher: "PreTrainedModel | None", machine: "Plan"
) -> MaskedLM | Distillation:
    """The objective that is trained: masked language modeling, or distillation from a teacher, a masked-LM."""
    if not isinstance(science, DistillationScience):
        return MaskedLM(model, dtype=machine.dtype, fast=machine.fast)
    fidelity = Fidelity(
        teacher_dropout=science.teacher_dropout,
        maps_after_dropout=science.maps_after_dropout,
        keep_padding=science.padding_in_mse,
    )
    terms = distillation_terms(science, model.config, teacher.config)
    return Distillation(model, teacher, terms, fidelity=fidelity, dtype=machine.dtype, fast=machine.fast)


def distillation_terms(science: DistillationScience, student, teacher) -> list[Term]:
    """The terms that the science asks for, between models with these configurations."""
    depths = {"student_layers": student.num_hidden_layers, "teacher_layers": teacher.num_hidden_layers}
    if science.loss == "distilbiobert":
        config = published_terms.distilbiobert(**depths, temperature=science.temperature)
    elif science.loss == "compactbiobert":
        layers = layer_map(science.layer_map, **depths)
        config = published_terms.compactbiobert(layers=layers, cell_average=science.cell_average)
    else:
        config = published_terms.tinybiobert(
            **depths,
            student_width=student.hidden_size,
            teacher_width=teacher.hidden_size,
            padding=science.padding_in_mse,
            raw_scores=science.raw_scores,
        )
    terms = read_terms(config)
    for kind in science.leave_out:
        if kind not in {term.kind for term in terms}:
            known = ", ".join(sorted({term.kind for term in terms}))
            raise UsageError(f"there is no term {kind!r} to leave out", where="--leave_out", remedy=f"one of {known}")
    kept = [term for term in terms if term.kind not in science.leave_out]
    if not kept:
        raise UsageError("every term is left out", where="--leave_out", remedy="keep one")
    return kept


def build_student(science: DistillationScience, teacher: "PreTrainedModel", vocab_size: int) -> "PreTrainedModel":
    """The student, cut out of its teacher, a masked-LM, or new."""
    if science.student_layers is None:
        config = architecture_config(science, vocab_size)
    else:
        config = depth_changed(teacher.config, science.student_layers)
    if science.start == start.RANDOM:
        return cut_student(teacher, config, embeddings=False, head=False)
    depths = {"student_layers": config.num_hidden_layers, "teacher_layers": teacher.config.num_hidden_layers}
    try:
        layers = layer_map(science.layer_map, **depths)
        return cut_student(teacher, config, layers=layers, embeddings=science.copy_embeddings, head=science.copy_head)
    except UserError as error:
        remedy = f"{error.remedy or 'make them fit'}: by --student_layers N, --layer_map or another --teacher"
        raise UserError(error.what, where=error.where, remedy=remedy) from error
