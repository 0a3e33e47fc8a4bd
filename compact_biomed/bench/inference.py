"""Measure size, memory, latency and throughput of models at inference.

Each model is measured as PyTorch runs it (transformers' modules in fp32 and bf16) and as exported (ONNX in fp32 and
int8). Every variant has a process of its own, which gives its peak memory. All variants are timed in turns, so that a
busy spell of the machine hits them alike. Inputs are random ids without padding: their content does not affect speed.
"""

import contextlib
import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers import AutoModelForTokenClassification

from compact_biomed.bench import VARIANTS
from compact_biomed.bench.inference_worker import Worker
from compact_biomed.compression.export import exportable, require_libraries, write_export
from compact_biomed.compression.manifest import MODEL
from compact_biomed.compression.to_onnx import SLOWER
from compact_biomed.console import say
from compact_biomed.engine.plan import device_name
from compact_biomed.errors import UsageError
from compact_biomed.models import checkpoints
from compact_biomed.models.architectures import ARCHITECTURES
from compact_biomed.models.checkpoints import load_tokenizer
from compact_biomed.models.flops import flops_per_token
from compact_biomed.models.locate import REGISTRY_MINILM
from compact_biomed.models.positions import longest_input
from compact_biomed.records.provenance import origin

_LABELS = ("B", "I", "O")


@dataclass(frozen=True)
class InferenceBench:
    """The circumstances under which each model is timed: all combinations of them.

    Args:
        variants: of `bench.VARIANTS`.
        lengths: tokens per input.
        batches: inputs per call.
        threads: cores in use.
        rounds: turns of each variant.
        seconds: minimum length of a turn.
    """

    variants: Sequence[str] = VARIANTS
    lengths: Sequence[int] = (128,)
    batches: Sequence[int] = (1, 4, 16)
    threads: Sequence[int] = (1, 2)
    rounds: int = 3
    seconds: float = 0.5


def measure_inference(models: Mapping[str, str], bench: InferenceBench) -> list[dict[str, Any]]:
    """Return one record per model, variant, number of cores and length.

    Args:
        models: name in the records -> a checkpoint with a head, or SCALE:NAME of `models.architectures` for a token
            classifier with random weights.

    Raises:
        UsageError: there is no such architecture, or a model reads fewer tokens than the longest input.
    """
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="compact-biomed-bench-") as scratch:
        prepared = {
            name: prepare(model, Path(scratch) / str(number), bench.variants, max(bench.lengths))
            for number, (name, model) in enumerate(models.items())
        }
        variants = [(name, variant) for name in prepared for variant in bench.variants]
        with contextlib.ExitStack() as stack:
            workers = {key: stack.enter_context(_worker(prepared[key[0]], key[1])) for key in variants}
            say(f"Timing {len(workers)} variants, one process each ...")
            timings = list(_time_in_turns(workers, prepared, bench))
            memory = {key: worker.peak_memory() for key, worker in workers.items()}
        circumstances = {"rounds": bench.rounds, "device": device_name(), "from": origin()}
        return [
            {
                **timing.result(),
                "timed": models[timing.model],
                "parameters": prepared[timing.model].parameters,
                "flops": prepared[timing.model].flops(timing.length),
                "disk_bytes": _weights_size(prepared[timing.model].folders[timing.variant]),
                "peak_memory_mb": round(memory[timing.model, timing.variant] / 1e6, 1),
                **circumstances,
            }
            for timing in timings
        ]


class PreparedModel(NamedTuple):
    """A model whose variants are on disk.

    Args:
        folders: of each variant.
        flops: of an input of so many tokens, matrix products alone.
    """

    folders: Mapping[str, Path]
    parameters: int
    vocabulary: int
    flops: Callable[[int], float]


def prepare(model: str, scratch: Path, variants: Sequence[str], longest: int) -> PreparedModel:
    """Load or make a model, and export it as far as the variants need it.

    Args:
        model: as the values of `models` in `measure_inference`.
        scratch: a new folder for what is made.
        longest: tokens of the longest input.

    Raises:
        UsageError: there is no such architecture, or the model reads fewer tokens.
    """
    scratch.mkdir(parents=True)
    source = str(_random_checkpoint(model, scratch / "random")) if ":" in model else model
    checkpoint = checkpoints.load_with_head(source)
    limit = longest_input(checkpoint.model.config) or longest
    if longest > limit:
        raise UsageError(
            f"{model} reads {limit} tokens at most", where=f"--lengths {longest}", remedy=f"--lengths {limit}"
        )
    folders = {}
    for variant in variants:
        folders[variant] = Path(checkpoint.name)
        if variant.startswith("onnx"):
            say(f"Exporting {model} as {variant} ...")
            folders[variant] = scratch / variant
            require_libraries()
            write_export(exportable(source), folders[variant], int8=variant.endswith("int8"))

    def flops(length: int) -> float:
        # A forward pass is a third of the training that `flops_per_token` counts.
        return flops_per_token(checkpoint.model, length=length, masked=1) / 3 * length

    parameters = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    return PreparedModel(folders, parameters, checkpoint.model.config.vocab_size, flops)


def _random_checkpoint(model: str, folder: Path) -> Path:
    """Write a token classifier with random weights: enough to time it."""
    scale, _, architecture = model.partition(":")
    if scale not in ARCHITECTURES.get(architecture, {}):
        raise UsageError(
            "no such architecture", where=f"--models {model}", remedy=f"paper: or mini: and {', '.join(ARCHITECTURES)}"
        )
    tokenizer = load_tokenizer(REGISTRY_MINILM)
    config = ARCHITECTURES[architecture][scale].config(
        len(tokenizer), id2label=dict(enumerate(_LABELS)), label2id={label: i for i, label in enumerate(_LABELS)}
    )
    torch.manual_seed(0)
    AutoModelForTokenClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _worker(prepared: PreparedModel, variant: str) -> Worker:
    folder = prepared.folders[variant]
    if variant.startswith("onnx"):
        return Worker(variant, folder / MODEL, disabled_optimizers=SLOWER)
    return Worker(variant, folder)


@dataclass
class VariantTiming:
    """The seconds of the calls of one variant at one number of cores and one length, by batch size."""

    model: str
    variant: str
    threads: int
    length: int
    seconds: dict[int, list[float]] = field(default_factory=dict)

    def rate(self, batch: int) -> float:
        """Return the median throughput in tokens per second at a batch size."""
        return batch * self.length / statistics.median(self.seconds[batch])

    def best_batch(self) -> int:
        """Return the batch size of the highest throughput."""
        return max(self.seconds, key=self.rate)

    def result(self) -> dict[str, Any]:
        """Return the record's part about speed. Latency is that of the smallest batch."""
        best, smallest = self.best_batch(), min(self.seconds)
        latencies = self.seconds[smallest]
        return {
            "kind": "bench-inference",
            "model": self.model,
            "variant": self.variant,
            "threads": self.threads,
            "length": self.length,
            "latency_batch": smallest,
            "latency_ms": round(1e3 * statistics.median(latencies), 3),
            "latency_ms_p95": round(1e3 * percentile(latencies, 0.95), 3),
            "calls": len(latencies),
            "tokens_per_s": round(self.rate(best), 1),
            "best_batch": best,
            "tokens_per_s_by_batch": {str(batch): round(self.rate(batch), 1) for batch in self.seconds},
        }


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed (nearest rank)."""
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def _time_in_turns(
    workers: Mapping[tuple[str, str], Worker], prepared: Mapping[str, PreparedModel], bench: InferenceBench
) -> Iterator[VariantTiming]:
    """Time the variants (model, variant) in turns under all circumstances."""
    for threads in bench.threads:
        for length in bench.lengths:
            timings = {key: VariantTiming(*key, threads, length) for key in workers}
            for batch in bench.batches:
                of_calls = {"threads": threads, "length": length, "batch": batch}
                for turn in range(bench.rounds + 1):
                    for key, worker in workers.items():
                        seconds = worker.call_seconds(
                            **of_calls, vocabulary=prepared[key[0]].vocabulary, seconds=bench.seconds if turn else 0.0
                        )
                        if turn:  # the first one warms up
                            timings[key].seconds.setdefault(batch, []).extend(seconds)
            for timing in timings.values():
                rate = timing.rate(timing.best_batch())
                say(f"  {timing.model} {timing.variant}, {threads} cores, {length} tokens: {rate:,.0f} tokens/s")
            yield from timings.values()


def _weights_size(folder: Path) -> int:
    """Return the bytes of the files that hold the weights."""
    return sum(file.stat().st_size for pattern in ("*.safetensors", "*.onnx") for file in folder.glob(pattern))
