"""The words around a reproduction: the plan with its costs before, what became of it after."""

from collections.abc import Mapping
from pathlib import Path

from compact_biomed.console import count, duration, say
from compact_biomed.report.measured import measure
from compact_biomed.report.power import detectable, pooled_deviation, seeds_needed
from compact_biomed.report.records import read_lines, score_lines
from compact_biomed.reproduce.costs import Cost
from compact_biomed.reproduce.execute import Tally
from compact_biomed.reproduce.plan import Plan
from compact_biomed.reproduce.steps import Evaluation, Step


def plan_of_steps(plan: Plan, costs: Mapping[Step, Cost]) -> None:
    """Each step with its state and cost, the sum, and what the seeds can tell apart."""
    say(f"\nReproduction, preset {plan.declared.preset}: {len(plan.chosen)} steps")
    wide = max((len(_short(step)) for step in plan.chosen), default=0)
    for step in plan.chosen:
        say(f"  {_short(step):<{wide}}  {_cost(costs[step]) if step in costs else 'done'}")
    left = [costs[step] for step in plan.chosen if step in costs]
    total = Cost(sum(c.tokens for c in left), sum(c.flops for c in left), 1.0, True)
    say(f"\n{len(plan.chosen) - len(left)} done, {len(left)} left: {count(total.tokens)} tokens, "
        f"{count(total.flops)} FLOPs, about {duration(sum(c.seconds for c in left))}.")  # fmt: skip
    say("Times: * at a rate probed on made-up text, others at that of recorded runs on this machine.")
    for notice in [*(f"Left out: {each}" for each in plan.missing), *plan.notices]:
        say(notice)
    _power(plan)


def _short(step: Step) -> str:
    if isinstance(step, Evaluation):
        return f"{step.model.name}, seed {step.seed}: {', '.join(step.tasks)}"
    return f"{step.model.name}: {step.model.recipe}"


def _cost(cost: Cost) -> str:
    mark = "" if cost.measured else "*"
    return f"{count(cost.tokens):>7} tokens {count(cost.flops):>7} FLOPs {duration(cost.seconds):>13}{mark}"


def _power(plan: Plan) -> None:
    """What a comparison of two models can tell apart."""
    declared = plan.declared
    seeds = max((len(each.seeds) for each in declared.measurements), default=0)
    sets = max((len(each.tasks) for each in declared.measurements), default=0)
    deviation, source = declared.deviation, "assumed"
    if known := _deviation(plan.places.evaluation):
        deviation, source = known[0], f"of the records, {known[1]} degrees of freedom"
    say(f"\nPower (paired t-test over seeds, two-sided, 5 %, power 80 %; "
        f"a seed deviates by {deviation:.2f} points on a set: {source})")  # fmt: skip
    needed = {n: seeds_needed(difference=declared.difference, deviation=deviation, sets=n) for n in range(1, sets + 1)}
    table = "; ".join(f"{n} set{'s' * (n > 1)}: {seeds or 'over 100'} seeds" for n, seeds in needed.items())
    say(f"  to tell {declared.difference:g} points apart: {table}")
    if seeds > 1:
        least = detectable(deviation=deviation, seeds=seeds, sets=sets)
        say(f"  planned: {sets} set(s) x {seeds} seeds tell {least:.2f} points apart; one set "
            f"{detectable(deviation=deviation, seeds=seeds):.2f}")  # fmt: skip


def _deviation(records: Path) -> tuple[float, int] | None:
    if not records.is_file():
        return None
    lines = score_lines(read_lines([records]))
    found = pooled_deviation(measure(lines)) if lines else None
    return found if found and found[0] > 0 else None


def summary(plan: Plan, tally: Tally) -> None:
    """What became of the steps."""
    say(f"\n{len(tally.done)} of {len(plan.chosen)} steps are done.")
    if tally.failed:
        say(f"{len(tally.failed)} failed:")
        for step, why in tally.failed.items():
            say(f"  {step}: {why}")
    if tally.left:
        reason = "Stopped" if tally.interrupted else "The time is up"
        say(f"{reason}; {len(tally.left)} are left, {tally.left[0]} first. The same command goes on.")
