"""Where a model starts from: a hub name, a local folder, the package index, or random weights.

Only safetensors files are read, and no code that comes with a model is run.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from compact_biomed.console import say
from compact_biomed.errors import UserError
from compact_biomed.files import cache_folder, sha256_file

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

REGISTRY_MINILM = "registry:all-minilm-l6-v2"
RANDOM = "random"
NEEDED_FILES = ("config.json", "model.safetensors", "tokenizer.json (or vocab.txt)", "tokenizer_config.json")


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
        from compact_biomed.corpus.fetch import minilm_folder

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
    from transformers import AutoConfig

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
    from transformers import AutoTokenizer

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
    from transformers import AutoModelForMaskedLM

    return _load(name, AutoModelForMaskedLM)


def load_encoder(name: str) -> tuple["PreTrainedModel", list[str]]:
    """The encoder of a start checkpoint, float32, whatever head the checkpoint carries.

    Returns:
        The model, and the names of its weights that the checkpoint lacks (they are random): those of the pooler.

    Raises:
        UserError: unreachable, broken, only available as a pickle, or without weights for a layer.
    """
    from transformers import AutoModel

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
    import torch

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
        from huggingface_hub.utils import logging

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
        from huggingface_hub import snapshot_download

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
