"""A process that holds one variant of a model and times it on request.

Run as `python -m compact_biomed.bench.inference_worker VARIANT MODEL [OPTIMIZER ...]`. It reads one JSON object per
line on standard input and answers each with one line of JSON. Its peak memory is measured, so it imports only what its
variant needs: an ONNX model is not charged for torch.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from compact_biomed.machine import own_peak_memory

Forward = Callable[[np.ndarray], Any]  # ids [batch, length] int64


class Worker:
    """The parent's side of the process.

    Args:
        variant: one of `bench.VARIANTS`.
        model: folder of the checkpoint, or the ONNX file.
        disabled_optimizers: names of onnxruntime's optimizers that the session leaves out.
    """

    def __init__(self, variant: str, model: Path, disabled_optimizers: Sequence[str] = ()):
        command = [sys.executable, "-m", __name__, variant, str(model), *disabled_optimizers]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call_seconds(self, *, threads: int, length: int, batch: int, vocabulary: int, seconds: float) -> list[float]:
        """Return the seconds of each call of one turn.

        Args:
            threads: cores in use.
            length: tokens per input.
            batch: inputs per call.
            vocabulary: ids are drawn below it.
            seconds: minimum length of the turn; 0 = one call.
        """
        return self._ask(threads=threads, length=length, batch=batch, vocabulary=vocabulary, seconds=seconds)

    def peak_memory(self) -> int:
        """Return the peak resident memory of the process in bytes."""
        return self._ask()

    def _ask(self, **request: Any) -> Any:
        print(json.dumps(request), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process ended with status {self._process.wait()}: {self._process.args}")
        return json.loads(line)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    """Answer requests until standard input ends."""
    variant, model, *disabled_optimizers = sys.argv[1:]
    forwards: dict[int, Forward] = {}  # by threads, at most one
    for line in sys.stdin:
        request = json.loads(line)
        if not request:
            print(json.dumps(own_peak_memory()), flush=True)
            continue
        threads = request.pop("threads")
        if threads not in forwards:
            forwards.clear()  # before the next is built, so that one model at a time is in memory
            if variant.startswith("onnx"):
                forwards[threads] = _onnx(model, disabled_optimizers, threads)
            else:
                forwards[threads] = _torch(model, variant, threads)
        print(json.dumps(_time_calls(forwards[threads], **request)), flush=True)


def _time_calls(forward: Forward, *, length: int, batch: int, vocabulary: int, seconds: float) -> list[float]:
    ids = np.random.default_rng(0).integers(0, vocabulary, (batch, length), np.int64)
    of_calls: list[float] = []
    while not of_calls or sum(of_calls) < seconds:
        start = time.perf_counter()
        forward(ids)
        of_calls.append(time.perf_counter() - start)
    return of_calls


def _torch(folder: str, variant: str, threads: int) -> Forward:
    """Load a checkpoint into PyTorch; one call computes the batch on all cores."""
    import torch
    import transformers

    from compact_biomed.models.checkpoints import load_with_head

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(threads)
    model = load_with_head(folder).model.to(torch.bfloat16 if variant.endswith("bf16") else torch.float32)

    def forward(ids: np.ndarray) -> Any:
        with torch.inference_mode():
            input_ids = torch.from_numpy(ids)
            return model(input_ids=input_ids, attention_mask=torch.ones_like(input_ids))

    return forward


def _onnx(file: str, disabled_optimizers: Sequence[str], threads: int) -> Forward:
    """Open an ONNX model as `predict` does: each core computes a part of the batch, or all cores a small one."""
    import onnxruntime

    pool = ThreadPoolExecutor(threads)
    sessions: dict[int, Any] = {}  # by cores per call, at most one

    def session(cores: int) -> Any:
        if cores not in sessions:
            sessions.clear()
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = cores
            sessions[cores] = onnxruntime.InferenceSession(
                file, options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled_optimizers
            )
        return sessions[cores]

    def forward(ids: np.ndarray) -> Any:
        cores = threads if len(ids) < threads else 1
        opened = session(cores)

        def run(part: np.ndarray) -> Any:
            arrays = {"input_ids": part, "attention_mask": np.ones_like(part), "token_type_ids": np.zeros_like(part)}
            return opened.run(None, {each.name: arrays[each.name] for each in opened.get_inputs()})

        return list(pool.map(run, np.array_split(ids, threads // cores)))

    return forward


if __name__ == "__main__":
    main()
