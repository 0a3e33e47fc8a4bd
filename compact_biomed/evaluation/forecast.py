"""Estimate and print what the runs of a suite will do and cost."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from transformers import PretrainedConfig

from compact_biomed.console import aligned, count, counted, duration
from compact_biomed.engine.plan import device_name
from compact_biomed.evaluation import cost
from compact_biomed.evaluation.cost import READING, TaskWork
from compact_biomed.evaluation.job import Job
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.protocols import Protocol
from compact_biomed.evaluation.runs import Runner
from compact_biomed.records.lines import SEARCH

_SHORT = 2e12  # FLOPs that take less than a minute on any machine: not worth a probe


@dataclass(frozen=True)
class _JobWork:
    """The work of a job that is not recorded.

    Args:
        trials: names in records of the trials of its search on dev.
        flops: of training on one token; 0 = unknown.
        teacher: FLOPs of a teacher's reading of one token in each step, 0 = none; `teacher_once` = before training.
    """

    task: TaskWork
    protocol: Protocol
    trials: list[str]
    flops: float
    teacher: float
    teacher_once: float


class Forecast:
    """The expected work and time of jobs that are not recorded.

    Args:
        runner: of the jobs.
    """

    def __init__(self, runner: Runner):
        self._runner, self._works = runner, dict[Job, _JobWork]()
        self._first: dict[object, Job] = {}  # trial, or what a teacher reads -> the first job that needs it
        self._flops_per_second = 0.0
        self._known_rates: dict[str, tuple[int, list[float]]] = {}  # model -> number of records, its rates by them

    def add(self, job: Job) -> None:
        """Compute the work of a job; cheap as long as the runner has its data in memory.

        Raises:
            UserError: unusable files.
        """
        runner = self._runner
        protocol, task = runner.work(job)
        trials = [runner.search_key(job, each) for each in protocol.candidates] if protocol.searches else []
        config, method = runner.config(job), runner.method
        flops, teacher = _flops(config, task), 0.0
        if method.teacher_model is not None:
            teacher = READING * _flops(method.teacher_model.config, task)
        in_step, once = (teacher, 0.0) if method.teacher_in_step else (0.0, teacher)
        self._works[job] = _JobWork(task, protocol, trials, flops, in_step, once)
        for need in (*trials, self._once(job)):
            self._first.setdefault(need, job)

    @staticmethod
    def _once(job: Job) -> tuple:
        return (job.start, job.task, job.fold)

    def _missing(self, job: Job) -> list[str]:
        """Return the trials that the job will do: not recorded, and not done by an earlier job."""
        find = self._runner.store.find
        return [trial for trial in self._works[job].trials if self._first[trial] == job and not find(SEARCH, trial)]

    def tokens(self, job: Job) -> float:
        """Return the tokens to train on, the search on dev included; one that is only read counts a third."""
        work = self._works[job]
        return work.task.per_seed + len(self._missing(job)) * work.task.per_trial

    def flops(self, job: Job) -> float:
        """Return the FLOPs of the job, those of a teacher included."""
        work = self._works[job]
        once = work.teacher_once * work.task.once if self._first[self._once(job)] == job else 0.0
        return self.tokens(job) * (work.flops + work.teacher) + once

    def seconds(self, job: Job) -> float:
        """Return the expected time on this machine; 0 if its rate is unknown."""
        if job not in self._works:
            return 0.0
        if rates := self._rates(job.model):
            return self.tokens(job) / statistics.median(rates)
        return self.flops(job) / self._flops_per_second if self._flops_per_second else 0.0

    def _rates(self, model: str) -> list[float]:
        lines = self._runner.store.lines
        if (known := self._known_rates.get(model)) is None or known[0] != len(lines):
            rates = cost.recorded_rates((line.record for line in lines), model, device_name())
            known = self._known_rates[model] = len(lines), rates
        return known[1]

    def measure(self) -> None:
        """Time a few steps of one model, if recorded runs do not say how long the jobs take and they are not short."""
        trained = [job for job, work in self._works.items() if work.flops and not job.task.untrained]
        unknown = [job for job in trained if not self._rates(job.model)]
        if sum(map(self.flops, unknown)) < _SHORT:
            return
        job = min(unknown, key=lambda job: self._works[job].flops)
        work, runner = self._works[job], self._runner
        try:
            head = KINDS[job.task.kind].head
            rate = cost.probe(runner.checkpoint_folder(job), head, runner.workspace.speed, length=work.task.length)
        except Exception:  # the run will say what is wrong, and the others go on
            return
        self._flops_per_second = rate * work.flops

    # ---- words

    def lines(self, jobs: Sequence[Job]) -> Iterator[str]:
        """Yield what there is to do and its cost, line by line.

        Args:
            jobs: all of the suite; those that were not added are recorded.
        """
        if not self._works:
            return
        yield from aligned(list(self._rows(jobs)))
        yield from self._search()
        yield self._cost()
        folder = self._runner.checkpoint("").folder
        yield f"The training in progress is saved about once a minute in {folder}; the same command continues it."

    def _rows(self, jobs: Sequence[Job]) -> Iterator[list[str]]:
        yield ["task", "train", "dev", "test", "epochs", "tokens per run", "trials on dev", "runs left", "expected"]
        tasks = dict.fromkeys((job.task, job.fold is not None) for job in self._works)
        for task, in_folds in tasks:
            left = [job for job in self._works if job.task == task]
            work, missing = self._works[left[0]], sum(len(self._missing(job)) for job in left)
            trials = len({trial for job in left for trial in self._works[job].trials})
            hyperparameters, examples = work.protocol.hyperparameters, work.task.examples
            seconds = sum(map(self.seconds, left))
            yield [
                task.name + " (a fold)" * in_folds,
                *(f"{examples[split]:,}" for split in ("train", "dev", "test")),
                f"{'up to ' * work.protocol.choose_epochs}{hyperparameters.epochs}",
                count(work.task.per_seed),
                f"{missing} of {trials}" if trials else "-",
                f"{len(left)} of {sum(job.task == task for job in jobs)}",
                duration(seconds) if seconds else "-",
            ]

    def _search(self) -> Iterable[str]:
        """Return what trials on dev choose, by each protocol that has any."""
        return dict.fromkeys(_search_in_words(work.protocol) for work in self._works.values() if work.trials)

    def _cost(self) -> str:
        """Return the whole work and time, and what the time is based on."""
        jobs = list(self._works)
        work = f"{count(sum(map(self.tokens, jobs)))} tokens, {count(sum(map(self.flops, jobs)))} FLOPs"
        seconds = [self.seconds(job) for job in jobs]
        if not all(seconds):
            return f"Expected: {work}" + ("; less than a minute" if not any(seconds) else "")
        models = dict.fromkeys(job.model for job in jobs)
        recorded = {model: rates for model in models if (rates := self._rates(model))}
        if len(recorded) == len(models):
            runs = sum(map(len, recorded.values()))
            source = f"as fast as {counted(runs, 'recorded run')} on this machine"
        elif recorded:
            source = "by recorded runs on this machine, for the other models by a few steps timed just now"
        else:
            source = "by a few steps timed just now"
        rate = sum(map(self.tokens, jobs)) / sum(seconds)
        return f"Expected: {work}, about {duration(sum(seconds))} ({rate:,.0f} tokens/s, {source})"


def _flops(config: PretrainedConfig | None, task: TaskWork) -> float:
    """Return the FLOPs of training on one token; 0 for a model that cannot be built: its run will say why."""
    try:
        return cost.encoder_flops(config, length=task.length)
    except Exception:  # of transformers, of any kind
        return 0.0


def _search_in_words(protocol: Protocol) -> str:
    chosen = [f"the learning rate ({_joined(f'{rate:g}' for rate in protocol.learning_rates)})"]
    if protocol.batch_sizes:
        chosen.append(f"the batch size ({_joined(map(str, protocol.batch_sizes))})")
    chosen += ["the number of epochs"] * protocol.choose_epochs
    until = f"; a trial ends after {protocol.patience} epochs that are no better" if protocol.patience else ""
    return f"Trials on dev choose {_joined(chosen, 'and')}, once per model and task, for all seeds{until}."


def _joined(parts: Iterable[str], before_last: str = "or") -> str:
    *others, last = parts
    return f"{', '.join(others)} {before_last} {last}" if others else last
