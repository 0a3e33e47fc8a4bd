"""Checkpoints: the only module that opens them.

A checkpoint has a name, which `models.locate` finds. There are three ways to load one, all in float32:

* `load_masked_lm`: the encoder and its vocabulary head, to pretrain or distill further.
* `load_with_new_head`: the encoder under a new, random task head, to fine-tune. A head of the checkpoint is left out.
* `load_with_head`: the model with the head that it was saved with, and its tokenizer, to predict, teach or export.

Only safetensors files are read, and no code that comes with a model is run.
"""

import inspect
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from compact_biomed.console import say
from compact_biomed.errors import UserError
from compact_biomed.files import sha256_file, sha256_json
from compact_biomed.models import RANDOM
from compact_biomed.models.configuration import COPY_AGAIN
from compact_biomed.models.locate import find_checkpoint, for_transformers, named_folder, unreadable
from compact_biomed.models.vocabulary import SPARE_ROWS, check_case, check_vocabulary
from compact_biomed.models.weights import check_loaded, of_head
from compact_biomed.settings import read_json

# Kind of task head -> its family (see `Checkpoint`), and its problem type in the configuration.
HEAD_FORMS: dict[str, tuple[str, str | None]] = {
    "token": ("token", None),
    "sequence": ("sequence", "single_label_classification"),
    "multilabel": ("sequence", "multi_label_classification"),
    "regression": ("sequence", "regression"),
    "span": ("span", None),
}

# Family -> the end of the names of transformers' classes: BertForMaskedLM, AutoModelForMaskedLM.
_CLASS_ENDINGS = {
    "mlm": "ForMaskedLM",
    "token": "ForTokenClassification",
    "sequence": "ForSequenceClassification",
    "span": "ForQuestionAnswering",
}


_TASK_ENDINGS = tuple(ending for family, ending in _CLASS_ENDINGS.items() if family != "mlm")


def quiet_transformers() -> None:
    """Silence transformers' notes (on new heads) and progress bars (on loading)."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


# ---- Three ways to load a model


def load_masked_lm(name: str, *, head: Literal["unused", "wanted", "required"] = "unused") -> PreTrainedModel:
    """Load an encoder with its vocabulary head, float32.

    Args:
        name: as `locate.find_checkpoint` takes it.
        head: what to do if the checkpoint lacks weights of the vocabulary head, which are then random: nothing, say
            so, or refuse it.

    Raises:
        UserError: unreachable, damaged, only available as a pickle, without weights for a layer, or without those of a
            required head; or a checkpoint that was fine-tuned for a task.
    """
    if architecture := task_architecture(_open(name, transformers.AutoConfig)):
        raise UserError(
            f"fine-tuned for a task already ({architecture}), where a pretrained model is needed",
            where=find_checkpoint(name),
            remedy="name the checkpoint that it was fine-tuned from; its record.json names it under model, start",
        )
    model, missing = _open_model(name, _auto_class("mlm"))
    lacking = of_head(missing, model)
    if lacking and head == "required":
        raise UserError(
            f"no vocabulary head: the checkpoint lacks {len(lacking)} of its weights, {lacking[0]} first",
            where=find_checkpoint(name),
            remedy="name a masked-LM, or train its head first: compact-biomed train mlm --start",
        )
    if lacking and head == "wanted":
        say(f"{name} has no whole vocabulary head: {len(lacking)} of its weights start at random, {lacking[0]} first")
    return model


def task_architecture(config) -> str | None:
    """Return the architecture of a checkpoint that was fine-tuned for a task; None for one that was pretrained."""
    architecture = (config.architectures or [""])[0]
    return architecture if architecture.endswith(_TASK_ENDINGS) else None


@cache
def _announce_new_head(name: str, architecture: str) -> None:
    say(
        f"{name} was fine-tuned already ({architecture}): its encoder gets a new head and is fine-tuned again. "
        "To score it as it is: compact-biomed score"
    )


class TaskModel(NamedTuple):
    """A model with a new task head."""

    model: PreTrainedModel  # float32
    random: list[str]  # weights of the encoder that the checkpoint lacks


def load_with_new_head(name: str, head: str, labels: Sequence[str], *, seed: int) -> TaskModel:
    """Load an encoder and put a new, random task head on it; a head of the checkpoint is left out.

    Args:
        name: as `locate.find_checkpoint` takes it.
        head: a key of `HEAD_FORMS`.
        labels: the classes of the head, in the order of its outputs; they go into the
            configuration. Not used by "span"; "regression" has one output.
        seed: decides the initial weights of the head.

    Raises:
        UserError: unreachable, damaged, only available as a pickle, or without weights for a layer.
    """
    family, problem = HEAD_FORMS[head]
    torch.manual_seed(seed)
    encoder, missing = load_encoder(name)
    if architecture := task_architecture(encoder.config):
        _announce_new_head(name, architecture)
    config = encoder.config
    if family != "span":
        names = list(labels) if head != "regression" else ["score"]
        config.id2label = dict(enumerate(names))
        config.label2id = {label: i for i, label in enumerate(names)}
    config.problem_type = problem
    torch.manual_seed(seed)
    try:
        model = _auto_class(family).from_config(config, dtype=torch.float32)
    except ValueError as error:
        raise UserError(
            f"transformers has no {family} model for {config.model_type}",
            where=find_checkpoint(name),
            remedy="start from another encoder, such as a BERT, DistilBERT or MobileBERT",
        ) from error
    # A pooler is left out if this kind of task has none.
    in_model = model.base_model.state_dict()
    encoder_weights = {n: tensor for n, tensor in encoder.state_dict().items() if n in in_model and n not in missing}
    model.base_model.load_state_dict(encoder_weights, strict=False)
    return TaskModel(model, [n for n in missing if n in in_model])


class Checkpoint(NamedTuple):
    """A model with the head that it was saved with, and its tokenizer."""

    name: str  # folder or hub name
    family: str  # "mlm", "token", "sequence" or "span"
    model: PreTrainedModel  # float32, in eval mode
    tokenizer: PreTrainedTokenizerFast

    @property
    def head(self) -> str:
        """A key of `HEAD_FORMS`; for a family without such a head, the family ("mlm")."""
        problem = self.model.config.problem_type
        return next((name for name, form in HEAD_FORMS.items() if form == (self.family, problem)), self.family)

    @property
    def labels(self) -> list[str]:
        """The names of the outputs in their order; none for a masked-LM, whose outputs are the vocabulary."""
        if self.family == "mlm":
            return []
        config = self.model.config
        return ["start", "end"] if self.family == "span" else [config.id2label[i] for i in range(config.num_labels)]


def load_with_head(name: str) -> Checkpoint:
    """Load a model with the head that it was saved with, and its tokenizer.

    Args:
        name: as `locate.find_checkpoint` takes it.

    Raises:
        UserError: unreachable, damaged, without a head, or without weights for it.
    """
    location = find_checkpoint(name)
    config = _open(name, transformers.AutoConfig)
    family = _family(config)
    if family is None:
        raise UserError(
            f"no head that can be used (architecture: {_architecture(config)})",
            where=location,
            remedy="use a masked-LM, or fine-tune the model: compact-biomed evaluate --save DIR",
        )
    model, missing = _open_model(name, _auto_class(family))
    if missing:
        raise UserError(
            f"the checkpoint lacks {len(missing)} weights, {missing[0]} first",
            where=location,
            remedy="fine-tune it: compact-biomed evaluate --save DIR",
        )
    return Checkpoint(location, family, model.eval(), load_tokenizer(name, model.config))


def _auto_class(family: str):
    return getattr(transformers, f"AutoModel{_CLASS_ENDINGS[family]}")


def head_family(name: str) -> str | None:
    """Return the family of a checkpoint's head (see `Checkpoint`) without its weights; None: it has none of these.

    Args:
        name: as `locate.find_checkpoint` takes it.

    Raises:
        UserError: unreachable or damaged.
    """
    return _family(_open(name, transformers.AutoConfig))


def _family(config) -> str | None:
    """Return the family of a model's head, from the configuration's `architectures`."""
    architecture = _architecture(config)
    return next((family for family, ending in _CLASS_ENDINGS.items() if architecture.endswith(ending)), None)


def _architecture(config) -> str:
    return (config.architectures or ["none"])[0]


def load_encoder(name: str) -> tuple[PreTrainedModel, list[str]]:
    """Load an encoder; return it with the names of weights that the checkpoint lacks: a pooler's, if any.

    Args:
        name: as `find_checkpoint` takes it.

    Raises:
        UserError: unreachable, damaged, only available as a pickle, or without weights for a layer.
    """
    return _open_model(name, transformers.AutoModel)


# ---- Tokenizer and configuration


def load_tokenizer(name: str, config=None) -> PreTrainedTokenizerFast:
    """Load a checkpoint's tokenizer.

    Args:
        name: as `locate.find_checkpoint` takes it.
        config: of a model that the tokenizer must fit; it must then also know where a word begins and ends.

    Raises:
        UserError: unreachable or damaged, or a cased vocabulary that would be lower-cased; with `config`, also a slow
            tokenizer or that of another model.
    """
    tokenizer = _open(name, transformers.AutoTokenizer, use_fast=True)
    check_case(tokenizer, where=find_checkpoint(name))
    if config is None:
        return tokenizer
    if not tokenizer.is_fast:
        raise UserError(
            "this tokenizer cannot tell which word a piece belongs to",
            where=find_checkpoint(name),
            remedy="convert it to a fast one (tokenizer.json)",
        )
    check_vocabulary(tokenizer, config, where=find_checkpoint(name), spare=SPARE_ROWS)
    return tokenizer


def local_config(name: str):
    """Return the configuration of a checkpoint that is a local folder; None for any other. Download nothing."""
    folder = named_folder(name)
    return _plain_outputs(_open(name, transformers.AutoConfig)) if (folder / "config.json").is_file() else None


# ---- A model as a function from ids to logits


def input_names(model: PreTrainedModel) -> list[str]:
    """Return the names of the model's inputs, in the order in which `logits_module` takes them."""
    names = ["input_ids", "attention_mask"]
    has_types = getattr(model.config, "type_vocab_size", 0) > 1
    if has_types and "token_type_ids" in inspect.signature(model.forward).parameters:
        names.append("token_type_ids")
    return names


def logits_module(model: PreTrainedModel, family: str) -> nn.Module:
    """Wrap a model in a module (inputs in the order of `input_names`, each [batch, length] int64) -> logits.

    The logits are [batch, length, labels] ("token"), [batch, length, vocabulary] ("mlm"), [batch, labels]
    ("sequence") or [batch, length, 2], start and end ("span").
    """
    return _Logits(model, family).eval()


class _Logits(nn.Module):
    def __init__(self, model: PreTrainedModel, family: str):
        super().__init__()
        self.model, self.family, self.names = model, family, input_names(model)

    def forward(self, *inputs: Tensor) -> Tensor:
        output = self.model(**dict(zip(self.names, inputs, strict=True)), return_dict=True)
        if self.family == "span":
            return torch.stack([output.start_logits, output.end_logits], -1)
        return output.logits


# ---- Opening


def _open_model(name: str, auto_class) -> tuple[PreTrainedModel, list[str]]:
    """Return a model, float32, and the names of its weights that the checkpoint lacks: those of a head or a pooler."""
    options = {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    model, info = _open(name, auto_class, dtype=torch.float32, **options)
    _plain_outputs(model.config)
    if getattr(getattr(model.base_model, "embeddings", None), "padding_idx", 0) is None:
        raise UserError(
            f"pad_token_id is null, but a {model.config.model_type} numbers positions from it on",
            where=find_checkpoint(name),
            remedy="write the id of the tokenizer's padding token to config.json",
        )
    return model, check_loaded(model, info, where=find_checkpoint(name))


def _plain_outputs(config):
    """Let a model return named outputs, and no more of them than are asked for, whatever its configuration says."""
    config.return_dict, config.output_hidden_states = True, False
    return config


def _open(name: str, auto_class, **options):
    location, where = for_transformers(name)
    try:
        return auto_class.from_pretrained(location, trust_remote_code=False, **where, **options)
    except UserError:
        raise
    except Exception as error:  # safetensors has its own error class, hub clients have several
        raise unreadable(location, error) from error


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file.

    Raises:
        SafetensorError, OSError: it is damaged or cannot be read.
    """
    return load_file(file)


# ---- Checksums


def weights_sha256(name: str) -> str | None:
    """Return the sha256 of a checkpoint's weights, for the record; None for random weights and hub names."""
    if name == RANDOM:
        return None
    file = Path(find_checkpoint(name)) / "model.safetensors"
    return sha256_file(file) if file.is_file() else None


# Files of a checkpoint whose settings change what it computes, and the entries in them that don't.
_SETTINGS = ("config.json", "tokenizer_config.json", "special_tokens_map.json")
_OF_NO_EFFECT = {"_name_or_path", "name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype"}


def model_sha256(folder: Path) -> dict[str, str]:
    """Return checksums of a checkpoint's weights, tokenizer and settings: everything that decides what it computes.

    Raises:
        UserError: there is no tokenizer, or a settings file is damaged.
    """
    weights = sorted(folder.glob("*.safetensors"))
    sums = [sha256_file(file) for file in weights]
    tokenizer = next((folder / name for name in ("tokenizer.json", "vocab.txt") if (folder / name).is_file()), None)
    if tokenizer is None:
        raise UserError("no tokenizer in this folder", where=folder, remedy="copy tokenizer.json (or vocab.txt) there")
    return {
        "weights_sha256": sums[0] if len(sums) == 1 else sha256_json(sums),
        "tokenizer_sha256": sha256_file(tokenizer),
        "config_sha256": sha256_json([_settings(folder / name) for name in _SETTINGS]),
    }


def _settings(path: Path) -> dict[str, Any]:
    """Return the content of a settings file, without where and by which version it was written."""
    content = read_json(path, dict[str, Any], remedy=COPY_AGAIN) if path.is_file() else {}
    return {name: value for name, value in content.items() if name not in _OF_NO_EFFECT}
