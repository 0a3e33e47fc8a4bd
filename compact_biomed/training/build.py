"""A recipe's science made real: tokenizer, corpus, model."""

import os
from functools import lru_cache

import numpy as np
import torch
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerFast

from compact_biomed.benchmarks.tasks import DATA_VARIABLE
from compact_biomed.benchmarks.test_sets import blocklist_against
from compact_biomed.corpus.build import TokenizedCorpus, prepare
from compact_biomed.corpus.decontaminate import Blocklist
from compact_biomed.corpus.smoke import smoke_corpus, smoke_tokenizer_folder
from compact_biomed.engine.plan import Plan
from compact_biomed.errors import UsageError, UserError
from compact_biomed.models import checkpoints, students
from compact_biomed.models.architectures import ARCHITECTURES, SCALE_OF_PRESET
from compact_biomed.models.layer_maps import layer_map
from compact_biomed.models.students import cut_student, depth_changed
from compact_biomed.objectives import textbrewer
from compact_biomed.objectives.distillation import Distillation, Fidelity
from compact_biomed.objectives.masking import Masking
from compact_biomed.objectives.mlm import MaskedLM
from compact_biomed.objectives.terms import Term
from compact_biomed.objectives.textbrewer import read_terms
from compact_biomed.training.heldout import unigram_log_probabilities
from compact_biomed.training.recipe import FROM_TEACHER, SMOKE, DistillationScience, Science

# ----------------------------------------------------------------------------------------------------
# A recipe's distillation made real: the student, the terms, the objective.


def objective_of_shape(science: Science, model: "PreTrainedModel", machine: "Plan"):
    """The objective with a teacher of random weights in place of the science's own, to tell what a run costs.

    The teacher has the shape of the one that is named if that lies in a folder here, else BioBERT's at the preset's
    scale.
    """
    if not isinstance(science, DistillationScience):
        return build_objective(science, model, None, machine)

    config = checkpoints.config_at_hand(science.teacher)
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
        config = textbrewer.distilbiobert(**depths, temperature=science.temperature)
    elif science.loss == "compactbiobert":
        layers = layer_map(science.layer_map, **depths)
        config = textbrewer.compactbiobert(layers=layers, cell_average=science.cell_average)
    else:
        config = textbrewer.tinybiobert(
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
    if science.start == checkpoints.RANDOM:
        return cut_student(teacher, config, embeddings=False, head=False)
    depths = {"student_layers": config.num_hidden_layers, "teacher_layers": teacher.config.num_hidden_layers}
    try:
        layers = layer_map(science.layer_map, **depths)
        return cut_student(teacher, config, layers=layers, embeddings=science.copy_embeddings, head=science.copy_head)
    except UserError as error:
        remedy = f"{error.remedy or 'make them fit'}: by --student_layers N, --layer_map or another --teacher"
        raise UserError(error.what, where=error.where, remedy=remedy) from error


def load_tokenizer(science: Science, teacher: str | None = None) -> "PreTrainedTokenizerFast":
    """The recipe's tokenizer.

    Args:
        teacher: where a student's teacher lies; its tokenizer is the student's.
    """
    if science.tokenizer == FROM_TEACHER:
        return checkpoints.resolve_tokenizer(teacher)
    if science.tokenizer == SMOKE:
        return checkpoints.resolve_tokenizer(str(smoke_tokenizer_folder()))
    return checkpoints.resolve_tokenizer(science.tokenizer)


def load_corpus(science: Science, tokenizer: "PreTrainedTokenizerFast") -> TokenizedCorpus:
    """The recipe's corpus, tokenized; made if it is not in the cache."""
    sources = list(science.sources)
    if sources == [SMOKE]:
        sources = [str(smoke_corpus())]
    return prepare(
        sources,
        tokenizer,
        max_length=science.max_length,
        heldout_fraction=science.heldout_fraction,
        require_abstract=science.require_abstract,
        blocklist=_blocklist(science),
    )


def _blocklist(science: Science) -> "Blocklist | None":
    if not science.decontaminate_against:
        return None

    return _read_blocklist(science.decontaminate_against, os.environ.get(DATA_VARIABLE))


@lru_cache(maxsize=1)
def _read_blocklist(against: tuple[str, ...], data: str | None) -> "Blocklist":
    """A distillation asks for its teacher and again for itself; reading all the test sets takes seconds."""
    return blocklist_against(against, data)


def architecture_config(science: Science, vocab_size: int):
    """The configuration of the recipe's model at its preset's scale."""
    return ARCHITECTURES[science.model][SCALE_OF_PRESET[science.preset]].config(vocab_size)


def expected_config(science: Science, vocab_size: int):
    """The configuration that the model will have, as far as it can be told before anything is made or fetched.

    That of a checkpoint folder which is loaded whole, or from whose teacher the student is cut; else the recipe's.
    """
    if isinstance(science, DistillationScience) and science.student_layers is not None:
        if (teacher := checkpoints.config_at_hand(science.teacher)) is not None:
            return students.depth_changed(teacher, science.student_layers)
    if science.layers_from is None and (own := checkpoints.config_at_hand(science.start)) is not None:
        return own
    return architecture_config(science, vocab_size)


def build_model(
    science: Science,
    tokenizer: "PreTrainedTokenizerFast",
    unigram: np.ndarray,
    *,
    seed: int,
    teacher: "PreTrainedModel | None" = None,
) -> "PreTrainedModel":
    """The recipe's masked-LM with its start weights, float32.

    Args:
        teacher: a student's, a masked-LM; it is not changed.

    Raises:
        UserError: start weights that cannot be had, or a vocabulary that does not fit them.
    """
    torch.manual_seed(seed)
    if isinstance(science, DistillationScience) and science.start in (FROM_TEACHER, checkpoints.RANDOM):
        model = build_student(science, teacher, len(tokenizer))
    elif science.start == checkpoints.RANDOM or science.layers_from is not None:
        model = AutoModelForMaskedLM.from_config(architecture_config(science, len(tokenizer)))
        if science.layers_from is not None:
            students.copy_parts(
                model, checkpoints.load_masked_lm(science.start), layers=science.layers_from, head=False
            )
    else:
        model = checkpoints.load_masked_lm(science.start)
    checkpoints.check_vocabulary(tokenizer, model.config, where=science.start)
    if science.embeddings_from is not None:
        source = checkpoints.load_masked_lm(science.embeddings_from).get_input_embeddings().weight.detach()
        students.project_embeddings(model, source)
    if science.decoder_bias:
        students.set_decoder_bias(model, unigram_log_probabilities(unigram))
    return model


def masking_of(science: Science, tokenizer: "PreTrainedTokenizerFast", *, seed: int) -> Masking:
    """The masking rule for the recipe's vocabulary."""
    return Masking(
        mask_id=tokenizer.mask_token_id,
        special_ids=tuple(sorted(tokenizer.all_special_ids)),
        vocab_size=len(tokenizer),
        probability=science.mask_probability,
        seed=seed,
    )
