"""What a suite prints: its plan with costs, and a summary of its scores."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from compact_biomed.console import counted, say, shortened
from compact_biomed.evaluation.analysis.printed import lines_of
from compact_biomed.evaluation.job import Job
from compact_biomed.evaluation.protocols import changes_in_words
from compact_biomed.evaluation.suite import Suite
from compact_biomed.evaluation.suite_runs import SuiteOutcome, Survey

_MOST_DETAILS = 3  # models and tasks whose scores per type are printed


def print_plan(suite: Suite, jobs: Sequence[Job], surveyed: Survey) -> None:
    """Print which runs the suite consists of, and what those cost that are not recorded."""
    models, tasks = ", ".join(suite.models), ", ".join(task.name for task in suite.tasks)
    seeds = ", ".join(map(str, suite.seeds))
    say(f"{counted(len(jobs), 'run')}: {models} on {tasks}; seeds {seeds}; protocol {suite.protocol}")
    if changed := suite.overrides.changed():
        say(f"In place of the protocol's: {changes_in_words(changed)}. Tables keep such scores apart.")
    for line in surveyed.forecast.lines(jobs):
        say(line)


def print_summary(outcome: SuiteOutcome, records: Path) -> None:
    """Print the mean scores, the path of the records, failed and remaining runs, and the next command."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for record in outcome.records:
        metric = f"{record['task']['name']} ({record['task']['metric']})"
        groups.setdefault((record["model"]["name"], metric, _test_size(record)), []).append(record)
    if groups:
        rows = [("model", "task (metric)", "mean", "sd", "seeds", "test set")]
        for (model, metric, size), group in groups.items():
            scores = scores_by_seed(group)
            deviation = f"{statistics.stdev(scores):.2f}" if len(scores) > 1 else "-"
            names = shortened(model), shortened(metric)
            rows.append((*names, f"{statistics.mean(scores):.2f}", deviation, str(len(scores)), size))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        say("\nScores on test in percent: mean and standard deviation over seeds")
        for row in rows:
            names, numbers = zip(row[:2], widths[:2], strict=True), zip(row[2:5], widths[2:5], strict=True)
            cells = [*(cell.ljust(width) for cell, width in names), *(cell.rjust(width) for cell, width in numbers)]
            say("  ".join([*cells, row[5]]))
        _print_details(list(groups.values()))
        say(f"\nRecords: {records} (one line per run)")
    if outcome.failed:
        first = next(iter(outcome.failed))
        listed = "; ".join(outcome.failed) if len(outcome.failed) <= 5 else f"{first} and others"
        say(f"\n{counted(len(outcome.failed), 'run')} failed for the reasons above: {listed}")
    if left := outcome.remaining:
        runs = "1 run is left" if len(left) == 1 else f"{len(left)} runs are left, beginning with"
        say(f"\nTime is up; {runs} {left[0]}. Run the same command again to continue.")
    elif outcome.records and not outcome.failed:
        say(f"\nNext: compact-biomed tables --records {records}")
        if len(outcome.records) < 5 and any(record["how"]["steps"] for record in outcome.records):
            say("      More seeds (--seeds 1,2,3,4,5) show how much a score varies by chance.")


def _print_details(groups: Sequence[Sequence[dict[str, Any]]]) -> None:
    """Print what is behind the scores of each model and task; of many, say where it is."""
    detailed = [group for group in groups if any(record.get("analysis") for record in group)]
    if len(detailed) > _MOST_DETAILS:
        say("\nScores per type and class, confusions and calibration: `analysis` in each record")
        return
    for group in detailed:
        model, task = group[0]["model"]["name"], group[0]["task"]["name"]
        runs = f", mean of {len(group)} runs" if len(group) > 1 else ""
        say(f"\n{shortened(model)} on {shortened(task)}{runs}")
        for line in lines_of(group):
            say(line)


def scores_by_seed(records: Iterable[dict[str, Any]]) -> list[float]:
    """Return one score per seed, the mean over its folds, as in tables."""
    seeds: dict[int, list[float]] = {}
    for record in records:
        seeds.setdefault(record["seed"], []).append(record["score"])
    return [statistics.mean(scores) for scores in seeds.values()]


def _test_size(record: dict[str, Any]) -> str:
    if record["task"]["fold"] is not None:
        return "folds"
    questions = record.get("counts", {}).get("questions")  # one question may have several contexts
    return f"{questions:,} questions" if questions else f"{record['task']['examples']['test']:,} examples"
