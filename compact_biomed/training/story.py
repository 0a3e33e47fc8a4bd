"""The words around a run: the plan before it, the summary after it, and what goes into its record."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from compact_biomed.console import count, duration, say, size
from compact_biomed.training.settings import Preset, science_record

if TYPE_CHECKING:
    from compact_biomed.corpus import TokenizedCorpus
    from compact_biomed.training.cost import Cost
    from compact_biomed.training.machine import Plan
    from compact_biomed.training.recipe import ContinualRecipe


def plan_of_run(
    recipe: "ContinualRecipe",
    preset: Preset,
    arguments: Any,
    machine: "Plan",
    cost: "Cost",
    *,
    rate: float,
    corpus: "TokenizedCorpus | None",
) -> None:
    """Settings and expected cost, before any work."""
    science = preset.science
    say(f"\n{recipe.name}, preset {science.preset}: {recipe.task}, {science.model}")
    if recipe.note and preset.science.preset in ("quick", "mini"):
        say(recipe.note)
    say("\nScience (what is learned)")
    for name, value in science_record(preset.science, arguments).items():
        if name not in ("recipe", "preset", "model") and value not in (None, {}, ""):
            say(f"  {name:<24} {', '.join(map(str, value)) if isinstance(value, list) else value}")
    say("Speed (how fast; the result is the same to rounding)")
    for name, value in speed_record(machine, arguments).items():
        say(f"  {name:<24} {value}")
    if corpus is not None:
        train, heldout = corpus.record["train"], corpus.record["heldout"]
        say("Corpus")
        say(f"  {'training':<24} {train['documents']:,} documents, {train['tokens']:,} tokens")
        say(f"  {'held out':<24} {heldout['documents']:,} documents (chosen by a hash of the PMID)")
        if decontamination := corpus.record.get("decontamination"):
            say(f"  {'decontaminated':<24} {decontamination['documents']:,} documents that repeat a test set left out")
        passes = arguments.max_steps * preset.science.batch_size / train["documents"]
        say(f"  {'passes':<24} {passes:.2f}")
    say("Expected cost")
    say(f"  {'parameters':<24} {cost.parameters:,}")
    say(f"  {'tokens':<24} {count(cost.tokens)}")
    say(f"  {'training FLOPs':<24} {count(cost.flops)}")
    say(f"  {'peak memory':<24} about {size(cost.memory_bytes)}")
    if cost.seconds is not None:
        say(f"  {'training time here':<24} about {duration(cost.seconds)} at {rate:,.0f} tokens/s (probed just now)")
    say()


def speed_record(machine: "Plan", arguments: Any) -> dict[str, Any]:
    """The speed settings as decided for this machine."""
    return {
        "precision": str(machine.dtype).removeprefix("torch."),
        "kernels": "fast" if machine.fast else "transformers",
        "replicas": machine.replicas,
        "micro_batch_tokens": machine.micro_batch_tokens,
        "processes": arguments.world_size,
        "per_device_batch": arguments.per_device_train_batch_size,
        "accumulation": arguments.gradient_accumulation_steps,
        "device": machine.device,
        "matmul_ceiling": f"{machine.ceiling / 1e9:.0f} GFLOP/s",
    }


def summary(folder: Path, record: dict[str, Any]) -> None:
    """What was made, how good it is, where it lies, what to do next."""
    say(f"\nDone in {duration(record['seconds'])}: {count(record['parameters'])} parameters, "
        f"{count(record['tokens'])} tokens seen.")  # fmt: skip
    _comparison(record["heldout"])
    _where(folder)


def finished(folder: Path, record: dict[str, Any]) -> None:
    """The same, of a run that was finished before."""
    say(f"This run is finished already ({count(record['tokens'])} tokens); nothing to do. --fresh starts over.")
    _comparison(record["heldout"])
    _where(folder)


def _comparison(heldout: dict[str, dict[str, float]]) -> None:
    after = heldout["after"]
    say(f"\nHeld-out documents ({after['documents']:,}, {after['masked_tokens']:,} masked tokens, never trained on):")
    taught = "teacher" in heldout
    last = f"{'KL to the teacher':>19}" if taught else ""
    say(f"  {'':<26}{'MLM loss':>10}{'accuracy':>10}{'pseudo-perplexity':>19}{last}")
    names = {"unigram": "word frequencies alone", "before": "before training", "after": "after training"}
    names |= {"teacher": "the teacher"} if taught else {}
    for key, name in names.items():
        row = heldout[key]
        pseudo = f"{row['pseudo_perplexity']:,.1f}" if "pseudo_perplexity" in row else "-"
        last = f"{row['kl_to_teacher']:>19.3f}" if "kl_to_teacher" in row else ""
        say(f"  {name:<26}{row['loss']:>10.3f}{row['accuracy']:>10.1%}{pseudo:>19}{last}")
    gain = heldout["unigram"]["loss"] - after["loss"]
    side = "below" if gain > 0 else "above"
    if gain > 0.05:
        verdict = "it has learned more than word frequencies"
    elif gain > -0.05:
        verdict = "it has learned hardly more than word frequencies: train longer"
    else:
        verdict = "it does not even reach word frequencies: train longer"
    say(f"  The model is {abs(gain):.2f} nats a token {side} the frequency baseline: {verdict}.")
    if taught:
        now, then = after["kl_to_teacher"], heldout["before"]["kl_to_teacher"]
        say(f"  Its predictions are {now:.2f} nats from the teacher's (before training {then:.2f}).")


def _where(folder: Path) -> None:
    say(f"\n  model      {folder / 'model'}   AutoModelForMaskedLM.from_pretrained opens it, without this package")
    say(f"  picture    {folder / 'loss.png'}")
    say(f"  record     {folder / 'record.json'}")
    say(f"  logs       tensorboard --logdir {folder / 'logs'}")
    say(f"\nNext: how good is it at a task?  compact-biomed evaluate --model {folder / 'model'}")
