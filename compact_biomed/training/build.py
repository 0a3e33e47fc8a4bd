"""Build what a run's hyperparameters describe: tokenizer, corpus, start weights, masking, objective."""

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
from compact_biomed.engine.plan import ComputePlan
from compact_biomed.errors import UserError
from compact_biomed.models import RANDOM, checkpoints, students
from compact_biomed.models.layer_maps import layer_map
from compact_biomed.models.layer_outputs import Text
from compact_biomed.models.locate import find_checkpoint, named_folder
from compact_biomed.models.positions import require_positions
from compact_biomed.models.slicing import check_sizes, sliced_student
from compact_biomed.models.students import cut_student, depth_changed
from compact_biomed.objectives.distillation import Distillation, Fidelity
from compact_biomed.objectives.evaluate import reads_padding
from compact_biomed.objectives.mlm import MaskedLM, Masking, check_trainable
from compact_biomed.objectives.terms import expand_between
from compact_biomed.training.data import documents_of
from compact_biomed.training.heldout import unigram_log_probabilities
from compact_biomed.training.hyperparameters import DistillationHyperparameters, Hyperparameters
from compact_biomed.training.recipe import FROM_TEACHER, MADE_BY_RECIPE, SLICED, SMOKE
from compact_biomed.training.shapes import (
    architecture_config,
    local_config,
    local_source,
    local_start,
    sliced_config,
    stand_in_teacher,
)

_SLICING_DOCUMENTS = 64  # about 14,000 tokens of the sample


def check_models(hyperparameters: Hyperparameters, teacher: str | None = None) -> None:
    """Check, before any text is read, that local checkpoints can be trained, teach, and give a student its parts.

    What is on the hub is checked when it has been loaded.

    Args:
        teacher: the teacher's checkpoint, if it is not the one that the hyperparameters name.

    Raises:
        UserError: a folder that does not exist, a tokenizer that cannot be used, an architecture that is not supported,
            weights that do not fit, a teacher without the vocabulary head that a term reads, or parts that do not fit
            the student.
    """
    start = hyperparameters.start
    for name in (start, hyperparameters.tokenizer, hyperparameters.embeddings_from, hyperparameters.teacher):
        name = (name or RANDOM).removeprefix(SLICED)
        if name not in (RANDOM, FROM_TEACHER, SMOKE) and not name.startswith(("registry:", MADE_BY_RECIPE)):
            find_checkpoint(name)
    if hyperparameters.tokenizer not in (FROM_TEACHER, SMOKE) and named_folder(hyperparameters.tokenizer).is_dir():
        checkpoints.load_tokenizer(hyperparameters.tokenizer)
    if (own := local_start(start)) is not None:
        check_trainable(own, where=start)
        checkpoints.load_masked_lm(start)
    teacher = teacher or hyperparameters.teacher
    if (source := local_source(hyperparameters, teacher)) is not None:
        check_sizes(sliced_config(hyperparameters, source), source)
    if not isinstance(hyperparameters, DistillationHyperparameters):
        return
    if (config := local_config(teacher)) is not None:
        check_trainable(config, where=teacher)
        load_teacher(hyperparameters, teacher)
        if start in (FROM_TEACHER, RANDOM):
            with torch.device("meta"):  # shapes without numbers
                build_student(hyperparameters, AutoModelForMaskedLM.from_config(config), config.vocab_size)


def load_teacher(hyperparameters: DistillationHyperparameters, name: str) -> PreTrainedModel:
    """Load a student's teacher, a masked-LM; it needs its vocabulary head only if a term reads logits.

    Raises:
        UserError: unreachable or damaged, or without a vocabulary head that a term reads.
    """
    reads_logits = any(term.feature == "logits" for term in hyperparameters.terms)
    return checkpoints.load_masked_lm(name, head="required" if reads_logits else "unused")


def objective_of_shape(hyperparameters: Hyperparameters, model: PreTrainedModel, machine: ComputePlan):
    """Build the objective with a teacher of random weights, to estimate what a run costs.

    The teacher has the shape of the named one if that is a local folder, else BioBERT's at the preset's scale.
    """
    if not isinstance(hyperparameters, DistillationHyperparameters):
        return build_objective(hyperparameters, model, None, machine)

    config = local_config(hyperparameters.teacher)
    if config is None:
        config = stand_in_teacher(hyperparameters, model.config.vocab_size)
    return build_objective(hyperparameters, model, AutoModelForMaskedLM.from_config(config), machine)


def build_objective(
    hyperparameters: Hyperparameters,
    model: PreTrainedModel,
    teacher: PreTrainedModel | None,
    machine: ComputePlan,
    *,
    loss_backend: str = "own",
) -> MaskedLM | Distillation:
    """Build what is trained: masked language modeling, or distillation from a teacher, a masked-LM.

    Raises:
        UserError: terms that do not fit the two models.
    """
    if not isinstance(hyperparameters, DistillationHyperparameters):
        return MaskedLM(model, dtype=machine.dtype, fast=machine.fast)
    terms = expand_between(hyperparameters.terms, model.config, teacher.config, layers=hyperparameters.layer_map)
    fidelity = Fidelity(
        teacher_dropout=hyperparameters.teacher_dropout,
        maps_after_dropout=hyperparameters.maps_after_dropout,
        keep_padding=any(map(reads_padding, terms)),
    )
    return Distillation(
        model,
        teacher,
        terms,
        fidelity=fidelity,
        dtype=machine.dtype,
        fast=machine.fast,
        loss_backend=loss_backend,
    )


def build_student(
    hyperparameters: DistillationHyperparameters, teacher: PreTrainedModel, vocab_size: int
) -> PreTrainedModel:
    """Cut the student out of its teacher, a masked-LM, or make a new one."""
    if hyperparameters.student_layers is None:
        config = architecture_config(hyperparameters, vocab_size)
    else:
        config = depth_changed(teacher.config, hyperparameters.student_layers)
    if hyperparameters.start == RANDOM:
        return cut_student(teacher, config, embeddings=False, head=False)
    depths = {"student_layers": config.num_hidden_layers, "teacher_layers": teacher.config.num_hidden_layers}
    try:
        layers = layer_map(hyperparameters.layer_map, **depths)
        return cut_student(
            teacher, config, layers=layers, embeddings=hyperparameters.copy_embeddings, head=hyperparameters.copy_head
        )
    except UserError as error:
        flags = "--start random, --student-layers N, --layer-map or another --teacher"
        remedy = f"{error.remedy or 'make them fit'}: by {flags}"
        raise UserError(error.what, where=error.where, remedy=remedy) from error


def load_tokenizer(
    hyperparameters: Hyperparameters, teacher: str | None = None, start: str | None = None
) -> PreTrainedTokenizerFast:
    """Load the run's tokenizer.

    Args:
        teacher: checkpoint of a student's teacher, whose tokenizer is the student's.
        start: checkpoint of start weights that a recipe made.

    Raises:
        UserError: unreachable or damaged, or without a token for masks or for padding.
    """
    name = {FROM_TEACHER: teacher, SMOKE: str(smoke_tokenizer_folder())}.get(
        hyperparameters.tokenizer, hyperparameters.tokenizer
    )
    if name.startswith(MADE_BY_RECIPE):
        name = start
    tokenizer = checkpoints.load_tokenizer(name)
    for kind in ("mask_token", "pad_token"):
        if getattr(tokenizer, kind) is None:
            raise UserError(
                f"the tokenizer has no {kind}", where=name, remedy="name the tokenizer of a masked-LM: --tokenizer"
            )
    return tokenizer


def load_corpus(hyperparameters: Hyperparameters, tokenizer: PreTrainedTokenizerFast) -> TokenizedCorpus:
    """Load the run's tokenized corpus; build it if it is not in the cache."""
    sources = list(hyperparameters.sources)
    if sources == [SMOKE]:
        sources = [str(smoke_corpus())]
    return prepare(
        sources,
        tokenizer,
        max_length=hyperparameters.max_length,
        heldout_fraction=hyperparameters.heldout_fraction,
        require_abstract=hyperparameters.require_abstract,
        blocklist=_blocklist(hyperparameters),
    )


def _blocklist(hyperparameters: Hyperparameters) -> Blocklist | None:
    if not hyperparameters.decontaminate_against:
        return None

    return _read_blocklist(hyperparameters.decontaminate_against, os.environ.get(DATA_VARIABLE))


@lru_cache(maxsize=1)
def _read_blocklist(against: tuple[str, ...], data: str | None) -> Blocklist:
    # A distillation asks for its teacher and again for itself; reading all test sets takes seconds.
    return blocklist_against(against, data)


def build_model(
    hyperparameters: Hyperparameters,
    tokenizer: PreTrainedTokenizerFast,
    corpus: TokenizedCorpus,
    *,
    seed: int,
    teacher: PreTrainedModel | None = None,
    start: str | None = None,
) -> PreTrainedModel:
    """Build the masked-LM with its start weights, float32.

    Args:
        corpus: for the vocabulary bias, and for the statistics of slicing.
        seed: of new weights.
        teacher: a student's, a masked-LM; it is not changed.
        start: checkpoint of start weights that a recipe made.

    Raises:
        UserError: start weights that are missing, or a vocabulary that does not fit them.
    """
    torch.manual_seed(seed)
    if isinstance(hyperparameters, DistillationHyperparameters) and hyperparameters.start in (
        FROM_TEACHER,
        RANDOM,
    ):
        model = build_student(hyperparameters, teacher, teacher.config.vocab_size)
    elif hyperparameters.start.startswith(SLICED):
        model = _sliced(hyperparameters, tokenizer, corpus, teacher)
    elif hyperparameters.start == RANDOM or hyperparameters.layers_from is not None:
        model = AutoModelForMaskedLM.from_config(architecture_config(hyperparameters, len(tokenizer)))
        if hyperparameters.layers_from is not None:
            students.copy_parts(
                model, checkpoints.load_masked_lm(hyperparameters.start), layers=hyperparameters.layers_from, head=False
            )
    else:
        model = checkpoints.load_masked_lm(start or hyperparameters.start, head="wanted")
    # Embeddings may be padded beyond their own tokenizer, but one from elsewhere must match them to the unit.
    own = hyperparameters.tokenizer in (hyperparameters.start.removeprefix(SLICED), FROM_TEACHER)
    spare = checkpoints.SPARE_ROWS if own else 0
    checkpoints.check_vocabulary(tokenizer, model.config, where=hyperparameters.start, spare=spare)
    require_positions(model.config, hyperparameters.max_length, where=hyperparameters.start)
    if hyperparameters.embeddings_from is not None:
        source = checkpoints.load_masked_lm(hyperparameters.embeddings_from).get_input_embeddings().weight.detach()
        students.project_embeddings(model, source)
    if hyperparameters.decoder_bias:
        students.set_decoder_bias(model, unigram_log_probabilities(corpus.unigram))
    return model


def _sliced(
    hyperparameters: Hyperparameters,
    tokenizer: PreTrainedTokenizerFast,
    corpus: TokenizedCorpus,
    teacher: PreTrainedModel | None,
) -> PreTrainedModel:
    """Slice the model out of the checkpoint that `start` names, or out of the teacher."""
    name = hyperparameters.start.removeprefix(SLICED)
    source = teacher if name == FROM_TEACHER else checkpoints.load_masked_lm(name)
    config = sliced_config(hyperparameters, source.config)
    depths = {"student_layers": config.num_hidden_layers, "teacher_layers": source.config.num_hidden_layers}
    layers = layer_map(hyperparameters.layer_map, **depths)
    return sliced_student(source, config, slicing_text(corpus, tokenizer.pad_token_id), layers=layers)


def slicing_text(corpus: TokenizedCorpus, pad_id: int, *, documents: int = _SLICING_DOCUMENTS) -> Text:
    """Return the text that slicing takes its statistics from: documents of the share "start", evenly spaced."""
    share = documents_of(corpus.train, "start")
    chosen = np.unique(np.linspace(0, len(share) - 1, documents).round().astype(int))
    rows = [torch.from_numpy(np.asarray(ids, np.int64)) for ids in share.with_format("numpy")[chosen]["input_ids"]]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)
    lengths = torch.tensor([len(row) for row in rows])
    return Text(ids, torch.arange(ids.shape[1]) < lengths[:, None])


def masking_of(hyperparameters: Hyperparameters, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> Masking:
    """Return the masking rule for the run's vocabulary."""
    return Masking(
        mask_id=tokenizer.mask_token_id,
        special_ids=tuple(sorted(tokenizer.all_special_ids)),
        vocab_size=len(tokenizer),
        probability=hyperparameters.mask_probability,
        seed=seed,
    )
