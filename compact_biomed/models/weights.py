"""Whether the weights of a checkpoint are those of the model that its configuration describes.

transformers fills what a file lacks with random numbers and drops what it does not know; both train without any error.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compact_biomed.errors import UserError

_OTHER_CONFIG = "copy the config.json that was saved with these weights"
# Buffers that earlier versions of transformers saved.
_BUFFERS = {"position_ids", "token_type_ids", "inv_freq"}


def check_loaded(model: PreTrainedModel, info: Mapping[str, Any], *, where: object) -> list[str]:
    """Check what transformers loaded; return the weights that the file lacks: none of the encoder, a pooler aside.

    Heads of the file that the model does not have are fine; other weights that it does not have are not.

    Args:
        info: what `from_pretrained(output_loading_info=True, ignore_mismatched_sizes=True)` returns beside the model.
        where: folder or hub name, for the message.

    Raises:
        UserError: weights of another shape, weights that are missing or left over in the encoder, or numbers that are
            not finite. The message names the first.
    """
    missing, surplus = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    if lacking := _of_encoder(missing, model):
        remedy = _OTHER_CONFIG
        if wrapped := [name for name in surplus if name.startswith(("module.", "_orig_mod."))]:
            remedy = f"its names begin with {wrapped[0].split('.')[0]}.: save the model inside the wrapper"
        raise UserError(
            f"the checkpoint lacks {len(lacking)} weights of the encoder, {lacking[0]} first",
            where=where,
            remedy=remedy,
        )
    if mismatched := sorted(info["mismatched_keys"], key=lambda entry: entry[0]):
        name, in_file, in_model = mismatched[0]
        raise UserError(
            f"{name} is {_shape(in_file)} in the weights and {_shape(in_model)} by config.json",
            where=where,
            remedy=_OTHER_CONFIG,
        )
    buffers = _BUFFERS | {name.rpartition(".")[2] for name, _ in model.named_buffers()}
    if unread := [name for name in _of_encoder(surplus, model) if name.rpartition(".")[2] not in buffers]:
        raise UserError(
            f"the encoder of config.json has no place for {len(unread)} of the weights, {unread[0]} first",
            where=where,
            remedy=_OTHER_CONFIG,
        )
    check_finite(model.state_dict().items(), where=where)
    return missing


def of_head(names: Iterable[str], model: PreTrainedModel) -> list[str]:
    """Return those of a model's weights that belong to its head; a pooler belongs to neither head nor encoder."""
    names = [name for name in names if _part(name, model) != "pooler"]
    in_encoder = set(_of_encoder(names, model))
    return [name for name in names if name not in in_encoder]


def check_finite(tensors: Iterable[tuple[str, Tensor]], *, where: object, remedy: str = "") -> None:
    """Raise a `UserError` that names the first tensor with a NaN or an infinity.

    A sum reads each number once, and is not finite if one of them is not. Only then are they looked at one by one.
    """
    for name, tensor in tensors:
        if not tensor.is_floating_point() or bool(torch.isfinite(tensor.sum())):
            continue
        broken = int((~torch.isfinite(tensor)).sum())
        if broken:
            raise UserError(
                f"{broken:,} of the {tensor.numel():,} numbers in {name} are not finite (NaN or infinite)",
                where=where,
                remedy=remedy or "the training has diverged or the file is damaged: take an earlier checkpoint",
            )


def _of_encoder(names: Iterable[str], model: PreTrainedModel) -> list[str]:
    """Return those weights, of the model or of the file, that belong to the encoder; a pooler does not."""
    parts = {name.partition(".")[0] for name in model.base_model.state_dict()} - {"pooler"}
    return [name for name in names if _part(name, model) in parts]


def _part(name: str, model: PreTrainedModel) -> str:
    """Return which part a weight belongs to: "embeddings", "encoder", "cls", ..."""
    # A model with a head gives its encoder's weights a prefix; a file that was saved without a head does not.
    return name.removeprefix(f"{model.base_model_prefix}.").partition(".")[0]


def _shape(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))
