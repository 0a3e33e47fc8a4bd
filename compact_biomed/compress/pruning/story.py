"""The words around pruning: what will be done, at what cost, and what came of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from compact_biomed.compress.pruning.importance import magnitude
from compact_biomed.compress.pruning.parts import numbers
from compact_biomed.compress.pruning.pruning import Pruning, prune
from compact_biomed.compress.pruning.source import Source
from compact_biomed.console import count, duration, say, size


def plan(sources: Sequence[Source], ways: Sequence[Pruning]) -> None:
    """What is to be done, what will be left, and what it costs.

    Raises:
        UserError: a model that cannot be read or pruned so.
    """
    say(f"{len(sources)} fine-tuned model(s), each pruned in {len(ways)} way(s) and fine-tuned again")
    for source in sources:
        model = source.checkpoint().model
        seconds = source.record.get("how", {}).get("seconds")
        took = f"; fine-tuning it took {duration(seconds)}, and will about that long each time" if seconds else ""
        say(f"{source.folder}: {count(numbers(model)['parameters'])} parameters{took}")
        for how in ways:
            told = prune(model, replace(how, importance="magnitude"), magnitude).told  # as many, whichever go
            left, alive = (count(told["after"][what]) for what in ("parameters", "nonzero"))
            say(f"  {how.suffix:<20} {left} parameters, {alive} of them not zero")


def summary(runs: Sequence[tuple[Source, Path, dict[str, Any]]], records: Path) -> None:
    """Numbers before and after, and what to do next.

    Args:
        runs: source, folder of the pruned model, record.
    """
    say(f"\n{'model, seed':<44}  {'parameters':>18}  {'not zero':>10}  {'file':>22}  score")
    for source, folder, record in runs:
        before, after = (record["model"]["pruning"][when] for when in ("before", "after"))
        parameters = f"{count(before['parameters'])} -> {count(after['parameters'])}"
        file = f"{_file(source.weights)} -> {_file(folder / source.weights.name)}"
        name = f"{record['model']['name']}, {record['seed']}"
        metric = record["task"]["metric"]
        say(f"{name:<44}  {parameters:>18}  {count(after['nonzero']):>10}  {file:>22}  "
            f"{metric} {source.record['score']:.2f} -> {record['score']:.2f}")  # fmt: skip
    last = runs[-1][1]
    say(f"\n  records  {records}\n  models   {last.parent}/")
    if any(record["model"]["pruning"]["removed"] == "heads" for *_, record in runs):
        say("\nHeads are removed as zeros, for transformers has no configuration without them; export takes them out.")
    say(f"\nNext: compact-biomed export --model {last} --output {last.name}-onnx")
    say(f"      compact-biomed tables --records {records}")


def _file(path: Path) -> str:
    return size(path.stat().st_size) if path.is_file() else "not kept"
