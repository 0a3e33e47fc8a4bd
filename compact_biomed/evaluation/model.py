"""A checkpoint's encoder under a new task head."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from compact_biomed.errors import UserError
from compact_biomed.evaluation.heads import HEADS
from compact_biomed.models import start

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_AUTO_CLASSES = {
    "token": "AutoModelForTokenClassification",
    "sequence": "AutoModelForSequenceClassification",
    "span": "AutoModelForQuestionAnswering",
}


class TaskModel(NamedTuple):
    model: "PreTrainedModel"  # float32
    random: list[str]  # weights of the encoder that the checkpoint lacks


def build(name: str, head: str, labels: Sequence[str], *, seed: int) -> TaskModel:
    """Load an encoder and put a new head on it; a head that the checkpoint brings is left out.

    Args:
        name: as `models.start.find_checkpoint` takes it.
        head: a name in `heads.HEADS`.
        labels: what the head tells apart, in the order of its outputs; they go into the
            configuration. Not used by "span"; "regression" has one output.
        seed: decides the head's start weights.

    Raises:
        UserError: weights that cannot be had or do not fit their configuration.
    """
    import torch
    import transformers

    family, problem = HEADS[head].family, HEADS[head].problem_type
    torch.manual_seed(seed)
    encoder, missing = start.load_encoder(name)
    config = encoder.config
    if family != "span":
        names = list(labels) if head != "regression" else ["score"]
        config.id2label = dict(enumerate(names))
        config.label2id = {label: i for i, label in enumerate(names)}
    config.problem_type = problem
    torch.manual_seed(seed)
    try:
        model = getattr(transformers, _AUTO_CLASSES[family]).from_config(config, dtype=torch.float32)
    except ValueError as error:
        raise UserError(
            f"transformers has no {family} model for {config.model_type}", where=start.find_checkpoint(name)
        ) from error
    # The pooler stays behind where this kind of task has none.
    mine = model.base_model.state_dict()
    given = {key: tensor for key, tensor in encoder.state_dict().items() if key in mine and key not in missing}
    model.base_model.load_state_dict(given, strict=False)
    return TaskModel(model, [key for key in missing if key in mine])


def load_tokenizer(name: str, config) -> "PreTrainedTokenizerFast":
    """The checkpoint's tokenizer, which must fit its embeddings and know where a word begins and ends.

    Raises:
        UserError: none, a slow one, or another model's.
    """
    tokenizer = start.resolve_tokenizer(name)
    if not tokenizer.is_fast:
        raise UserError(
            "this tokenizer cannot tell which word a piece belongs to",
            where=start.find_checkpoint(name),
            remedy="convert it to a fast one (tokenizer.json)",
        )
    # Embeddings padded to a multiple of 128 are fine; another model's vocabulary differs by more.
    start.check_vocabulary(tokenizer, config, where=start.find_checkpoint(name), spare=127)
    return tokenizer


def longest_input(config) -> int | None:
    """Most tokens that the position embeddings reach, special tokens included; None = no limit."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions <= 0:
        return None
    # RoBERTa and its kin number positions from behind the padding id on.
    return positions - config.pad_token_id - 1 if config.model_type.endswith("roberta") else positions
