"""Where a model starts from: a hub name, a local folder, the package index, or random weights.

Only safetensors files are read, and no code that comes with a model is run.
"""

import inspect
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.utils import logging
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from compact_biomed.console import say
from compact_biomed.corpus.registry import minilm_folder
from compact_biomed.errors import UserError
from compact_biomed.files import cache_folder, sha256_file, sha256_json

REGISTRY_MINILM = "registry:all-minilm-l6-v2"
RANDOM = "random"
NEEDED_FILES = ("config.json", "model.safetensors", "tokenizer.json (or vocab.txt)", "tokenizer_config.json")


def quiet_transformers() -> None:
    """transformers' own notes (on new heads) and bars (on loading) give way to our words."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def find_checkpoint(name: str) -> str:
    """A folder for a start name, or the hub name itself if no local copy of it exists.

    Args:
        name: `registry:all-minilm-l6-v2`, a folder, or `owner/model` on the hub. A hub
            model brought by hand into `<cache>/models/owner/model/` is used in its place,
            unless a folder here has that name.

    Raises:
        UserError: an unknown `registry:` name, a file, or a folder that holds neither a model nor a
            tokenizer.
    """
    if name == REGISTRY_MINILM:
        return str(minilm_folder())
    if name.startswith("registry:"):
        raise UserError(f"unknown registry model {name!r}", remedy=f"the only one is {REGISTRY_MINILM}")
    folder = _here(name)
    if folder.is_dir():
        if not any((folder / name).is_file() for name in ("config.json", "tokenizer.json")):
            raise UserError(
                "neither config.json nor tokenizer.json in this folder",
                where=folder,
                remedy="is it a checkpoint of transformers?",
            )
        return str(folder)
    if folder.is_file():
        raise UserError("a file, not a checkpoint folder", where=name, remedy="name the folder that holds it")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError("no such folder", where=name, remedy="give a checkpoint folder or a hub name owner/model")
    return name


def config_at_hand(name: str):
    """The configuration of a checkpoint that lies in a folder here; None for any other start name. Fetches nothing."""
    folder = _here(name)
    return AutoConfig.from_pretrained(folder) if (folder / "config.json").is_file() else None


def _here(name: str) -> Path:
    """The folder of that name, or else what was brought of the hub model of that name."""
    folder = Path(name).expanduser()
    of_hub = re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name) is not None
    return brought_folder(name) if of_hub and not folder.exists() and brought_folder(name).is_dir() else folder


def brought_folder(name: str) -> Path:
    """Where a user without access to the hub puts a hub model's files."""
    return cache_folder() / "models" / name


def resolve_tokenizer(name: str) -> "PreTrainedTokenizerFast":
    """The tokenizer of a start checkpoint.

    Raises:
        UserError: unreachable or broken.
    """
    place = _announced(name)
    try:
        return AutoTokenizer.from_pretrained(place, use_fast=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise _unreachable(name, place, error) from error


def load_masked_lm(name: str) -> "PreTrainedModel":
    """The masked-LM of a start checkpoint, float32.

    Raises:
        UserError: unreachable, broken, or only available as a pickle.
    """
    return _load(name, AutoModelForMaskedLM)


def load_encoder(name: str) -> tuple["PreTrainedModel", list[str]]:
    """The encoder of a start checkpoint, float32, whatever head the checkpoint carries.

    Returns:
        The model, and the names of its weights that the checkpoint lacks (they are random): those of the pooler.

    Raises:
        UserError: unreachable, broken, only available as a pickle, or without weights for a layer.
    """
    model, info = _load(name, AutoModel, output_loading_info=True)
    missing = sorted(info["missing_keys"])
    if lacking := [key for key in missing if not key.startswith("pooler.")]:
        raise UserError(
            f"the checkpoint lacks {len(lacking)} weights of the encoder, {lacking[0]} first",
            where=find_checkpoint(name),
            remedy="does config.json belong to these weights?",
        )
    return model, missing


def _load(name: str, auto_class, **options):
    place = _announced(name)
    try:
        return auto_class.from_pretrained(
            place, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, **options
        )
    except Exception as error:  # safetensors has an error class of its own, hub clients several
        if isinstance(error, UserError | KeyboardInterrupt):
            raise
        raise _unreachable(name, place, error) from error


def _announced(name: str) -> str:
    """`find_checkpoint`; says so before the hub is asked, whose client retries for half a minute."""
    place = find_checkpoint(name)
    if not os.path.isdir(place):
        logging.set_verbosity_error()
        say(f"asking the model hub for {name} ...")
    return place


def weights_sha256(name: str) -> str | None:
    """The sha256 of the start weights, for the record; None for random weights and hub names."""
    if name == RANDOM:
        return None
    file = Path(find_checkpoint(name)) / "model.safetensors"
    return sha256_file(file) if file.is_file() else None


def local_folder(name: str) -> Path:
    """The files of a start checkpoint on this machine; fetched from the hub if need be.

    Raises:
        UserError: unreachable, or without weights as safetensors.
    """
    place = _announced(name)
    if not os.path.isdir(place):
        try:
            place = snapshot_download(place, allow_patterns=["*.json", "*.txt", "*.model", "*.safetensors"])
        except Exception as error:  # hub clients have several error classes
            raise _unreachable(name, place, error) from error
    folder = Path(place)
    if not any(folder.glob("*.safetensors")):
        raise UserError("no weights here", where=folder, remedy=f"expected files: {', '.join(NEEDED_FILES)}")
    return folder


def check_vocabulary(tokenizer: "PreTrainedTokenizerFast", config, *, where: str, spare: int = 0) -> None:
    """Stop if the ids of the tokenizer and the rows of the embedding do not match.

    A vocabulary that does not fit trains without any error, on [UNK] or on other words.
    Published BERT vocabularies match to the unit; some models' embeddings are padded.

    Args:
        spare: how many rows may be left over.
    """
    if not 0 <= config.vocab_size - len(tokenizer) <= spare:
        raise UserError(
            f"the tokenizer has {len(tokenizer):,} entries, the model's embedding {config.vocab_size:,} rows",
            where=where,
            remedy="use the tokenizer that was saved with these weights",
        )


def _unreachable(name: str, place: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if os.path.isdir(place):
        return UserError(
            f"cannot be read: {reason}", where=place, remedy=f"expected files: {', '.join(NEEDED_FILES)}; no pickles"
        )
    return UserError(
        f"the model hub could not give {name}: {reason}",
        remedy=f"bring {', '.join(NEEDED_FILES)} of {name} to {brought_folder(name)} (weights as safetensors; a "
        f"pytorch_model.bin must be converted on a machine where you trust it), or name a folder instead",
    )


# ----------------------------------------------------------------------------------------------------
# A checkpoint's encoder under a new task head.


_AUTO_CLASSES = {
    "token": "AutoModelForTokenClassification",
    "sequence": "AutoModelForSequenceClassification",
    "span": "AutoModelForQuestionAnswering",
}


# Kind of task head -> the family of transformers' models that carries it, and its problem type in the configuration.
HEAD_FORMS: dict[str, tuple[str, str | None]] = {
    "token": ("token", None),
    "sequence": ("sequence", "single_label_classification"),
    "multilabel": ("sequence", "multi_label_classification"),
    "regression": ("sequence", "regression"),
    "span": ("span", None),
}


class TaskModel(NamedTuple):
    model: "PreTrainedModel"  # float32
    random: list[str]  # weights of the encoder that the checkpoint lacks


def build(name: str, head: str, labels: Sequence[str], *, seed: int) -> TaskModel:
    """Load an encoder and put a new head on it; a head that the checkpoint brings is left out.

    Args:
        name: as `models.start.find_checkpoint` takes it.
        head: a name in `HEAD_FORMS`.
        labels: what the head tells apart, in the order of its outputs; they go into the
            configuration. Not used by "span"; "regression" has one output.
        seed: decides the head's start weights.

    Raises:
        UserError: weights that cannot be had or do not fit their configuration.
    """

    family, problem = HEAD_FORMS[head]
    torch.manual_seed(seed)
    encoder, missing = load_encoder(name)
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
            f"transformers has no {family} model for {config.model_type}", where=find_checkpoint(name)
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
    tokenizer = resolve_tokenizer(name)
    if not tokenizer.is_fast:
        raise UserError(
            "this tokenizer cannot tell which word a piece belongs to",
            where=find_checkpoint(name),
            remedy="convert it to a fast one (tokenizer.json)",
        )
    # Embeddings padded to a multiple of 128 are fine; another model's vocabulary differs by more.
    check_vocabulary(tokenizer, config, where=find_checkpoint(name), spare=127)
    return tokenizer


def longest_input(config) -> int | None:
    """Most tokens that the position embeddings reach, special tokens included; None = no limit."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions <= 0:
        return None
    # RoBERTa and its kin number positions from behind the padding id on.
    return positions - config.pad_token_id - 1 if config.model_type.endswith("roberta") else positions


# ----------------------------------------------------------------------------------------------------
# A checkpoint with its head, as a function from ids to logits.


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
        """A name in `HEAD_FORMS`; a family without such a head names itself ("mlm")."""
        problem = self.model.config.problem_type
        return next((name for name, form in HEAD_FORMS.items() if form == (self.family, problem)), self.family)


def load(name: str) -> Checkpoint:
    """A model with the head that the checkpoint carries, and its tokenizer.

    Args:
        name: as `models.start.find_checkpoint` takes it.

    Raises:
        UserError: it cannot be read, has no head, or lacks weights for it.
    """
    place = find_checkpoint(name)
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


# Files of a checkpoint whose settings change what it computes, and the entries in them that don't.
_SETTINGS = ("config.json", "tokenizer_config.json", "special_tokens_map.json")
_OF_NO_EFFECT = {"_name_or_path", "name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype"}


def model_sha256(folder: Path) -> dict[str, str]:
    """Checksums of a checkpoint's weights, tokenizer and settings: all that decides what it computes."""
    weights = sorted(folder.glob("*.safetensors"))
    sums = [sha256_file(file) for file in weights]
    tokenizer = next((folder / name for name in ("tokenizer.json", "vocab.txt") if (folder / name).is_file()), None)
    if tokenizer is None:
        raise UserError("no tokenizer in this folder", where=folder, remedy="tokenizer.json (or vocab.txt) is needed")
    return {
        "weights_sha256": sums[0] if len(sums) == 1 else sha256_json(sums),
        "tokenizer_sha256": sha256_file(tokenizer),
        "config_sha256": sha256_json([_settings(folder / name) for name in _SETTINGS]),
    }


def _settings(path: Path) -> dict[str, Any]:
    """What a settings file decides, without where and by which version it was written."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
    except ValueError as error:
        raise UserError(
            f"not the settings of a checkpoint: {error}", where=path, remedy="copy the file again"
        ) from error
    return {name: value for name, value in content.items() if name not in _OF_NO_EFFECT}
