"""Score a fine-tuned model on the test set of its task without training: quantized, exported, in another precision."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from compact_biomed import records
from compact_biomed.benchmarks import examples, tasks
from compact_biomed.benchmarks.examples import Splits
from compact_biomed.benchmarks.own import OwnData, task_of_record
from compact_biomed.benchmarks.readers import read
from compact_biomed.compression.manifest import MODEL
from compact_biomed.console import progress, say
from compact_biomed.errors import UserError, no_file, no_folder
from compact_biomed.evaluation.analysis.errors import write_errors
from compact_biomed.evaluation.analysis.summary import change_lines, label_scores
from compact_biomed.evaluation.analysis.thresholds import Thresholds, thresholds_in
from compact_biomed.evaluation.features import Feature
from compact_biomed.evaluation.kinds import KINDS, predict
from compact_biomed.evaluation.saved import RECORD, saved_record
from compact_biomed.files import require_writable_at, sha256_file
from compact_biomed.inference.engines import Engine, OnnxEngine, open_engine, requested, require_task
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
    errors: Path | str | None = None,
    threshold: float | str | None = None,
    report: Callable[[str], None] = say,
    **own: Unpack[OwnData],
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
        errors: file to which what is wrong is written, one example per line (`evaluation.analysis.errors`).
        threshold: also report what thresholds change: "dev" (those chosen on dev) or a number for all types or classes.
            The record holds the scores without them.
        report: prints the lines of this report.
        own: where data of one's own are now, if they moved, see `benchmarks.own.OwnData`.

    Raises:
        UserError: no model, no record of its fine-tuning beside it, or test examples other than those of the record;
            thresholds that it does not have.
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
    thresholds = _thresholds(source, folder, threshold)
    engine = open_engine(folder, precision)
    require_task(engine, folder)
    variant = f"ONNX {engine.precision}" if isinstance(engine, OnnxEngine) else engine.precision
    run = records.run_key({"scored": source["run"], "weights": _weights(folder, engine), "precision": variant})
    line = store.find(records.SCORES, run)
    if line:
        say(f"recorded already: {line.model}, {line.where}")
        if errors is None and thresholds is None:
            return line.record
    if errors is not None:
        if Path(errors).is_dir():
            raise no_file(errors, "name a file with --errors")
        require_writable_at(errors)
    splits = _splits(source, folder, data, ner_dir, own)
    start = time.monotonic()
    kind, labels = KINDS[source["task"]["kind"]], KINDS[source["task"]["kind"]].labels(splits)
    predictions = _predictions(engine, source, splits)
    scores = kind.score(splits.test, predictions)
    seconds = time.monotonic() - start
    if errors is not None:
        write_errors(errors, kind.errors(splits.test, predictions, labels))
    if thresholds is not None:
        candidates = kind.candidates(splits.test, predictions, labels)
        before, after = (label_scores(each) for each in (candidates, candidates.with_thresholds(thresholds)))
        for text in (
            "With thresholds (the record holds the scores without):",
            *change_lines(before, after, thresholds),
        ):
            report(text)
    if line:
        return line.record
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
    for part in ("per_example_counts", "analysis"):
        record.pop(part, None)
    if analysis := kind.analyze(splits.test, predictions, labels):
        record["analysis"] = analysis
    return store.add(record, scores.per_example)


def _weights(folder: Path, engine: Engine) -> str:
    files = [folder / MODEL] if isinstance(engine, OnnxEngine) else sorted(folder.glob("*.safetensors"))
    return " ".join(sha256_file(file) for file in files)


def _splits(source: Mapping[str, Any], folder: Path, data: Path | None, ner_dir: Path | None, own: OwnData) -> Splits:
    """Read the examples of the task, and check that they are those of the record."""
    recorded = source["task"]
    task = tasks.ner_task_from_folder(ner_dir) if ner_dir else task_of_record(recorded, own, where=folder)
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


def _thresholds(source: Mapping[str, Any], folder: Path, threshold: float | str | None) -> Thresholds | None:
    if threshold is None:
        return None
    if KINDS[source["task"]["kind"]].head not in ("token", "sequence", "multilabel"):
        what = f"{source['task']['name']} has neither types nor classes"
        raise UserError(what, where="--threshold", remedy="leave it out")
    return requested(threshold, thresholds_in(source), where=folder)


def _predictions(engine: Engine, source: Mapping[str, Any], splits: Splits) -> list[Any]:
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
    return answers
