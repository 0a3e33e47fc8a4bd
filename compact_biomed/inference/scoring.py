"""A fine-tuned model scored on its task's test set as it is: quantized, exported, in another precision."""

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
from compact_biomed.compress.export import MODEL
from compact_biomed.console import progress, say
from compact_biomed.errors import UserError
from compact_biomed.evaluation.features import Feature
from compact_biomed.evaluation.kinds import KINDS, predict
from compact_biomed.evaluation.runs import RECORD, saved_record
from compact_biomed.evaluation.scoring import Scores
from compact_biomed.files import sha256_file
from compact_biomed.inference.engines import Engine, OnnxEngine, engine_of
from compact_biomed.inference.model import single_threaded
from compact_biomed.records import origin


def score(
    place: Path | str,
    store: records.Records,
    *,
    data: Path | None = None,
    ner_dir: Path | None = None,
    name: str | None = None,
    precision: str = "auto",
) -> dict[str, Any]:
    """Score a model on the test set of the task that it was fine-tuned on, and record it.

    The record is that of its fine-tuning with scores and examples of this engine: another name of the model, the same
    task, protocol and seed. So tables set the two side by side, and `tables compare` pairs them example by example.

    Args:
        place: a folder that `evaluate --save` kept, or an `export` of one.
        store: where it is written; what is recorded there already is returned.
        data: folder of the benchmarks' files.
        ner_dir: folder of the entity set, if it is none of the benchmarks.
        name: what the record calls it (default: the model's name and the precision).
        precision: of a PyTorch model, see `load`.

    Raises:
        UserError: no model, no record of its fine-tuning beside it, or other test examples than then.
    """
    place = Path(place)
    source = saved_record(place)
    if not place.is_dir():
        raise UserError("no such folder", where=place, remedy="name one that `evaluate --save` kept, or an export")
    if not {"run", "task", "model", "protocol", "settings"} <= source.keys():
        raise UserError(
            "no record of a fine-tuning",
            where=place / RECORD,
            remedy="make the model by: compact-biomed evaluate --save DIR",
        )
    engine = engine_of(place, precision)
    what = f"ONNX {engine.precision}" if isinstance(engine, OnnxEngine) else engine.precision
    run = records.run_key({"scored": source["run"], "weights": _weights(place, engine), "precision": what})
    if line := store.find(records.SCORES, run):
        say(f"recorded already: {line.model}, {line.where}")
        return line.record
    splits = _splits(source, place, data, ner_dir)
    start = time.monotonic()
    scores = _scores(engine, source, splits)
    seconds = time.monotonic() - start
    model = source["model"] | {"name": name or f"{source['model']['name']} {what}"}
    how = {"engine": what, "seconds": round(seconds, 1), "examples_per_second": round(len(splits.test) / seconds, 1)}
    record = source | {"run": run, "of": source["run"], "model": model, "metrics": scores.metrics}
    record |= {"score": scores.metrics[source["task"]["metric"]], "counts": scores.counts, "how": how, "from": origin()}
    record.pop("per_example_counts", None)
    return store.add(record, scores.per_example)


def _weights(place: Path, engine: Engine) -> str:
    files = [place / MODEL] if isinstance(engine, OnnxEngine) else sorted(place.glob("*.safetensors"))
    return " ".join(sha256_file(file) for file in files)


def _splits(source: Mapping[str, Any], place: Path, data: Path | None, ner_dir: Path | None) -> Splits:
    asked = source["task"]
    if ner_dir is None and asked["name"] not in tasks.TASKS:
        raise UserError(
            f"it was fine-tuned on a set of your own, {asked['name']}", where=place, remedy="name it: --ner-dir PATH"
        )
    task = tasks.ner_task_from_folder(ner_dir) if ner_dir else tasks.task_named(asked["name"])
    splits = read(task, tasks.find(task, data), asked["fold"])
    found = examples.examples_sha256(splits)
    for part in ("test", "train", "dev"):  # the labels' order comes from the latter two
        if found[part] != asked["data_sha256"].get(part):
            raise UserError(
                f"the {part} examples of {task.name} are not those of its record", where=place,
                remedy="name the files that it was fine-tuned on",
            )  # fmt: skip
    return splits


def _scores(engine: Engine, source: Mapping[str, Any], splits: Splits) -> Scores:
    kind = KINDS[source["task"]["kind"]]
    labels, level = kind.labels(splits), source["protocol"]["level"]
    encoding = {"labels": labels, "max_length": source["settings"]["max_length"], "level": level}
    answered: list[Any] = []
    threads = ThreadPoolExecutor(initializer=single_threaded)
    with threads as pool, progress(total=len(splits.test), desc="scoring", unit=" examples", leave=False) as bar:

        def logits(features: Sequence[Feature]) -> list[np.ndarray]:
            return list(pool.map(lambda f: engine(f["input_ids"], f.get("token_type_ids")), features))

        for some in predict(kind, splits.test, engine.tokenizer, logits, encoding):
            answered += some
            bar.update(len(some))
    return kind.score(splits.test, answered)
