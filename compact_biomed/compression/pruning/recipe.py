"""Run `recipes/pruning.py`: fine-tune if needed, then prune each model in each way and fine-tune it again."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from compact_biomed.benchmarks.tasks import Task
from compact_biomed.compression.pruning.importance import magnitude
from compact_biomed.compression.pruning.method import AfterPruning, FineTuned
from compact_biomed.compression.pruning.select import Pruning, numbers, prune
from compact_biomed.console import count, duration, say, size
from compact_biomed.errors import UserError
from compact_biomed.evaluation.protocols import NO_OVERRIDES, Overrides, default_seeds
from compact_biomed.evaluation.runs import Runner
from compact_biomed.evaluation.saved import model_name
from compact_biomed.evaluation.suite import Suite
from compact_biomed.evaluation.suite_printed import print_plan
from compact_biomed.evaluation.suite_runs import run, survey
from compact_biomed.evaluation.workspace import Workspace


class PrunedRun(NamedTuple):
    """A model that was pruned and fine-tuned again."""

    source: FineTuned
    folder: Path  # of the pruned model
    record: dict[str, Any]


def fine_tune_first(
    workspace: Workspace,
    start: str,
    task: Task,
    *,
    seeds: Sequence[int] | None = None,
    protocol: str = "standard",
    overrides: Overrides = NO_OVERRIDES,
    dry_run: bool = False,
) -> list[Path]:
    """Fine-tune a checkpoint with each seed, as `compact-biomed evaluate` does.

    Args:
        start: folder, hub name or registry name.
        seeds: None = those of the protocol.
        dry_run: print what would be done, and do nothing.

    Returns:
        The folders of the fine-tuned models; none in a dry run.

    Raises:
        UserError: one of them was not made, or not saved.
    """
    models = {model_name(start): start}
    seeds = seeds or default_seeds(protocol)
    checked = Suite(models, [task], seeds, protocol, overrides=overrides).check("--start")
    jobs = checked.jobs()
    runner = Runner(workspace)
    surveyed = survey(jobs, runner)
    print_plan(checked, jobs, surveyed)
    if dry_run:
        return []
    runner.store.require_writable()
    if run(jobs, runner, surveyed=surveyed).failed:
        raise UserError("fine-tuning failed, so nothing was pruned", where=start, remedy="see the error above")
    folders = [runner.model_folder(job) for job in jobs]
    if missing := next((folder for folder in folders if not folder.is_dir()), None):
        raise UserError(
            "recorded, but not saved here", where=missing, remedy="name another --records file to make it again"
        )
    return folders


def prune_and_fine_tune(workspace: Workspace, source: FineTuned, how: Pruning) -> PrunedRun:
    """Prune a model in one way and fine-tune it again, unless that is recorded already.

    Raises:
        UserError: files or settings that do not work.
    """
    runner, job = Runner(workspace, AfterPruning(source, how)), source.job(how.suffix)
    record = runner.find(job)
    say(f"{job}: recorded already" if record else str(job))
    return PrunedRun(source, runner.model_folder(job), record or runner.run(job))


def plan(sources: Sequence[FineTuned], prunings: Sequence[Pruning]) -> None:
    """Print what will be done, what will be left of each model, and how long it takes.

    Raises:
        UserError: a model that cannot be read or pruned so.
    """
    say(f"{len(sources)} fine-tuned model(s), each pruned in {len(prunings)} way(s) and fine-tuned again")
    for source in sources:
        model = source.checkpoint().model
        seconds = source.record.get("how", {}).get("seconds")
        cost = f"; each fine-tuning takes about {duration(seconds)}, like the first" if seconds else ""
        say(f"{source.folder}: {count(numbers(model)['parameters'])} parameters{cost}")
        for how in prunings:
            # The counts do not depend on which heads or units are removed, so the cheap importance will do.
            left = prune(model, replace(how, importance="magnitude"), magnitude).counts["after"]
            say(f"  {how.suffix:<20} {count(left['parameters'])} parameters, {count(left['nonzero'])} of them not zero")


def summary(runs: Sequence[PrunedRun], records: Path) -> None:
    """Print parameters, file sizes and scores before and after, and the next commands."""
    say(f"\n{'model, seed':<44}  {'parameters':>18}  {'not zero':>10}  {'file':>22}  score")
    for source, folder, record in runs:
        before, after = (record["model"]["pruning"][when] for when in ("before", "after"))
        columns = (
            f"{record['model']['name'] + ', ' + str(record['seed']):<44}",
            f"{count(before['parameters']) + ' -> ' + count(after['parameters']):>18}",
            f"{count(after['nonzero']):>10}",
            f"{_file_size(source.weights) + ' -> ' + _file_size(folder / source.weights.name):>22}",
            f"{record['task']['metric']} {source.record['score']:.2f} -> {record['score']:.2f}",
        )
        say("  ".join(columns))
    last = runs[-1].folder
    say(f"\n  records  {records}\n  models   {last.parent}/")
    if any(run.record["model"]["pruning"]["removed"] == "heads" for run in runs):
        say(
            "\nRemoved heads are zeros here, because transformers has no configuration without them; export takes "
            "them out."
        )
    say(f"\nNext: compact-biomed export --model {last} --output {last.name}-onnx")
    say(f"      compact-biomed tables --records {records}")


def _file_size(path: Path) -> str:
    return size(path.stat().st_size) if path.is_file() else "not saved"
