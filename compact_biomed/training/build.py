"""A recipe's science made real: tokenizer, corpus, model."""

import os
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from compact_biomed.corpus import TokenizedCorpus, prepare
from compact_biomed.models import initial, start, student
from compact_biomed.models.architectures import ARCHITECTURES, SCALE_OF_PRESET
from compact_biomed.objectives.masking import Masking
from compact_biomed.training.heldout import unigram_log_probabilities
from compact_biomed.training.recipe import SMOKE
from compact_biomed.training.settings import FROM_TEACHER, DistillationScience, Science

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from compact_biomed.corpus import Blocklist


def load_tokenizer(science: Science, teacher: str | None = None) -> "PreTrainedTokenizerFast":
    """The recipe's tokenizer.

    Args:
        teacher: where a student's teacher lies; its tokenizer is the student's.
    """
    if science.tokenizer == FROM_TEACHER:
        return start.resolve_tokenizer(teacher)
    if science.tokenizer == SMOKE:
        from compact_biomed.training.smoke import smoke_tokenizer_folder

        return start.resolve_tokenizer(str(smoke_tokenizer_folder()))
    return start.resolve_tokenizer(science.tokenizer)


def load_corpus(science: Science, tokenizer: "PreTrainedTokenizerFast") -> TokenizedCorpus:
    """The recipe's corpus, tokenized; made if it is not in the cache."""
    sources = list(science.sources)
    if sources == [SMOKE]:
        from compact_biomed.training.smoke import smoke_corpus

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
    from compact_biomed.evaluation.tasks import DATA_VARIABLE

    return _read_blocklist(science.decontaminate_against, os.environ.get(DATA_VARIABLE))


@lru_cache(maxsize=1)
def _read_blocklist(against: tuple[str, ...], data: str | None) -> "Blocklist":
    """A distillation asks for its teacher and again for itself; reading all the test sets takes seconds."""
    from compact_biomed.evaluation.decontamination import blocklist_against

    return blocklist_against(against, data)


def architecture_config(science: Science, vocab_size: int):
    """The configuration of the recipe's model at its preset's scale."""
    return ARCHITECTURES[science.model][SCALE_OF_PRESET[science.preset]].config(vocab_size)


def expected_config(science: Science, vocab_size: int):
    """The configuration that the model will have, as far as it can be told before anything is made or fetched.

    That of a checkpoint folder which is loaded whole, or from whose teacher the student is cut; else the recipe's.
    """
    if isinstance(science, DistillationScience) and science.student_layers is not None:
        if (teacher := start.config_at_hand(science.teacher)) is not None:
            return student.depth_changed(teacher, science.student_layers)
    if science.layers_from is None and (own := start.config_at_hand(science.start)) is not None:
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
    if isinstance(science, DistillationScience) and science.start in (FROM_TEACHER, start.RANDOM):
        from compact_biomed.training.build_distillation import build_student

        model = build_student(science, teacher, len(tokenizer))
    elif science.start == start.RANDOM or science.layers_from is not None:
        from transformers import AutoModelForMaskedLM

        model = AutoModelForMaskedLM.from_config(architecture_config(science, len(tokenizer)))
        if science.layers_from is not None:
            student.copy_parts(model, start.load_masked_lm(science.start), layers=science.layers_from, head=False)
    else:
        model = start.load_masked_lm(science.start)
    start.check_vocabulary(tokenizer, model.config, where=science.start)
    if science.embeddings_from is not None:
        source = start.load_masked_lm(science.embeddings_from).get_input_embeddings().weight.detach()
        initial.project_embeddings(model, source)
    if science.decoder_bias:
        initial.set_decoder_bias(model, unigram_log_probabilities(unigram))
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
