"""Choose learning rate, batch size and epochs on the dev set, before the fine-tuning that is scored."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from compact_biomed.console import say
from compact_biomed.errors import UserError
from compact_biomed.evaluation.finetune import Assignment, fine_tune
from compact_biomed.evaluation.learner import Diverged
from compact_biomed.evaluation.monitor import Monitor
from compact_biomed.evaluation.protocols import SEARCH_SEED, Candidate, FinetuneHyperparameters, Protocol
from compact_biomed.machine import PerformanceSettings
from compact_biomed.records.locks import in_turns


def dev_scores(
    work: Assignment, protocol: Protocol, candidate: Candidate, *, speed: PerformanceSettings, monitor: Monitor | None
) -> list[float]:
    """Fine-tune as a candidate says, and return the primary metric by epoch; no numbers if it diverged.

    Args:
        work: `work.scored` is dev.
    """
    hyperparameters = candidate.applied(protocol.hyperparameters)
    options = {"each_epoch": protocol.choose_epochs, "patience": protocol.patience, "monitor": monitor}
    try:
        return fine_tune(work, hyperparameters, seed=SEARCH_SEED, speed=speed, **options).by_epoch
    except Diverged:
        return []


def choose(
    work: Assignment, protocol: Protocol, scores_of: Callable[[Candidate], list[float] | None]
) -> tuple[FinetuneHyperparameters, list[dict[str, Any]]]:
    """Choose the candidate, and the number of epochs, that are best on dev.

    Args:
        scores_of: returns the scores by epoch of a candidate, from records or from `dev_scores`; None while another
            process computes them.

    Returns:
        The chosen hyperparameters, and for each candidate its scores by epoch (none if it diverged). Of equal scores,
        fewer epochs and then the lower learning rate win.

    Raises:
        UserError: training diverged at every learning rate.
    """
    tried: dict[Candidate, list[float]] = {}
    busy: list[Candidate] = []
    for candidate, _ in in_turns(protocol.candidates, busy):
        if (by_epoch := scores_of(candidate)) is None:
            busy.append(candidate)
            continue
        tried[candidate] = by_epoch
        result = f"{work.task.metric} {max(by_epoch):.2f}" if by_epoch else "diverged"
        best = f", after epoch {by_epoch.index(max(by_epoch)) + 1}" if len(by_epoch) > 1 else ""
        say(f"  {candidate}: {result} on dev{best}")
    scores = [score for by_epoch in tried.values() for score in by_epoch]
    if not scores:
        raise UserError(
            f"training diverged at every learning rate on {work.task.name}",
            where=work.checkpoint,
            remedy="try a lower --learning-rate",
        )
    best = max(scores)
    winners = [(by_epoch.index(best) + 1, *candidate) for candidate, by_epoch in tried.items() if best in by_epoch]
    epochs, *values = min(winners)
    chosen = Candidate(*values).applied(protocol.hyperparameters)
    listed = [{**candidate.recorded(), "dev": tried[candidate]} for candidate in protocol.candidates]
    return (replace(chosen, stop_after=epochs) if protocol.choose_epochs else chosen), listed
