"""Score a fine-tuned model on the test set of its task without training: quantized, exported, in another precision."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from compact_biomed import records
from compact_biomed.benchmarks import examples, tasks
from compact_biomed.benchmarks.examples import Splits
from compact_biomed.benchmarks.readers import read
from compact_biomed.compression.manifest import MODEL
from compact_biomed.console import progress, say
from compact_biomed.errors import UserError, no_folder
from compact_biomed.evaluation.features import Feature
from compact_biomed.evaluation.kinds import KINDS, predict
from compact_biomed.evaluation.runs import RECORD, saved_record
from compact_biomed.evaluation.scoring import Scores
from compact_biomed.files import sha256_file
from compact_biomed.inference.engines import Engine, OnnxEngine, open_engine, require_task
from compact_biomed.machine import single_threaded
from compact_biomed.records import origin


def score(
    model: Path | str,
    store: records.Records,
    *,
    data: Path | None = None,
    ner_dir: Path | None = None,
    name: str | None = None,
    precision: str = "auto",
) -> dict[str, Any]:
    """Score a model on the test set of the task that it was fine-tuned on, and record it.

    The record is that of its fine-tuning with the scores and per-example counts of this engine: another model name,
    the same task, protocol and seed. So tables show the two side by side, and `tables compare` pairs their examples.

    Args:
        model: a folder saved by `evaluate --save`, or an `export` of one.
        store: receives the record; if it already has this one, that is returned.
        data: folder of the benchmarks' files.
        ner_dir: folder of the entity set, if it is none of the benchmarks.
        name: of the model in the record (default: the model's name and the precision).
        precision: of a PyTorch model, see `load`.

    Raises:
        UserError: no model, no record of its fine-tuning beside it, or test examples other than those of the record.
    """
    folder = Path(model)
    if not folder.is_dir():
        raise no_folder(folder, "name one saved by `evaluate --save`, or an export")
    source = saved_record(folder)
    if not {"run", "task", "model", "protocol", "settings"} <= source.keys():
        raise UserError(
            "no record of a fine-tuning",
            where=folder / RECORD,
            remedy="make the model by: compact-biomed evaluate --save DIR",
        )
    engine = open_engine(folder, precision)
    require_task(engine, folder)
    variant = f"ONNX {engine.precision}" if isinstance(engine, OnnxEngine) else engine.precision
    run = records.run_key({"scored": source["run"], "weights": _weights(folder, engine), "precision": variant})
    if line := store.find(records.SCORES, run):
        say(f"recorded already: {line.model}, {line.where}")
        return line.record
    splits = _splits(source, folder, data, ner_dir)
    start = time.monotonic()
    scores = _scores(engine, source, splits)
    seconds = time.monotonic() - start
    record = source | {
        "run": run,
        "of": source["run"],
        "model": source["model"] | {"name": name or f"{source['model']['name']} {variant}"},
        "metrics": scores.metrics,
        "score": scores.metrics[source["task"]["metric"]],
        "counts": scores.counts,
        "how": {
            "engine": variant,
            "seconds": round(seconds, 1),
            "examples_per_second": round(len(splits.test) / seconds, 1),
        },
        "from": origin(),
    }
    record.pop("per_example_counts", None)
    return store.add(record, scores.per_example)


def _weights(folder: Path, engine: Engine) -> str:
    files = [folder / MODEL] if isinstance(engine, OnnxEngine) else sorted(folder.glob("*.safetensors"))
    return " ".join(sha256_file(file) for file in files)


def _splits(source: Mapping[str, Any], folder: Path, data: Path | None, ner_dir: Path | None) -> Splits:
    """Read the examples of the task, and check that they are those of the record."""
    recorded = source["task"]
    if ner_dir is None and recorded["name"] not in tasks.TASKS:
        raise UserError(
            f"it was fine-tuned on a set of your own, {recorded['name']}", where=folder, remedy="add --ner-dir PATH"
        )
    task = tasks.ner_task_from_folder(ner_dir) if ner_dir else tasks.task_named(recorded["name"])
    splits = read(task, tasks.find(task, data), recorded["fold"])
    sums = examples.examples_sha256(splits)
    for part in ("test", "train", "dev"):  # train and dev decide the order of the labels
        if sums[part] != recorded["data_sha256"].get(part):
            raise UserError(
                f"the {part} examples of {task.name} are not those of its record",
                where=folder,
                remedy="name the files that it was fine-tuned on",
            )
    return splits


def _scores(engine: Engine, source: Mapping[str, Any], splits: Splits) -> Scores:
    kind = KINDS[source["task"]["kind"]]
    labels, level = kind.labels(splits), source["protocol"]["level"]
    encoding = {"labels": labels, "max_length": source["settings"]["max_length"], "level": level}
    answers: list[Any] = []
    threads = ThreadPoolExecutor(initializer=single_threaded)
    with threads as pool, progress(total=len(splits.test), desc="scoring", unit=" examples", leave=False) as bar:

        def logits(features: Sequence[Feature]) -> list[np.ndarray]:
            return list(pool.map(lambda f: engine(f["input_ids"], f.get("token_type_ids")), features))

        for chunk in predict(kind, splits.test, engine.tokenizer, logits, encoding):
            answers += chunk
            bar.update(len(chunk))
    return kind.score(splits.test, answers)
