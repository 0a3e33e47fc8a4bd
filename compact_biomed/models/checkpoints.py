"""Checkpoints: the only module that opens them.

A checkpoint has a name: a folder, `owner/model` on the hub, or `registry:all-minilm-l6-v2`. There are three ways to
load one, all in float32:

* `load_masked_lm`: the encoder and its vocabulary head, to pretrain or distill further.
* `load_with_new_head`: the encoder under a new, random task head, to fine-tune. A head of the checkpoint is left out.
* `load_with_head`: the model with the head that it was saved with, and its tokenizer, to predict, teach or export.

Only safetensors files are read, and no code that comes with a model is run.
"""

import inspect
import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.utils import logging
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from compact_biomed.console import say
from compact_biomed.corpus.registry import minilm_folder
from compact_biomed.errors import UserError
from compact_biomed.files import cache_folder, sha256_file, sha256_json
from compact_biomed.settings import Range, read_json

REGISTRY_MINILM = "registry:all-minilm-l6-v2"
RANDOM = "random"  # in place of a checkpoint's name: random weights

_FILES = "config.json, model.safetensors, tokenizer.json (or vocab.txt), tokenizer_config.json"

_COPY = "copy the file again from where the weights are from"
_Size = Annotated[int, Range(1, 2**31)]


class _Config(TypedDict, total=False):
    """Entries of config.json that this package reads, or whose wrong type transformers does not report."""

    model_type: str
    architectures: list[str] | None
    problem_type: str | None
    id2label: dict[str, str]
    label2id: dict[str, int]
    vocab_size: _Size
    hidden_size: _Size
    num_hidden_layers: _Size
    num_attention_heads: _Size
    intermediate_size: _Size
    max_position_embeddings: Annotated[int, Range(-1, 2**31)]
    type_vocab_size: Annotated[int, Range(0, 2**31)]
    pad_token_id: Annotated[int, Range(-1, 2**31)] | None
    layer_norm_eps: float
    initializer_range: float
    hidden_dropout_prob: Annotated[float, Range(0, 1)]
    attention_probs_dropout_prob: Annotated[float, Range(0, 1)]
    return_dict: bool


class _TokenizerConfig(TypedDict, total=False):
    model_max_length: Annotated[float, Range(1)]
    tokenizer_class: str
    do_lower_case: bool


_SCHEMAS: dict[str, Any] = {
    "config.json": _Config,
    "tokenizer_config.json": _TokenizerConfig,
    "tokenizer.json": dict[str, Any],
    "special_tokens_map.json": dict[str, Any],
}

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


def quiet_transformers() -> None:
    """Silence transformers' notes (on new heads) and progress bars (on loading)."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


# ---- Three ways to load a model


def load_masked_lm(name: str) -> PreTrainedModel:
    """Load an encoder with its vocabulary head, float32.

    Args:
        name: as `find_checkpoint` takes it.

    Raises:
        UserError: unreachable, damaged, or only available as a pickle.
    """
    return _open_model(name, _auto_class("mlm"))


class TaskModel(NamedTuple):
    """A model with a new task head."""

    model: PreTrainedModel  # float32
    random: list[str]  # weights of the encoder that the checkpoint lacks


def load_with_new_head(name: str, head: str, labels: Sequence[str], *, seed: int) -> TaskModel:
    """Load an encoder and put a new, random task head on it; a head of the checkpoint is left out.

    Args:
        name: as `find_checkpoint` takes it.
        head: a key of `HEAD_FORMS`.
        labels: the classes of the head, in the order of its outputs; they go into the
            configuration. Not used by "span"; "regression" has one output.
        seed: decides the initial weights of the head.

    Raises:
        UserError: unreachable, damaged, only available as a pickle, or without weights for a layer.
    """
    family, problem = HEAD_FORMS[head]
    torch.manual_seed(seed)
    encoder, missing = _load_encoder(name)
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


def load_with_head(name: str) -> Checkpoint:
    """Load a model with the head that it was saved with, and its tokenizer.

    Args:
        name: as `find_checkpoint` takes it.

    Raises:
        UserError: unreachable, damaged, without a head, or without weights for it.
    """
    location = find_checkpoint(name)
    family = _family(_open(name, transformers.AutoConfig), where=location)
    model, info = _open_model(name, _auto_class(family), output_loading_info=True)
    if missing := sorted(info["missing_keys"]):
        raise UserError(
            f"the checkpoint lacks {len(missing)} weights, {missing[0]} first",
            where=location,
            remedy="fine-tune it: compact-biomed evaluate --save DIR",
        )
    return Checkpoint(location, family, model.eval(), load_tokenizer(name, model.config))


def _auto_class(family: str):
    return getattr(transformers, f"AutoModel{_CLASS_ENDINGS[family]}")


def _family(config, *, where: str) -> str:
    """Return the family of a model's head, from the configuration's `architectures`."""
    architecture = (config.architectures or ["none"])[0]
    for family, ending in _CLASS_ENDINGS.items():
        if architecture.endswith(ending):
            return family
    raise UserError(
        f"no head that can be used (architecture: {architecture})",
        where=where,
        remedy="use a masked-LM, or fine-tune the model: compact-biomed evaluate --save DIR",
    )


def _load_encoder(name: str) -> tuple[PreTrainedModel, list[str]]:
    """Return an encoder, and the names of its weights that the checkpoint lacks: at most those of the pooler."""
    model, info = _open_model(name, transformers.AutoModel, output_loading_info=True)
    missing = sorted(info["missing_keys"])
    if lacking := [key for key in missing if not key.startswith("pooler.")]:
        raise UserError(
            f"the checkpoint lacks {len(lacking)} weights of the encoder, {lacking[0]} first",
            where=find_checkpoint(name),
            remedy="copy the config.json that was saved with these weights",
        )
    return model, missing


# ---- Tokenizer and configuration


def load_tokenizer(name: str, config=None) -> PreTrainedTokenizerFast:
    """Load a checkpoint's tokenizer.

    Args:
        name: as `find_checkpoint` takes it.
        config: of a model that the tokenizer must fit; it must then also know where a word begins and ends.

    Raises:
        UserError: unreachable or damaged; with `config`, also a slow tokenizer or that of another model.
    """
    tokenizer = _open(name, transformers.AutoTokenizer, use_fast=True)
    if config is None:
        return tokenizer
    if not tokenizer.is_fast:
        raise UserError(
            "this tokenizer cannot tell which word a piece belongs to",
            where=find_checkpoint(name),
            remedy="convert it to a fast one (tokenizer.json)",
        )
    # Embeddings padded to a multiple of 128 are fine; the vocabulary of another model differs by more.
    check_vocabulary(tokenizer, config, where=find_checkpoint(name), spare=127)
    return tokenizer


def check_vocabulary(tokenizer: PreTrainedTokenizerFast, config, *, where: str, spare: int = 0) -> None:
    """Raise a `UserError` if the ids of the tokenizer and the rows of the embedding do not match.

    With a wrong vocabulary a model trains without any error, on [UNK] or on other words.
    Published BERT vocabularies match to the unit; the embeddings of some models are padded.

    Args:
        spare: number of rows that may remain unused.
    """
    if not 0 <= config.vocab_size - len(tokenizer) <= spare:
        raise UserError(
            f"the tokenizer has {len(tokenizer):,} entries, the model's embedding {config.vocab_size:,} rows",
            where=where,
            remedy="use the tokenizer that was saved with these weights",
        )


def local_config(name: str):
    """Return the configuration of a checkpoint that is a local folder; None for any other. Download nothing."""
    folder = _local(name)
    if not (folder / "config.json").is_file():
        return None
    return _open(name, transformers.AutoConfig)


def longest_input(config) -> int | None:
    """Return the largest number of tokens that has position embeddings, special tokens included; None = no limit."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions <= 0:
        return None
    # RoBERTa and its relatives number positions from behind the padding id on.
    return positions - config.pad_token_id - 1 if config.model_type.endswith("roberta") else positions


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


# ---- Locating a checkpoint


def find_checkpoint(name: str) -> str:
    """Return the folder of a checkpoint, or the hub name itself if there is no local copy.

    Args:
        name: `registry:all-minilm-l6-v2`, a folder, or `owner/model` on the hub. If there is no
            such folder, the files in `offline_folder(name)` are used instead of the hub's.

    Raises:
        UserError: an unknown `registry:` name, a file, or a folder that contains neither a model
            nor a tokenizer.
    """
    if name == REGISTRY_MINILM:
        return str(minilm_folder())
    if name.startswith("registry:"):
        raise UserError(f"unknown registry model {name!r}", remedy=f"the only one is {REGISTRY_MINILM}")
    folder = _local(name)
    if folder.is_dir():
        if not any((folder / file).is_file() for file in ("config.json", "tokenizer.json")):
            raise UserError(
                "neither config.json nor tokenizer.json in this folder",
                where=folder,
                remedy="name a folder that transformers' save_pretrained wrote",
            )
        return str(folder)
    if folder.is_file():
        raise UserError("a file, not a checkpoint folder", where=name, remedy="name the folder that contains it")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError("no such folder", where=name, remedy="give a checkpoint folder or a hub name owner/model")
    return name


def local_folder(name: str) -> Path:
    """Return the folder of a checkpoint on this machine; download it from the hub if necessary.

    Raises:
        UserError: unreachable, or without weights as safetensors.
    """
    location = _announced(name)
    if not os.path.isdir(location):
        try:
            location = snapshot_download(location, allow_patterns=["*.json", "*.txt", "*.model", "*.safetensors"])
        except Exception as error:  # hub clients have several error classes
            raise _unreachable(name, location, error) from error
    folder = Path(location)
    if not any(folder.glob("*.safetensors")):
        raise UserError("no weights in this folder", where=folder, remedy=f"it must contain {_FILES}")
    return folder


def offline_folder(name: str) -> Path:
    """Return the folder into which a user without access to the hub puts a hub model's files."""
    return cache_folder() / "models" / name


def _local(name: str) -> Path:
    """Return the folder of that name, or else the offline folder of the hub model of that name."""
    folder = Path(name).expanduser()
    is_hub_name = re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name) is not None
    return offline_folder(name) if is_hub_name and not folder.exists() and offline_folder(name).is_dir() else folder


def _announced(name: str) -> str:
    """Return `find_checkpoint(name)`; announce a request to the hub, whose client retries for half a minute."""
    location = find_checkpoint(name)
    if not os.path.isdir(location):
        _announce(name)
    return location


@cache
def _announce(name: str) -> None:
    logging.set_verbosity_error()
    say(f"asking the model hub for {name} ...")


# ---- Opening


def check_settings(folder: Path) -> None:
    """Check the settings of a local checkpoint before transformers reads them.

    Raises:
        UserError: not JSON, or an entry of the wrong type.
    """
    for name, schema in _SCHEMAS.items():
        if (folder / name).is_file():
            read_json(folder / name, schema, remedy=_COPY)


def _open_model(name: str, auto_class, **options):
    return _open(name, auto_class, dtype=torch.float32, use_safetensors=True, **options)


def _open(name: str, auto_class, **options):
    location = _announced(name)
    check_settings(Path(location))
    try:
        return auto_class.from_pretrained(location, trust_remote_code=False, **options)
    except UserError:
        raise
    except Exception as error:  # safetensors has its own error class, hub clients have several
        raise _unreachable(name, location, error) from error


def _unreachable(name: str, location: str, error: Exception) -> UserError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if os.path.isdir(location):
        return UserError(
            f"cannot be read: {reason}", where=location, remedy=f"the folder must contain {_FILES}; no pickles"
        )
    return UserError(
        f"cannot download {name} from the model hub: {reason}",
        remedy=f"copy {_FILES} of {name} to {offline_folder(name)} (weights as safetensors; convert a "
        f"pytorch_model.bin on a machine where you trust it), or name a folder instead",
    )


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
    content = read_json(path, dict[str, Any], remedy=_COPY) if path.is_file() else {}
    return {name: value for name, value in content.items() if name not in _OF_NO_EFFECT}
