"""A process that holds one variant of a model and times it when asked: `python -m ... FOLDER VARIANT`.

It reads one JSON object a line on standard input and answers with one.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

Forward = Callable[[np.ndarray], Any]  # ids [batch, length] int64


class Worker:
    """The asking end.

    Args:
        place: folder of the checkpoint or the export.
        variant: one of `inference.VARIANTS`.
    """

    def __init__(self, place: Path, variant: str):
        command = [sys.executable, "-m", __name__, str(place), variant]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **what: Any) -> Any:
        """What the process answers; see `_answer`."""
        print(json.dumps(what), file=self._process.stdin, flush=True)
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
    """Serve until standard input ends."""
    place, variant = Path(sys.argv[1]), sys.argv[2]
    forwards: dict[int, Forward] = {}  # by threads
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line), place, variant, forwards)), flush=True)


def _answer(asked: dict[str, Any], place: Path, variant: str, forwards: dict[int, Forward]) -> Any:
    """Peak memory in bytes, or the seconds of each call within a turn of at least `seconds` (one call if 0)."""
    if asked.get("peak_memory"):
        from compact_biomed.machine import own_peak_memory

        return own_peak_memory()
    threads = asked["threads"]
    if threads not in forwards:
        forwards.clear()  # one at a time in memory
        forwards[threads] = (_onnx if variant.startswith("onnx") else _torch)(place, variant, threads)
    ids = np.random.default_rng(0).integers(0, asked["vocabulary"], (asked["batch"], asked["length"]), np.int64)
    seconds: list[float] = []
    while not seconds or sum(seconds) < asked["seconds"]:
        start = time.perf_counter()
        forwards[threads](ids)
        seconds.append(time.perf_counter() - start)
    return seconds


def _torch(place: Path, variant: str, threads: int) -> Forward:
    import torch
    import transformers

    from compact_biomed.models.checkpoints import load_with_head

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(threads)
    model = load_with_head(str(place)).model.to(torch.bfloat16 if variant.endswith("bf16") else torch.float32)

    def forward(ids: np.ndarray):
        with torch.inference_mode():
            given = torch.from_numpy(ids)
            return model(input_ids=given, attention_mask=torch.ones_like(given))

    return forward


def _onnx(place: Path, variant: str, threads: int) -> Forward:
    """Inputs side by side, as `predict` computes them: each core has a share of the batch; too few share the cores."""
    # Nothing here imports torch: its libraries would be counted as memory of the ONNX model.
    from compact_biomed.compress.export import MODEL
    from compact_biomed.inference.engines import session

    ready: dict[int, Any] = {}  # cores a call -> session; one at a time in memory
    pool = ThreadPoolExecutor(threads)

    def run(ids: np.ndarray):
        (opened,) = ready.values()
        arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        return opened.run(None, {each.name: arrays[each.name] for each in opened.get_inputs()})

    def forward(ids: np.ndarray):
        cores = threads if len(ids) < threads else 1
        if cores not in ready:
            ready.clear()
            ready[cores] = session(place / MODEL, threads=cores)
        return list(pool.map(run, np.array_split(ids, threads // cores)))

    return forward


if __name__ == "__main__":
    main()
