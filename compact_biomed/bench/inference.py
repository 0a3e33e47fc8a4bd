"""`compact-biomed bench inference`: how large, how fast and how hungry models are when they answer.

Each model as PyTorch runs it (transformers' modules, fp32 and bf16) and as exported (ONNX, fp32 and int8).
Every variant lives in a process of its own, which gives its peak memory; all are timed in turns, so that a
busy spell of the machine hits them alike. Inputs are made-up ids without padding: what they say changes no time.
"""

import argparse
import contextlib
import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers import AutoModelForTokenClassification

from compact_biomed.bench.inference_worker import Worker
from compact_biomed.compress.export import export
from compact_biomed.console import say
from compact_biomed.engine.plan import device_name
from compact_biomed.errors import UsageError
from compact_biomed.models import checkpoints
from compact_biomed.models.architectures import ARCHITECTURES
from compact_biomed.models.checkpoints import REGISTRY_MINILM, load_tokenizer, longest_input
from compact_biomed.records import append_record, origin
from compact_biomed.report.speed import inference_rows
from compact_biomed.training.cost import flops_per_token

# ----------------------------------------------------------------------------------------------------
# The models that `bench inference` times: checkpoints, or architectures with random weights, and their exports.


_LABELS = ("B", "I", "O")


class Prepared(NamedTuple):
    places: dict[str, Path]  # variant -> folder
    parameters: int
    vocabulary: int
    flops: Callable[[int], float]  # of one input of so many tokens, matrix products alone


def prepare(name: str, scratch: Path, variants: Sequence[str], longest: int) -> Prepared:
    """Load or make a model, and export it as far as the variants need it.

    Args:
        name: a checkpoint with a head, or SCALE:NAME of `models.architectures` for a token
            classifier with random weights.
        scratch: for what is made.
        longest: tokens of an input.

    Raises:
        UsageError: no such architecture, or a model that reads fewer tokens.
    """

    scratch.mkdir(parents=True)
    folder = name if ":" not in name else str(_random(name, scratch / "random"))
    found = checkpoints.load_with_head(folder)
    limit = longest_input(found.model.config) or longest
    if longest > limit:
        raise UsageError(f"{name} reads {limit} tokens at most", where=f"--lengths {longest}")
    places = {}
    for variant in variants:
        places[variant] = Path(found.name)
        if variant.startswith("onnx"):
            say(f"{name}: {variant}")
            places[variant] = scratch / variant
            # Random weights are for speed alone; how near int8 is to them says nothing.
            export(folder, places[variant], int8=variant.endswith("int8"))
    model = found.model

    def flops(length: int) -> float:
        return flops_per_token(model, length=length, masked=1) / 3 * length  # forward is a third of training

    return Prepared(places, sum(p.numel() for p in model.parameters()), model.config.vocab_size, flops)


def _random(name: str, folder: Path) -> Path:

    scale, _, model = name.partition(":")
    if scale not in ARCHITECTURES.get(model, {}):
        raise UsageError(
            "no such architecture", where=f"--models {name}", remedy=f"paper: or mini: and {', '.join(ARCHITECTURES)}"
        )
    tokenizer = load_tokenizer(REGISTRY_MINILM)
    config = ARCHITECTURES[model][scale].config(
        len(tokenizer), id2label=dict(enumerate(_LABELS)), label2id={label: i for i, label in enumerate(_LABELS)}
    )
    torch.manual_seed(0)
    AutoModelForTokenClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def run(options: argparse.Namespace) -> int:
    """Measure, record, print the table."""

    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="compact-biomed-bench-") as scratch:
        records = measure(options, Path(scratch))
    for record in records if options.records else ():
        append_record(options.records, record)
    print(inference_rows(records), end="")
    return 0


@dataclass
class _Timed:
    """A variant of a model at one number of cores and one length: seconds of its calls, by batch."""

    model: str
    variant: str
    threads: int
    length: int
    seconds: dict[int, list[float]] = field(default_factory=dict)


def measure(options: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    """One record for each model, variant, number of cores and length.

    Args:
        scratch: a folder for exported models.
    """

    models = dict(_named(given) for given in options.models)
    prepared = {
        name: prepare(place, scratch / str(i), options.variants, max(options.lengths))
        for i, (name, place) in enumerate(models.items())
    }
    places = {(name, variant): of.places[variant] for name, of in prepared.items() for variant in options.variants}
    records = []
    with contextlib.ExitStack() as stack:
        workers = {key: stack.enter_context(Worker(place, key[1])) for key, place in places.items()}
        say(f"{len(workers)} variants, each in a process of its own ...")
        vocabularies = {name: of.vocabulary for name, of in prepared.items()}
        timed = list(_in_turns(workers, vocabularies, options))
        memory = {key: worker.ask(peak_memory=True) for key, worker in workers.items()}
    for each in timed:
        of = prepared[each.model]
        records.append(
            {
                **_result(each),
                "timed": models[each.model],
                "parameters": of.parameters,
                "flops": of.flops(each.length),
                "disk_bytes": _disk(places[each.model, each.variant]),
                "peak_memory_mb": round(memory[each.model, each.variant] / 1e6, 1),
                **_circumstances(options),
            }
        )
    return records


def _named(given: str) -> tuple[str, str]:
    """NAME=M, or M, which is its own name."""
    name, sign, place = given.partition("=")
    return (name, place) if sign else (given, given)


def _in_turns(workers: dict, vocabularies: dict[str, int], options: argparse.Namespace) -> Iterator[_Timed]:
    """Time every variant, one turn of each after the other."""
    for threads in options.threads:
        for length in options.lengths:
            timed = {key: _Timed(*key, threads, length) for key in workers}
            for batch in options.batches:
                for turn in range(options.rounds + 1):
                    for key, worker in workers.items():
                        seconds = worker.ask(
                            threads=threads, length=length, batch=batch, vocabulary=vocabularies[key[0]],
                            seconds=options.seconds if turn else 0.0,  # the first turn is not counted
                        )  # fmt: skip
                        if turn:
                            timed[key].seconds.setdefault(batch, []).extend(seconds)
            for each in timed.values():
                say(f"  {each.model} {each.variant}, {threads} cores, {length} tokens: "
                    f"{_rate(each, _best(each)):,.0f} tokens/s")  # fmt: skip
            yield from timed.values()


def _rate(timed: _Timed, batch: int) -> float:
    return batch * timed.length / statistics.median(timed.seconds[batch])


def _best(timed: _Timed) -> int:
    return max(timed.seconds, key=lambda batch: _rate(timed, batch))


def _result(timed: _Timed) -> dict[str, Any]:
    best, alone = _best(timed), timed.seconds[min(timed.seconds)]
    return {
        "kind": "bench-inference",
        "model": timed.model,
        "variant": timed.variant,
        "threads": timed.threads,
        "length": timed.length,
        "latency_batch": min(timed.seconds),
        "latency_ms": round(1e3 * statistics.median(alone), 3),
        "latency_ms_p95": round(1e3 * percentile(alone, 0.95), 3),
        "calls": len(alone),
        "tokens_per_s": round(_rate(timed, best), 1),
        "best_batch": best,
        "tokens_per_s_by_batch": {str(batch): round(_rate(timed, batch), 1) for batch in timed.seconds},
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed (nearest rank)."""
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def _disk(place: Path) -> int:
    """Bytes of the weights' file."""
    return sum(file.stat().st_size for pattern in ("*.safetensors", "*.onnx") for file in place.glob(pattern))


def _circumstances(options: argparse.Namespace) -> dict[str, Any]:

    return {"rounds": options.rounds, "device": device_name(), "from": origin()}
