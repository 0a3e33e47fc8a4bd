"""Compute logits and vectors: with the PyTorch model of a checkpoint, or with the ONNX model of an exported folder.

Both take one unpadded input at a time, on one core; several threads may call them in parallel. So no answer depends, in
any bit, on other inputs: a padded batch would sum in another order, and a dynamically quantized model would scale its
activations by the whole batch.
"""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from compact_biomed.benchmarks.expected import has_pairs
from compact_biomed.compression.graph import graph_with_states
from compact_biomed.compression.manifest import MODEL, is_exported, read_manifest
from compact_biomed.compression.to_onnx import SLOWER
from compact_biomed.engine.plan import dtype_of
from compact_biomed.errors import UsageError, UserError
from compact_biomed.evaluation.analysis.thresholds import DEV, Thresholds, thresholds_in
from compact_biomed.evaluation.saved import saved_record
from compact_biomed.models import checkpoints
from compact_biomed.models.checkpoints import load_tokenizer
from compact_biomed.models.embeddings import mean_of, text_vector
from compact_biomed.models.positions import longest_input
from compact_biomed.models.weights import check_finite
from compact_biomed.objectives.task import TaskObjective

_LIMIT = 512  # tokens, of a model without a table of positions


class Engine(Protocol):
    """A model that is ready to compute.

    Attributes:
        family: "token", "sequence" or "span"; "encoder": it has no task head, so only `vector` computes.
        labels: names of the outputs.
        problem_type: transformers' name of the kind of classes, or None.
        limit: most tokens that it reads at once, special ones included.
        precision: "fp32", "bf16" or "int8".
        tokenizer: of the model.
        thresholds: chosen on dev when the model was fine-tuned, or None.
        pairs: whether a model of texts reads two at once; None = it was not fine-tuned here, and may read either.
    """

    family: str
    labels: list[str]
    problem_type: str | None
    limit: int
    precision: str
    tokenizer: PreTrainedTokenizerFast
    thresholds: Thresholds | None
    pairs: bool | None

    def __call__(self, ids: Sequence[int], types: Sequence[int] | None = None) -> np.ndarray:
        """Return the float32 logits of one input: [length, labels] ("token", "span") or [labels] ("sequence").

        Args:
            ids: special tokens included.
            types: token types; all 0 by default.

        Raises:
            UserError: a logit is not finite. Without this error each word would get the first label.
        """

    def vector(self, ids: Sequence[int]) -> np.ndarray:
        """Return the float32 vector [hidden] of one text, see `models.embeddings`.

        Args:
            ids: special tokens included.

        Raises:
            UserError: a number in it is not finite, or an export does not show where its encoder ends.
        """


def open_engine(model: Path | str, precision: str = "auto") -> Engine:
    """Open an exported folder or a checkpoint.

    Args:
        precision: of a checkpoint; that of an export is fixed.

    Raises:
        UserError: it cannot be read, or is an export in another precision or of a masked-LM.
    """
    if not is_exported(model):
        has_task = checkpoints.head_family(str(model)) not in (None, "mlm")
        return TorchEngine(str(model), precision) if has_task else EncoderEngine(str(model))
    engine = OnnxEngine(model)
    if precision not in ("auto", engine.precision):
        raise UsageError(
            f"the model is an export in {engine.precision}", where=f"--precision {precision}", remedy="leave it out"
        )
    return engine


def requested(threshold: float | str, chosen: Thresholds | None, *, where: object) -> Thresholds:
    """Return the thresholds that a user asks for.

    Args:
        threshold: `DEV`, or a number from 0 to 1 for all labels.
        chosen: those that were chosen on dev, if the model has any.
        where: the model, for errors.

    Raises:
        UserError: neither, or the model has none that were chosen on dev.
    """
    if threshold == DEV:
        if chosen is None:
            raise UserError(
                "this model has no thresholds chosen on dev",
                where=where,
                remedy="give a number, --threshold 0.5, or fine-tune with evaluate --save by a protocol that "
                "does not train on dev",
            )
        return chosen
    if isinstance(threshold, str) or not 0 <= threshold <= 1:
        raise UsageError(f"{threshold!r} is no threshold", where="--threshold", remedy="dev, or a number from 0 to 1")
    return Thresholds({}, float(threshold), chosen.otherwise if chosen else None)


def require_task(engine: Engine, where: object) -> None:
    """Raise a `UserError` if a model has no head that predicts anything but pieces of text."""
    if engine.family == "encoder":
        remedy = "fine-tune it: compact-biomed evaluate --save DIR; its vectors: `model.embed`, predict --embed"
        raise UserError("an encoder without a task head has no task to predict", where=where, remedy=remedy)


class TorchEngine:
    """A checkpoint, computed as `evaluate` computes it.

    Args:
        name: folder or hub name of a fine-tuned checkpoint.
        precision: "auto" (bf16 where it is faster), "bf16" or "fp32".
    """

    def __init__(self, name: str, precision: str = "auto"):
        checkpoint = checkpoints.load_with_head(name)
        config = checkpoint.model.config
        self.family, self.tokenizer = checkpoint.family, checkpoint.tokenizer
        self.labels, self.problem_type = checkpoint.labels, config.problem_type
        self.limit = longest_input(config) or _LIMIT
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

    @property
    def pairs(self) -> bool | None:
        """Read it from the record beside the weights."""
        return has_pairs(saved_record(Path(self._name)).get("task", {}))

    def __call__(self, ids: Sequence[int], types: Sequence[int] | None = None) -> np.ndarray:
        with torch.inference_mode():
            input_ids = torch.tensor([ids])
            type_ids = torch.tensor([types]) if self._has_types and types is not None else None
            positions = self._objective.head.prediction_positions(torch.ones_like(input_ids))
            mask = None if self._objective.fast else torch.ones_like(input_ids)
            logits = self._objective.logits(input_ids, mask, type_ids, positions, prepared=self._weights)
            rows = logits.float().numpy()
        return _finite(rows[0] if self.family == "sequence" else rows, self._name)

    def vector(self, ids: Sequence[int]) -> np.ndarray:
        return _finite(text_vector(self._objective.model.base_model, ids), self._name, "states")


class EncoderEngine:
    """A checkpoint without a task head, in float32; a vocabulary head is left out.

    Args:
        name: folder or hub name.
    """

    family, labels, problem_type, precision, thresholds, pairs = "encoder", [], None, "fp32", None, None

    def __init__(self, name: str):
        model, _ = checkpoints.load_encoder(name)  # it may lack a pooler, which no vector needs
        self._model, self._name = model.eval(), name
        self.limit = longest_input(model.config) or _LIMIT
        self.tokenizer = load_tokenizer(name, model.config)

    def __call__(self, ids: Sequence[int], types: Sequence[int] | None = None) -> np.ndarray:
        raise NotImplementedError("it has no logits")

    def vector(self, ids: Sequence[int]) -> np.ndarray:
        return _finite(text_vector(self._model, ids), self._name, "states")


class OnnxEngine:
    """A folder that `compact-biomed export` wrote.

    Args:
        folder: with manifest.json.
    """

    def __init__(self, folder: Path | str):
        folder = Path(folder)
        manifest = read_manifest(folder)
        if manifest["family"] == "mlm":
            remedy = "embed with its checkpoint, or fine-tune that: compact-biomed evaluate --save DIR"
            raise UserError(
                "the export of a masked-LM has neither a task to predict nor vectors", where=folder, remedy=remedy
            )
        self.family, self.labels = manifest["family"], manifest["labels"]
        self.problem_type, self.limit = manifest["problem_type"], manifest["max_length"]
        self.precision, self._inputs = manifest["precision"], manifest["inputs"]
        self.tokenizer = load_tokenizer(str(folder))
        self.thresholds = thresholds_in(manifest)
        self.pairs = manifest["pairs"] if "pairs" in manifest else has_pairs(saved_record(folder).get("task", {}))
        self._folder = folder
        _check_weights(folder / MODEL)
        self._session, self._states, self._opening = session(folder / MODEL, threads=1), None, Lock()

    def __call__(self, ids: Sequence[int], types: Sequence[int] | None = None) -> np.ndarray:
        return _finite(self._session.run(None, self._arrays(ids, types))[0][0], self._folder)

    def vector(self, ids: Sequence[int]) -> np.ndarray:
        with self._opening:  # a session of its own: what is fused into the states would change the logits' last bits
            if self._states is None:
                self._states = session(graph_with_states(self._folder / MODEL, self.family), threads=1)
        states = self._states.run(None, self._arrays(ids))[0][0]
        return mean_of(_finite(states, self._folder, "states"))

    def _arrays(self, ids: Sequence[int], types: Sequence[int] | None = None) -> dict[str, np.ndarray]:
        arrays = {"input_ids": ids, "attention_mask": [1] * len(ids), "token_type_ids": types or [0] * len(ids)}
        return {name: np.array([arrays[name]], np.int64) for name in self._inputs}


def _finite(numbers: np.ndarray, where: object, of: str = "logits") -> np.ndarray:
    if not np.isfinite(numbers).all():
        raise UserError(
            f"the model's {of} are not finite (NaN or infinite)",
            where=where,
            remedy="fine-tune it again, with a lower --learning-rate",
        )
    return numbers


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


def session(model: Path | bytes, *, threads: int):
    """Open an onnxruntime session on the processor; each call computes on `threads` cores.

    Args:
        model: a file or its content.

    Raises:
        UserError: onnxruntime is missing or cannot read the file.
    """
    where = None if isinstance(model, bytes) else model
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            "onnxruntime is not installed", where=where, remedy="python -m pip install 'compact-biomed[export]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    providers = ["CPUExecutionProvider"]
    try:
        source = model if isinstance(model, bytes) else str(model)
        return onnxruntime.InferenceSession(source, options, providers=providers, disabled_optimizers=SLOWER)
    except Exception as error:  # onnxruntime's own classes
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot be read: {reason}", where=where, remedy="export the model again") from error
