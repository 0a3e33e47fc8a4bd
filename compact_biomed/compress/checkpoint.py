"""A checkpoint with its head, as a function from ids to logits."""

from typing import TYPE_CHECKING, NamedTuple

from compact_biomed.errors import UserError
from compact_biomed.models import start

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

# How transformers' classes end -> our name of the family, and the class that loads it.
FAMILIES = {
    "ForMaskedLM": ("mlm", "AutoModelForMaskedLM"),
    "ForTokenClassification": ("token", "AutoModelForTokenClassification"),
    "ForSequenceClassification": ("sequence", "AutoModelForSequenceClassification"),
    "ForQuestionAnswering": ("span", "AutoModelForQuestionAnswering"),
}


class Checkpoint(NamedTuple):
    name: str  # folder or hub name
    family: str  # "mlm", "token", "sequence" or "span"
    model: "PreTrainedModel"  # float32, in eval mode
    tokenizer: "PreTrainedTokenizerFast"

    @property
    def head(self) -> str:
        """A name in `evaluation.heads.HEADS`; a family without such a head names itself ("mlm")."""
        from compact_biomed.evaluation.heads import HEADS

        problem = self.model.config.problem_type
        exact = (name for name, head in HEADS.items() if (head.family, head.problem_type) == (self.family, problem))
        return next(exact, self.family)


def load(name: str) -> Checkpoint:
    """A model with the head that the checkpoint carries, and its tokenizer.

    Args:
        name: as `models.start.find_checkpoint` takes it.

    Raises:
        UserError: it cannot be read, has no head, or lacks weights for it.
    """
    import transformers

    from compact_biomed.evaluation.model import load_tokenizer

    place = start.find_checkpoint(name)
    config = _read(transformers.AutoConfig, place)
    family, auto_class = family_of(config, where=place)
    model, info = _read(getattr(transformers, auto_class), place, use_safetensors=True, output_loading_info=True)
    if lacking := sorted(info["missing_keys"]):
        raise UserError(
            f"the checkpoint lacks {len(lacking)} weights, {lacking[0]} first", where=place,
            remedy="fine-tune it: compact-biomed evaluate --save DIR",
        )  # fmt: skip
    return Checkpoint(str(place), family, model.float().eval(), load_tokenizer(name, config))


def family_of(config, *, where: object) -> tuple[str, str]:
    """Our name of the head and the auto class that loads it, from the configuration's `architectures`.

    Raises:
        UserError: no head, or one that is not known here.
    """
    named = (config.architectures or ["none"])[0]
    for ending, found in FAMILIES.items():
        if named.endswith(ending):
            return found
    raise UserError(
        f"no head that can be used (architecture: {named})", where=where,
        remedy="a masked-LM, or a model fine-tuned by: compact-biomed evaluate --save DIR",
    )  # fmt: skip


def input_names(model: "PreTrainedModel") -> list[str]:
    """What the model reads, in the order in which `logits_module` takes it."""
    import inspect

    names = ["input_ids", "attention_mask"]
    has_types = getattr(model.config, "type_vocab_size", 0) > 1
    if has_types and "token_type_ids" in inspect.signature(model.forward).parameters:
        names.append("token_type_ids")
    return names


def logits_module(model: "PreTrainedModel", family: str) -> "torch.nn.Module":
    """A module (inputs in the order of `input_names`, each [batch, length] int64) -> logits.

    The logits are [batch, length, labels] ("token"), [batch, length, vocabulary] ("mlm"), [batch, labels]
    ("sequence") or [batch, length, 2], start and end ("span").
    """
    import torch

    names = input_names(model)

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            output = self.model(**dict(zip(names, inputs, strict=True)), return_dict=True)
            if family == "span":
                return torch.stack([output.start_logits, output.end_logits], -1)
            return output.logits

    return Logits().eval()


def _read(auto_class, place: str, **options):
    try:
        return auto_class.from_pretrained(place, trust_remote_code=False, **options)
    except Exception as error:  # safetensors has an error class of its own, hub clients several
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"cannot be read: {reason}", where=place, remedy="expected config.json, model.safetensors and a tokenizer"
        ) from error
