"""What computes: the PyTorch model of a checkpoint, or the ONNX model of an exported folder.

Both take one unpadded input at a time, on one core; several threads may ask at once. So an answer does not
depend, to the bit, on what is computed beside it: in a padded batch sums are taken in another order, and a
dynamically quantized model would scale its activations by the whole batch.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from compact_biomed.compress.export import FORMAT, MANIFEST, MODEL, labels_of
from compact_biomed.compress.to_onnx import SLOWER
from compact_biomed.engine.plan import bf16_is_faster
from compact_biomed.errors import UserError
from compact_biomed.files import sha256_file
from compact_biomed.models import checkpoints
from compact_biomed.models.checkpoints import load_tokenizer, longest_input
from compact_biomed.objectives.task import TaskObjective

_READ = ("tokenizer", "special_tokens", "config")  # besides, what transformers reads of an exported folder


class Engine(Protocol):
    """A model that is ready.

    Attributes:
        family: "token", "sequence" or "span".
        labels: names of the outputs.
        problem_type: transformers' name of the kind of classes, or None.
        limit: most tokens it reads at once, special ones included.
        precision: "fp32", "bf16" or "int8".
    """

    family: str
    labels: list[str]
    problem_type: str | None
    limit: int
    precision: str
    tokenizer: "PreTrainedTokenizerFast"

    def __call__(self, ids: Sequence[int], types: Sequence[int] | None = None) -> np.ndarray:
        """Float32 logits of one input: [length, labels] ("token", "span") or [labels] ("sequence").

        Args:
            ids: special tokens included.
            types: token types; all 0 by default.
        """


class TorchEngine:
    """A checkpoint as `evaluate` computes it.

    Args:
        name: folder or hub name of a fine-tuned checkpoint.
        precision: "auto" (bf16 where the processor computes it), "bf16" or "fp32".
    """

    def __init__(self, name: str, precision: str = "auto"):

        found = checkpoints.load_with_head(name)
        config = found.model.config
        _require_task(found.family, name)
        self.family, self.tokenizer = found.family, found.tokenizer
        self.labels, self.problem_type = labels_of(config, found.family), config.problem_type
        self.limit = longest_input(config) or 512
        self._types = "token_type_ids" in checkpoints.input_names(found.model)
        bf16 = precision == "bf16" or (precision == "auto" and bf16_is_faster())
        self.precision = "bf16" if bf16 else "fp32"
        self._objective = TaskObjective(found.model, found.head, dtype=torch.bfloat16 if bf16 else torch.float32).eval()
        with torch.inference_mode():
            self._weights = self._objective.cast(self._objective.prepare()) if self._objective.fast else None

    def __call__(self, ids, types=None):
        with torch.inference_mode():
            given = torch.tensor([ids])
            kinds = torch.tensor([types]) if self._types and types is not None else None
            wanted = self._objective.head.prediction_positions(torch.ones_like(given))
            mask = None if self._objective.fast else torch.ones_like(given)
            rows = self._objective.logits(given, mask, kinds, wanted, prepared=self._weights).float().numpy()
        return rows[0] if self.family == "sequence" else rows


class OnnxEngine:
    """A folder that `compact-biomed export` made.

    Args:
        folder: with manifest.json.
    """

    def __init__(self, folder: Path | str):
        folder = Path(folder)
        about = _manifest(folder)
        _require_task(about["family"], folder)
        self.family, self.labels, self.problem_type = about["family"], about["labels"], about["problem_type"]
        self.limit, self._inputs, self.precision = about["max_length"], about["inputs"], about["precision"]
        self.tokenizer = load_tokenizer(str(folder))
        self._session = session(folder / MODEL, threads=1)

    def __call__(self, ids, types=None):
        arrays = {"input_ids": ids, "attention_mask": [1] * len(ids), "token_type_ids": types or [0] * len(ids)}
        return self._session.run(None, {name: np.array([arrays[name]], np.int64) for name in self._inputs})[0][0]


def engine_of(place: Path | str, precision: str = "auto") -> Engine:
    """What computes the model in a folder: an export, or a checkpoint.

    Args:
        precision: of a checkpoint; an export has its own.
    """
    if not is_exported(place):
        return TorchEngine(str(place), precision)
    engine = OnnxEngine(place)
    if precision not in ("auto", engine.precision):
        raise UserError(f"an export in {engine.precision}", where=f"--precision {precision}", remedy="leave it out")
    return engine


def session(path: Path, *, threads: int):
    """An onnxruntime session on the processor, each call of it on `threads` cores.

    Raises:
        UserError: onnxruntime is missing or cannot read the file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            "onnxruntime is not installed", where=path, remedy="python -m pip install 'compact-biomed[export]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOWER
        )
    except Exception as error:  # onnxruntime's own classes
        raise UserError(
            f"cannot be read: {str(error).splitlines()[0]}", where=path, remedy="export it again"
        ) from error


def is_exported(place: Path | str) -> bool:
    """Whether this is a folder that `compact-biomed export` made."""
    return (Path(place) / MANIFEST).is_file()


def _manifest(folder: Path) -> dict:
    """The manifest of an exported folder, whose files are as they were written."""
    place = folder / MANIFEST
    try:
        about = json.loads(place.read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}")
        sums = about["sha256"]
        lacking = {"labels", "problem_type", "inputs", "max_length", "precision"} - about.keys()
        if lacking or about["family"] not in ("mlm", "token", "sequence", "span"):
            raise ValueError(f"lacks {', '.join(sorted(lacking)) or 'a family that is known'}")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"no manifest of an export: {error}", where=place, remedy="export it again") from error
    for name in {MODEL, "tokenizer.json", *(name for name in sums if name.startswith(_READ))}:
        if not (folder / name).is_file() or sha256_file(folder / name) != sums.get(name):
            raise UserError("not the file that was exported", where=folder / name, remedy="export it again")
    return about


def _require_task(family: str, where: object) -> None:
    if family == "mlm":
        raise UserError(
            "a masked-LM has no task to predict", where=where, remedy="fine-tune it: compact-biomed evaluate --save DIR"
        )
