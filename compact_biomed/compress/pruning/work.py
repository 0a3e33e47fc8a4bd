"""The work of the recipe: fine-tune if need be, then one pruned model after the other."""

import argparse
from pathlib import Path
from typing import Any

from compact_biomed.compress.pruning.method import AfterPruning
from compact_biomed.compress.pruning.pruning import Pruning
from compact_biomed.compress.pruning.source import Source
from compact_biomed.console import say
from compact_biomed.errors import UserError
from compact_biomed.evaluation import story, suite, tasks
from compact_biomed.evaluation.command import speed_of
from compact_biomed.evaluation.finetune import FROM_LABELS, Method
from compact_biomed.evaluation.protocols import Overrides, default_seeds
from compact_biomed.evaluation.records import Records
from compact_biomed.evaluation.runs import Runner, model_name


def fine_tuned(options: argparse.Namespace, store: Records) -> list[Path]:
    """The folders of `--start`, fine-tuned with each seed; none in a dry run.

    Args:
        options: of `command.parser_of`.

    Raises:
        UserError: one of them was not made, or not kept.
    """
    task = tasks.ner_task_from_folder(options.ner_dir) if options.ner_dir else tasks.task_named(options.task)
    protocol, models = options.protocol or "standard", {model_name(options.start): options.start}
    overrides = Overrides(options.learning_rate, options.epochs, options.max_train_examples)
    seeds = options.seeds or default_seeds(protocol)
    wanted = suite.Suite(models, [task], seeds, protocol, overrides=overrides).check("--start")
    jobs = wanted.jobs()
    story.plan_of_runs(wanted, jobs)
    if options.dry_run:
        return []
    store.require_writable()
    runner = _runner(options, store, FROM_LABELS)
    if suite.run(jobs, runner).failed:
        raise UserError("the fine-tuning before failed; nothing was pruned", where=options.start)
    folders = [runner.kept(job) for job in jobs]
    if missing := next((folder for folder in folders if not folder.is_dir()), None):
        raise UserError("recorded, but not kept here", where=missing, remedy="another --records file makes it again")
    return folders


def carried_out(
    source: Source, how: Pruning, options: argparse.Namespace, store: Records
) -> tuple[Source, Path, dict[str, Any]]:
    """Source, folder and record of one pruned model; made if it is not recorded.

    Raises:
        UserError: files or settings that do not work.
    """
    runner, job = _runner(options, store, AfterPruning(source, how)), source.job(how.suffix)
    record = runner.recorded(job)
    say(f"{job}: recorded already" if record else str(job))
    return source, runner.kept(job), record or runner.run(job)


def _runner(options: argparse.Namespace, store: Records, method: Method) -> Runner:
    return Runner(store, data=options.data, speed=speed_of(options), save=options.save, method=method)
