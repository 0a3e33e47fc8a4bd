"""Compute logits: with the PyTorch model of a checkpoint, or with the ONNX model of an exported folder.

Both take one unpadded input at a time, on one core; several threads may call them in parallel. So no answer depends, in
any bit, on other inputs: a padded batch would sum in another order, and a dynamically quantized model would scale its
activations by the whole batch.
"""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from compact_biomed.compression.export import labels_of
from compact_biomed.compression.manifest import MODEL, is_exported, read_manifest
from compact_biomed.compression.to_onnx import SLOWER
from compact_biomed.engine.plan import dtype_of
from compact_biomed.errors import UserError
from compact_biomed.evaluation.analysis.thresholds import Thresholds, thresholds_in
from compact_biomed.evaluation.runs import saved_record
from compact_biomed.models import checkpoints
from compact_biomed.models.checkpoints import load_tokenizer
from compact_biomed.models.positions import longest_input
from compact_biomed.models.weights import check_finite
from compact_biomed.objectives.task import TaskObjective


class Engine(Protocol):
    """A model that is ready to compute.

    Attributes:
        family: "token", "sequence" or "span".
        labels: names of the outputs.
        problem_type: transformers' name of the kind of classes, or None.
        limit: most tokens that it reads at once, special ones included.
        precision: "fp32", "bf16" or "int8".
        tokenizer: of the model.
        thresholds: chosen on dev when the model was fine-tuned, or None.
    """

    family: str
    labels: list[str]
    problem_type: str | None
    limit: int
    precision: str
    tokenizer: PreTrainedTokenizerFast
    thresholds: Thresholds | None

    def __call__(self, ids: Sequence[int], types: Sequence[int] | None = None) -> np.ndarray:
        """Return the float32 logits of one input: [length, labels] ("token", "span") or [labels] ("sequence").

        Args:
            ids: special tokens included.
            types: token types; all 0 by default.

        Raises:
            UserError: a logit is not finite. Without this error each word would get the first label.
        """


def open_engine(model: Path | str, precision: str = "auto") -> Engine:
    """Open an exported folder or a checkpoint.

    Args:
        precision: of a checkpoint; that of an export is fixed.

    Raises:
        UserError: it cannot be read, has no task head, or is an export in another precision.
    """
    if not is_exported(model):
        return TorchEngine(str(model), precision)
    engine = OnnxEngine(model)
    if precision not in ("auto", engine.precision):
        raise UserError(
            f"the model is an export in {engine.precision}", where=f"--precision {precision}", remedy="leave it out"
        )
    return engine


class TorchEngine:
    """A checkpoint, computed as `evaluate` computes it.

    Args:
        name: folder or hub name of a fine-tuned checkpoint.
        precision: "auto" (bf16 where the processor computes it), "bf16" or "fp32".
    """

    def __init__(self, name: str, precision: str = "auto"):
        checkpoint = checkpoints.load_with_head(name)
        config = checkpoint.model.config
        _require_task(checkpoint.family, name)
        self.family, self.tokenizer = checkpoint.family, checkpoint.tokenizer
        self.labels, self.problem_type = labels_of(config, checkpoint.family), config.problem_type
        self.limit = longest_input(config) or 512
        self._has_types = "token_type_ids" in checkpoints.input_names(checkpoint.model)
        dtype = dtype_of(precision, config)
        self.precision = "bf16" if dtype == torch.bfloat16 else "fp32"
        self._name = name
        self._objective = TaskObjective(checkpoint.model, checkpoint.head, dtype=dtype).eval()
        with torch.inference_mode():
            self._weights = self._objective.cast(self._objective.prepare()) if self._objective.fast else None

    @property
    def thresholds(self) -> Thresholds | None:
        """Read them from the record beside the weights."""
        return thresholds_in(saved_record(Path(self._name)))

    def __call__(self, ids: Sequence[int], types: Sequence[int] | None = None) -> np.ndarray:
        with torch.inference_mode():
            input_ids = torch.tensor([ids])
            type_ids = torch.tensor([types]) if self._has_types and types is not None else None
            positions = self._objective.head.prediction_positions(torch.ones_like(input_ids))
            mask = None if self._objective.fast else torch.ones_like(input_ids)
            logits = self._objective.logits(input_ids, mask, type_ids, positions, prepared=self._weights)
            rows = logits.float().numpy()
        return _finite(rows[0] if self.family == "sequence" else rows, self._name)


class OnnxEngine:
    """A folder that `compact-biomed export` wrote.

    Args:
        folder: with manifest.json.
    """

    def __init__(self, folder: Path | str):
        folder = Path(folder)
        manifest = read_manifest(folder)
        _require_task(manifest["family"], folder)
        self.family, self.labels = manifest["family"], manifest["labels"]
        self.problem_type, self.limit = manifest["problem_type"], manifest["max_length"]
        self.precision, self._inputs = manifest["precision"], manifest["inputs"]
        self.tokenizer = load_tokenizer(str(folder))
        self.thresholds = thresholds_in(manifest)
        self._folder = folder
        _check_weights(folder / MODEL)
        self._session = session(folder / MODEL, threads=1)

    def __call__(self, ids: Sequence[int], types: Sequence[int] | None = None) -> np.ndarray:
        arrays = {"input_ids": ids, "attention_mask": [1] * len(ids), "token_type_ids": types or [0] * len(ids)}
        inputs = {name: np.array([arrays[name]], np.int64) for name in self._inputs}
        return _finite(self._session.run(None, inputs)[0][0], self._folder)


def _finite(logits: np.ndarray, where: object) -> np.ndarray:
    if not np.isfinite(logits).all():
        raise UserError(
            "the model's logits are not finite (NaN or infinite)",
            where=where,
            remedy="fine-tune it again, with a lower --learning-rate",
        )
    return logits


def _check_weights(path: Path) -> None:
    """Raise a `UserError` that names the first weight of an ONNX model that is not finite.

    Without the onnx package, which predicting does not need, this is found by the first logits.
    """
    if find_spec("onnx") is None:
        return
    import onnx

    weights = ((tensor.name, onnx.numpy_helper.to_array(tensor)) for tensor in onnx.load(str(path)).graph.initializer)
    floats = ((name, torch.from_numpy(array)) for name, array in weights if array.dtype.kind == "f" and array.size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # read-only arrays
        check_finite(floats, where=path, remedy="export a checkpoint whose weights are finite")


def session(path: Path, *, threads: int):
    """Open an onnxruntime session on the processor; each call computes on `threads` cores.

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
    providers = ["CPUExecutionProvider"]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers, disabled_optimizers=SLOWER)
    except Exception as error:  # onnxruntime's own classes
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot be read: {reason}", where=path, remedy="export the model again") from error


def _require_task(family: str, where: object) -> None:
    if family == "mlm":
        raise UserError(
            "a masked-LM has no task to predict", where=where, remedy="fine-tune it: compact-biomed evaluate --save DIR"
        )
