"""The words around evaluation: what will be done, and what came of it."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compact_biomed.console import say
from compact_biomed.evaluation.runs import Job
from compact_biomed.evaluation.suite import Suite, Tally


def plan_of_runs(suite: Suite, jobs: Sequence[Job]) -> None:
    """What is to be done."""
    models, named = ", ".join(suite.models), ", ".join(task.name for task in suite.tasks)
    seeds = ", ".join(map(str, suite.seeds))
    say(f"{len(jobs)} run(s): {models} on {named}; seeds {seeds}; protocol {suite.protocol}")
    if given := suite.overrides.given():
        changed = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in given.items())
        say(f"In place of the protocol's: {changed}. Such scores stand apart in tables.")


def summary(tally: Tally, records: Path) -> None:
    """Scores, where they lie, what failed, what is left, what to do next."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for record in tally.done:
        metric = f"{record['task']['name']} ({record['task']['metric']})"
        groups.setdefault((record["model"]["name"], metric, _size(record)), []).append(record)
    if groups:
        wide = [max(len(key[i]) for key in groups) for i in (0, 1)]
        say(
            f"\n{'model':<{wide[0]}}  {'task (metric)':<{max(wide[1], 13)}}  {'mean':>6}  {'sd':>5}  {'n':>3}  test set"
        )
        for (model, metric, test), found in groups.items():
            scores = _by_seed(found)
            deviation = f"{statistics.stdev(scores):.2f}" if len(scores) > 1 else "-"
            say(f"{model:<{wide[0]}}  {metric:<{max(wide[1], 13)}}  {statistics.mean(scores):>6.2f}  {deviation:>5}  "
                f"{len(scores):>3}  {test}")  # fmt: skip
        say(f"\n  records    {records}   one line a run, with its settings; each example's numbers beside")
    if tally.failed:
        runs = f"{len(tally.failed)} run{'s' * (len(tally.failed) > 1)}"
        first = next(iter(tally.failed))
        told = "; ".join(tally.failed) if len(tally.failed) <= 5 else f"{first} first"
        say(f"\n{runs} failed, as said above: {told}")
    if tally.left:
        say(f"\nThe time is up; {len(tally.left)} runs are left, {tally.left[0]} first. The same command goes on.")
    elif tally.done and not tally.failed and len(tally.done) < 5:
        say("\nNext: more seeds (--seeds 1,2,3,4,5) tell chance from difference.")


def _by_seed(found: Sequence[dict[str, Any]]) -> list[float]:
    """One score a seed; folds are averaged within it, as in tables."""
    seeds: dict[int, list[float]] = {}
    for record in found:
        seeds.setdefault(record["seed"], []).append(record["score"])
    return [statistics.mean(scores) for scores in seeds.values()]


def _size(record: dict[str, Any]) -> str:
    if record["task"]["fold"] is not None:
        return "folds"
    questions = record.get("counts", {}).get("questions")  # several contexts may belong to one
    return f"{questions:,} questions" if questions else f"{record['task']['examples']['test']:,} examples"
