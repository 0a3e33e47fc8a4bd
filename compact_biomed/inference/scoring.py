"""Score a fine-tuned model without training: quantized, exported, in another precision, or on other data."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from compact_biomed.benchmarks.examples import Example
from compact_biomed.benchmarks.own import OwnData
from compact_biomed.compression.manifest import MODEL
from compact_biomed.console import progress, say
from compact_biomed.errors import UsageError, UserError, no_file, no_folder
from compact_biomed.evaluation.analysis.analyze import label_scores
from compact_biomed.evaluation.analysis.candidates import Candidates
from compact_biomed.evaluation.analysis.errors import write_errors
from compact_biomed.evaluation.analysis.printed import change_lines
from compact_biomed.evaluation.analysis.thresholds import Thresholds, thresholds_in
from compact_biomed.evaluation.features import Feature
from compact_biomed.evaluation.kinds import KINDS, predict
from compact_biomed.evaluation.saved import saved_record
from compact_biomed.evaluation.scoring import Scores
from compact_biomed.files import require_writable_at, sha256_file
from compact_biomed.inference.engines import Engine, OnnxEngine, open_engine, requested, require_task
from compact_biomed.inference.scored_on import ScoredOn, scored_on
from compact_biomed.machine import single_threaded
from compact_biomed.records.lines import RECORD_FILE, SCORES
from compact_biomed.records.provenance import origin
from compact_biomed.records.store import Records, run_key

DEFAULT_RECORDS = "runs/evaluation.jsonl"


def score(
    model: Path | str,
    records: Path | str = DEFAULT_RECORDS,
    *,
    data: Path | str | None = None,
    ner_dir: Path | str | None = None,
    name: str | None = None,
    precision: str = "auto",
    errors: Path | str | None = None,
    threshold: float | str | None = None,
    report: Callable[[str], None] = say,
    **own: Unpack[OwnData],
) -> dict[str, Any]:
    """Score a model on the test set of the task that it was fine-tuned on, or on other data, and record it.

    The record is that of its fine-tuning with the scores and per-example counts of this engine: another model name,
    the same task, protocol and seed. So tables show the two side by side, and `tables compare` pairs their examples.

    Other data, `test` without `train`, are a task of their own in the record: of the model's kind, with the name of
    the file or `task_name`. The part `trained_on` says what the model was fine-tuned on. Labels that the model
    does not know count as errors; the report gives their number.

        score("kept/M-NCBI-disease-seed1", test="clinic.conll")["score"]  # F1 in percent

    Args:
        model: a folder saved by `evaluate --save`, or an `export` of one.
        records: file to which the record is appended; if it already has this one, that is returned.
        data: folder of the benchmarks' files.
        ner_dir: folder of the entity set, if it is none of the benchmarks.
        name: of the model in the record (default: the model's name and the precision).
        precision: of a PyTorch model, see `load`.
        errors: file to which what is wrong is written, one example per line (`evaluation.analysis.errors`).
        threshold: also report what thresholds change: "dev" (those chosen on dev) or a number for all types or classes.
            The record holds the scores without them.
        report: prints the lines of this report.
        own: data of one's own, see `benchmarks.own.OwnData`: where those that it was fine-tuned on are now, or
            `test` alone, data to score it on.

    Returns:
        The record: `score`, `metrics`, `analysis`, `task`, ...

    Raises:
        UserError: no model, no record of its fine-tuning beside it, training examples other than those of the record;
            data of another kind or without any label of the model; thresholds that it does not have.
    """
    store, folder = Records(Path(records)), Path(model)
    store.require_writable()
    if not folder.is_dir():
        raise no_folder(folder, "name one saved by `evaluate --save`, or an export")
    source = _record_of_fine_tuning(folder)
    thresholds = _thresholds(source, folder, threshold)
    engine = open_engine(folder, precision)
    require_task(engine, folder)
    variant = f"ONNX {engine.precision}" if isinstance(engine, OnnxEngine) else engine.precision
    places = {name: None if path is None else Path(path) for name, path in (("data", data), ("ner_dir", ner_dir))}
    data_set = scored_on(source["task"], engine.labels, own=own, where=folder, **places)
    task = data_set.task
    for note in data_set.notes:
        say(f"  {task['name']}: {note}")
    run = run_key({"scored": source["run"], "weights": _weights(folder, engine), "precision": variant, **data_set.key})
    line = store.find(SCORES, run)
    if line:
        say(f"recorded already: {line.model}, {line.where}")
        if errors is None and thresholds is None:
            return line.record
    if errors is not None:
        if Path(errors).is_dir():
            raise no_file(errors, "name a file with --errors")
        require_writable_at(errors)
    kind, labels, scored = KINDS[task["kind"]], engine.labels, data_set.examples
    start = time.monotonic()
    predictions = _predictions(engine, source, scored)
    scores = kind.score(scored, predictions)
    seconds = time.monotonic() - start
    if errors is not None:
        write_errors(errors, kind.errors(scored, predictions, labels))
    if thresholds is not None:
        _report_thresholds(kind.candidates(scored, predictions, labels), thresholds, report)
    if line:
        return line.record
    named = name or f"{source['model']['name']} {variant}"
    how = {
        "engine": variant,
        "seconds": round(seconds, 1),
        "examples_per_second": round(len(scored) / seconds, 1),
    }
    analysis = kind.analyze(scored, predictions, labels)
    return store.add(_record(source, run, named, data_set, scores, how, analysis), scores.per_example)


def _record_of_fine_tuning(folder: Path) -> dict[str, Any]:
    source = saved_record(folder)
    if not {"run", "task", "model", "protocol", "settings"} <= source.keys():
        raise UserError(
            "no record of a fine-tuning",
            where=folder / RECORD_FILE,
            remedy="make the model by: compact-biomed evaluate --save DIR",
        )
    return source


def _report_thresholds(candidates: Candidates, thresholds: Thresholds, report: Callable[[str], None]) -> None:
    """Print what thresholds change of the scores per label."""
    before, after = (label_scores(each) for each in (candidates, candidates.with_thresholds(thresholds)))
    report("With thresholds (the record holds the scores without):")
    for text in change_lines(before, after, thresholds):
        report(text)


def _record(
    source: dict[str, Any],
    run: str,
    name: str,
    data_set: ScoredOn,
    scores: Scores,
    how: Mapping[str, Any],
    analysis: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the record of a fine-tuning with other scores.

    Args:
        source: the record of the fine-tuning.
        run, name: those of this record, and of the model in it.
        how: engine and speed.
    """
    recorded = source["task"]
    record = source | {
        "run": run,
        "of": source["run"],
        "model": source["model"] | {"name": name},
        "task": data_set.task,
        **({"trained_on": {part: recorded[part] for part in ("name", "fold")}} if data_set.other else {}),
        "metrics": scores.metrics,
        "score": scores.metrics[data_set.task["metric"]],
        "counts": scores.counts,
        "how": how,
        "from": origin(),
    }
    for part in ("per_example_counts", "analysis"):
        record.pop(part, None)
    return record | ({"analysis": analysis} if analysis else {})


def _weights(folder: Path, engine: Engine) -> str:
    files = [folder / MODEL] if isinstance(engine, OnnxEngine) else sorted(folder.glob("*.safetensors"))
    return " ".join(sha256_file(file) for file in files)


def _thresholds(source: Mapping[str, Any], folder: Path, threshold: float | str | None) -> Thresholds | None:
    if threshold is None:
        return None
    if KINDS[source["task"]["kind"]].head not in ("token", "sequence", "multilabel"):
        what = f"{source['task']['name']} has neither types nor classes"
        raise UsageError(what, where="--threshold", remedy="leave it out")
    return requested(threshold, thresholds_in(source), where=folder)


def _predictions(engine: Engine, source: Mapping[str, Any], scored: Sequence[Example]) -> list[Any]:
    kind, settings = KINDS[source["task"]["kind"]], source["settings"]
    encoding = {"labels": engine.labels, "max_length": settings["max_length"], "level": source["protocol"]["level"]}
    answers: list[Any] = []
    threads = ThreadPoolExecutor(initializer=single_threaded)
    with threads as pool, progress(total=len(scored), desc="scoring", unit=" examples", leave=False) as bar:

        def logits(features: Sequence[Feature]) -> list[np.ndarray]:
            return list(pool.map(lambda f: engine(f["input_ids"], f.get("token_type_ids")), features))

        for chunk in predict(kind, scored, engine.tokenizer, logits, encoding):
            answers += chunk
            bar.update(len(chunk))
    return answers
