"""What a reproduction prints: the plan with its costs, what its seeds can decide, and what became of the steps."""

from collections.abc import Mapping
from pathlib import Path

from compact_biomed.console import count, counted, duration, say
from compact_biomed.records.lines import read_lines, score_lines
from compact_biomed.report.measured import measure
from compact_biomed.reproduce.costs import StepCost
from compact_biomed.reproduce.execute import StepOutcomes
from compact_biomed.reproduce.plan import ReproductionPlan
from compact_biomed.reproduce.power import Noise, claims_power, detectable, pooled_deviation, seeds_needed
from compact_biomed.reproduce.steps import Evaluation, Step, Training, of_replicate, weights_needed


def print_plan(plan: ReproductionPlan, costs: Mapping[Step, StepCost]) -> None:
    """Print each step with its state and cost, the total, and what the planned seeds can detect.

    Args:
        costs: of the steps that are not done.
    """
    say(f"\nReproduction, preset {plan.declared.preset}: {len(plan.chosen)} steps")
    width = max((len(_label(step)) for step in plan.chosen), default=0)
    needed = weights_needed(plan.chosen)
    for step in plan.chosen:
        state = _cost_columns(costs[step]) if step in costs else "done"
        if step in needed and isinstance(step, Training) and step.recorded():
            state += f"  again: its weights are not on this machine; needed for {needed[step]}"
        say(f"  {_label(step):<{width}}  {state}")
    left = [costs[step] for step in plan.chosen if step in costs]
    tokens, flops, seconds = (sum(getattr(cost, name) for cost in left) for name in ("tokens", "flops", "seconds"))
    total = f"{count(tokens)} tokens, {count(flops)} FLOPs, about {duration(seconds)}"
    say(f"\n{len(plan.chosen) - len(left)} done, {len(left)} left: {total} of computing.")
    if left:
        say("Each step also loads its libraries, and measures what it made: 5 to 20 seconds.")
    say("Times marked * assume a rate probed on generated text; the others use recorded runs on this machine.")
    for notice in [*(f"Left out: {reason}" for reason in plan.missing), *plan.notices]:
        say(notice)
    _print_power(plan)


def _label(step: Step) -> str:
    if isinstance(step, Evaluation):
        return f"{step.label}, seed {step.seed}: {', '.join(step.tasks)}"
    if isinstance(step, Training):
        return f"{step.model.name}{of_replicate(step)}: {step.model.recipe}"
    return str(step)


def _cost_columns(cost: StepCost) -> str:
    mark = "" if cost.measured else "*"
    return f"{count(cost.tokens):>7} tokens {count(cost.flops):>7} FLOPs {duration(cost.seconds):>13}{mark}"


def _print_power(plan: ReproductionPlan) -> None:
    """Print which differences between two models the plan can detect by fine-tuning seeds alone."""
    declared = plan.declared
    seeds = max((len(measurement.seeds) for measurement in declared.measurements), default=0)
    sets = max((len(measurement.tasks) for measurement in declared.measurements), default=0)
    deviation, source = declared.deviation, "assumed"
    if pooled := _recorded_deviation(plan.paths.evaluation):
        deviation, source = pooled[0], f"from the records, {pooled[1]} degrees of freedom"
    say("\nPower (two-sided paired t-test over seeds at 5 %, power 80 %)")
    say(f"  standard deviation of a score over seeds: {deviation:.2f} points per test set ({source})")
    needed = {n: seeds_needed(difference=declared.difference, deviation=deviation, sets=n) for n in range(1, sets + 1)}
    table = "; ".join(f"{counted(n, 'test set')}: {seeds or 'over 100'}" for n, seeds in needed.items())
    say(f"  seeds needed to detect a difference of {declared.difference:g} points: {table}")
    if seeds > 1:
        one, all_sets = (detectable(deviation=deviation, seeds=seeds, sets=n) for n in (1, sets))
        say(f"  the planned {seeds} seeds detect {one:.2f} points on one test set, {all_sets:.2f} on {sets} together")


def _recorded_deviation(records: Path) -> tuple[float, int] | None:
    lines = score_lines(read_lines([records])) if records.is_file() else []
    pooled = pooled_deviation(measure(lines)) if lines else None
    return pooled if pooled and pooled[0] > 0 else None


def print_power_of_claims(plan: ReproductionPlan) -> None:
    """Print for each claim whether the planned seeds can decide it, if the true ratios are those of the records.

    Records of this reproduction say what to expect; where there are none yet, those of another one in the same results.
    """
    others = sorted(plan.paths.results.glob("*/evaluation.jsonl"))
    source = next((path for path in (plan.paths.evaluation, *others) if path.is_file()), None)
    noise, claims = claims_power(plan, score_lines(read_lines([source])) if source else [])
    if not any(each.pairs for each in claims):
        return
    say("\nClaims that the planned seeds can decide (95 %, power 80 %, Holm's correction within a claim)")
    say(f"  expected from: {source or 'nothing recorded'}")
    say(f"  standard deviations, in percent of a score (medians): {_noise(noise)}")
    for each in claims:
        decision = f'yes, "{each.verdict}"' if each.verdict else "not known" if each.unknown else "no"
        say(f"  {decision}: {each.claim.text} (threshold {100 * each.claim.threshold:g} %)")
        for pair in each.pairs:
            seen = "not recorded" if pair.expected is None else f"{100 * pair.expected:.1f} % expected"
            reach = f"{100 * pair.margin:.1f} points from the threshold can be told, {pair.sets} test sets"
            say(f"    {pair.model} / {pair.reference}: {seen if pair.sets else 'nothing in common'}; {reach}")
        if len(each.pairs) < len(each.claim.pairs):
            say("    some of its models are not in this plan")


def _noise(noise: Noise) -> str:
    parts = {"fine-tuning": noise.finetuning[""], "pretraining": noise.pretraining}
    shown = [f"{name} {100 * of:.2f}{' (assumed)' * (name in noise.assumed)}" for name, of in parts.items()]
    examples = f"{100 * noise.examples['', '']:.2f} of a ratio" if noise.examples else "not known"
    return ", ".join([*shown, f"test examples {examples}"])


def print_outcomes(plan: ReproductionPlan, outcomes: StepOutcomes) -> None:
    """Print how many steps are done, and what failed or remains."""
    say(f"\n{len(outcomes.done)} of {len(plan.chosen)} steps are done.")
    if outcomes.failed:
        say(f"{len(outcomes.failed)} failed:")
        for step, reason in outcomes.failed.items():
            say(f"  {step}: {reason}")
    if outcomes.remaining:
        reason = "Stopped by Ctrl-C" if outcomes.interrupted else "The time is up"
        if outcomes.too_long:
            reason = "No remaining training ends within the limit"
        say(f"{reason}. {len(outcomes.remaining)} steps remain; the next is {outcomes.remaining[0]}.")
        if outcomes.too_long:
            say("Run it with more --minutes, or begin it with --continue-later: it resumes on this machine.")
        else:
            say("Run the same command again to continue.")
