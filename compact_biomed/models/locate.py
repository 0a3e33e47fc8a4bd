"""Find a checkpoint by its name: a folder, `owner/model` on the hub, or `registry:all-minilm-l6-v2`.

Nothing is opened here, except to see that a file is what its name says.
"""

import difflib
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.utils import logging

from compact_biomed.console import say
from compact_biomed.corpus import hub
from compact_biomed.corpus.registry import minilm_folder
from compact_biomed.errors import UserError
from compact_biomed.files import cache_folder
from compact_biomed.models.configuration import check_configuration

REGISTRY_MINILM = "registry:all-minilm-l6-v2"

_FILES = "config.json, model.safetensors, tokenizer.json (or vocab.txt), tokenizer_config.json"
_DOWNLOADED = ("*.json", "*.txt", "*.model", "*.safetensors")
_PICKLE = "pytorch_model.bin"
_CONVERT = (
    'run in that folder: python -c "import torch, safetensors.torch as s; '
    f"w = torch.load('{_PICKLE}', map_location='cpu', weights_only=True); "
    "s.save_file({k: v.contiguous().clone() for k, v in w.items()}, 'model.safetensors', {'format': 'pt'})\""
)
_OTHER_NAMES = ("registry:", "recipe:")  # of checkpoints that are found, or made, in other ways
_WRITTEN = r"-seed\d+$|^checkpoint-\d+$|\.(safetensors|onnx|json|bin|pt|toml|jsonl)$"  # names that end so
_EXPORTED = r"-(int8|onnx)$"  # many hub names with an owner do, too
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def find_checkpoint(name: str) -> str:
    """Return the folder of a checkpoint, or the hub name itself if there is no local copy.

    Args:
        name: `registry:all-minilm-l6-v2`, a folder, or `owner/model` on the hub. If there is no
            such folder, the files in `offline_folder(name)` are used instead of the hub's.

    Raises:
        UserError: an unknown `registry:` name, a path without a folder, a file, or a folder that
            contains neither a model nor a tokenizer.
    """
    if name == REGISTRY_MINILM:
        return str(minilm_folder())
    if name.startswith("registry:"):
        raise UserError(f"unknown registry model {name!r}", remedy=f"the only one is {REGISTRY_MINILM}")
    check_name(name)
    folder = named_folder(name)
    if folder.is_dir():
        if not any((folder / file).is_file() for file in ("config.json", "tokenizer.json")):
            raise UserError(
                "neither config.json nor tokenizer.json in this folder",
                where=folder,
                remedy="name a folder that transformers' save_pretrained wrote",
            )
        return str(folder)
    return name


def check_name(name: str) -> None:
    """Raise a `UserError` for a name that can only be a path on this machine, and where no folder is.

    Commands call this first: it asks no hub, and needs none of the libraries that take long to load.
    """
    if name.startswith(_OTHER_NAMES) or (folder := named_folder(name)).is_dir():
        return
    if folder.is_file():
        raise UserError("a file, not a checkpoint folder", where=name, remedy="name the folder that contains it")
    if not is_hub_name(name) or _looks_local(name):
        near = _siblings_like(folder)
        remedy = f"did you mean {near}?" if near else "give a checkpoint folder or a hub name owner/model"
        raise UserError("no such folder", where=name, remedy=remedy)


def _looks_local(name: str) -> bool:
    """Return whether what could be a hub's OWNER/NAME or NAME is more likely a path.

    It is if OWNER is a folder here, or if the name is one that this package gives to what it writes.
    """
    owner, slash, last = name.rpartition("/")
    if slash and (Path(owner).is_dir() or owner == "runs"):
        return True
    return re.search(_WRITTEN if slash else f"{_WRITTEN}|{_EXPORTED}", last) is not None


def _siblings_like(folder: Path) -> str | None:
    """Return the path of a checkpoint beside the missing one that has nearly its name."""
    parent = folder.parent
    names = [path.parent.name for path in parent.glob("*/config.json")] if parent.is_dir() else []
    near = difflib.get_close_matches(folder.name, names, n=1)
    return str(parent / near[0]) if near else None


def for_transformers(name: str) -> tuple[str, dict[str, Any]]:
    """Return a folder or hub name and the options with which `from_pretrained` opens it.

    A request to the hub is announced. Without a network, only what the hub's client has downloaded before is used.

    Raises:
        UserError: see `find_checkpoint`; or a file that is a Git LFS pointer or of wrong content.
    """
    location = find_checkpoint(name)
    if os.path.isdir(location):
        _check_no_pointers(Path(location))
        check_configuration(Path(location))
        return location, {}
    _announce(location)
    return location, {} if hub.is_reachable() else {"local_files_only": True}


def local_folder(name: str) -> Path:
    """Return the folder of a checkpoint on this machine; download it from the hub if necessary.

    Raises:
        UserError: unreachable, or without weights as safetensors.
    """
    location, options = for_transformers(name)
    if not os.path.isdir(location):
        try:
            location = snapshot_download(location, allow_patterns=list(_DOWNLOADED), **options)
        except Exception as error:  # hub clients have several error classes
            raise unreadable(location, error) from error
    folder = Path(location)
    if not any(folder.glob("*.safetensors")):
        raise unreadable(str(folder), FileNotFoundError("no weights in this folder"))
    return folder


def offline_folder(name: str) -> Path:
    """Return the folder into which a user without access to the hub puts a hub model's files."""
    return cache_folder() / "models" / name


def named_folder(name: str) -> Path:
    """Return the folder of that name, or else the offline folder of the hub model of that name."""
    folder = Path(name).expanduser()
    use_copy = is_hub_name(name) and not folder.exists() and offline_folder(name).is_dir()
    return offline_folder(name) if use_copy else folder


def unreadable(location: str, error: Exception) -> UserError:
    """Return the one-line form of an error of transformers or of the hub's client.

    Args:
        location: the folder or the hub name.
    """
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if os.path.isdir(location):
        if (Path(location) / _PICKLE).is_file() and not any(Path(location).glob("*.safetensors")):
            return UserError(
                f"its weights are in {_PICKLE} only; no pickles are read: they can run code",
                where=location,
                remedy=f"if you trust it, {_CONVERT}",
            )
        if (Path(location) / "model.onnx").is_file() and not any(Path(location).glob("*.safetensors")):
            what = "an export to ONNX, where a checkpoint is needed"
            return UserError(what, where=location, remedy="name the checkpoint from which it was exported")
        return UserError(
            f"cannot be read: {reason}", where=location, remedy=f"the folder must contain {_FILES}; no pickles"
        )
    remedy = (
        f"check the name, or copy {_FILES} of {location} to {offline_folder(location)} (weights as safetensors; "
        f"convert a {_PICKLE} on a machine where you trust it), or name a folder instead"
    )
    if not hub.is_reachable():
        return UserError("no such folder, and the model hub cannot be reached", where=location, remedy=remedy)
    reason = hub.reason_of(error) or reason
    return UserError(f"cannot download {location} from the model hub: {reason}", remedy=remedy)


def is_hub_name(name: str) -> bool:
    """Return whether a model of that name may be on the hub: MODEL or OWNER/MODEL."""
    return re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name) is not None


def _check_no_pointers(folder: Path) -> None:
    """Raise a `UserError` if a clone without Git LFS left pointers in place of files."""
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.stat().st_size > 1024:
            continue
        with open(path, "rb") as file:
            if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
                raise UserError(
                    "a Git LFS pointer, not the file itself",
                    where=path,
                    remedy=f"fetch it: git -C {folder} lfs pull; or download the file",
                )


@cache
def _announce(name: str) -> None:
    logging.set_verbosity_error()
    say(f"no folder {name} here: asking the model hub ...")
