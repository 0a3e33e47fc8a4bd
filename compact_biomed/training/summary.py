"""What a run prints and leaves to read: the plan before it, the summary after it, the model card, the loss curve."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from compact_biomed.console import count, duration, markdown_table, say, size
from compact_biomed.corpus.build import TokenizedCorpus
from compact_biomed.engine.plan import ComputePlan
from compact_biomed.models.cards import base_model_of, front_matter
from compact_biomed.records.lines import RECORD_FILE
from compact_biomed.training.cost import Cost
from compact_biomed.training.resolve import Run


def say_plan(
    run: Run,
    machine: ComputePlan,
    cost: Cost,
    *,
    rate: float,
    corpus: TokenizedCorpus | None,
    documents: int | None = None,
) -> None:
    """Print settings and expected cost, before any work.

    Args:
        documents: number of the training documents that the run reads; by default all of the corpus.
    """
    hyperparameters = run.hyperparameters
    say(f"\n{hyperparameters.recipe}, preset {hyperparameters.preset}: {run.objective}, {hyperparameters.model}")
    if run.note:
        say(run.note)
    say("\nHyperparameters (what is learned)")
    for name, value in run.record().items():
        if name in ("recipe", "preset", "model") or value in (None, {}, "", []):
            continue
        if name == "terms":
            value = [_term_in_words(term) for term in value]
        say(f"  {name:<24} {', '.join(map(str, value)) if isinstance(value, list) else value}")
    say("Performance (how fast; the result is the same to rounding)")
    for name, value in speed_record(machine, run.arguments).items():
        say(f"  {name:<24} {value}")
    if corpus is not None:
        train, heldout = corpus.record["train"], corpus.record["heldout"]
        say("Corpus")
        say(f"  {'training':<24} {train['documents']:,} documents, {train['tokens']:,} tokens")
        say(f"  {'held out':<24} {heldout['documents']:,} documents (chosen by a hash of the PMID)")
        if decontamination := corpus.record.get("decontamination"):
            say(f"  {'decontaminated':<24} {decontamination['documents']:,} documents that repeat a test set left out")
        passes = run.arguments.max_steps * hyperparameters.batch_size / (documents or train["documents"])
        if documents not in (None, train["documents"]):
            share = f"the share {hyperparameters.documents!r} (chosen by a hash of the PMID)"
            say(f"  {'read':<24} {documents:,} of the training documents: {share}")
        say(f"  {'passes':<24} {passes:.2f}")
    say("Expected cost")
    say(f"  {'parameters':<24} {cost.parameters:,}")
    say(f"  {'tokens':<24} {count(cost.tokens)}")
    say(f"  {'training FLOPs':<24} {count(cost.flops)}")
    say(f"  {'peak memory':<24} about {size(cost.memory_bytes)}")
    if cost.seconds is not None:
        say(f"  {'training time here':<24} about {duration(cost.seconds)} at {rate:,.0f} tokens/s (probed just now)")
    say()


def _term_in_words(term: Mapping[str, Any]) -> str:
    """Return a term as "3 x attention_kl (each, mapped)"."""
    layers = f" ({term['layer_S']}, {term['layer_T']})" if "layer_S" in term else ""
    return f"{term['weight']:g} x {term['loss']}{layers}"


def speed_record(machine: ComputePlan, arguments: Any) -> dict[str, Any]:
    """Return the performance settings as decided for this machine."""
    return {
        "precision": machine.precision,
        "kernels": "fast" if machine.fast else "transformers",
        "replicas": machine.replicas,
        "micro_batch_tokens": machine.micro_batch_tokens,
        "processes": arguments.world_size,
        "per_device_batch": arguments.per_device_train_batch_size,
        "accumulation": arguments.gradient_accumulation_steps,
        "device": machine.device,
        "matmul_ceiling": f"{machine.ceiling / 1e9:.0f} GFLOP/s",
    }


def say_summary(folder: Path, record: Mapping[str, Any]) -> None:
    """Print what was trained, how good it is, where it is, and what to do next."""
    say(
        f"\nDone in {duration(record['seconds'])}: {count(record['parameters'])} parameters, "
        f"{count(record['tokens'])} tokens seen."
    )
    _comparison(record["heldout"])
    _where(folder, record)


def say_finished(folder: Path, record: Mapping[str, Any]) -> None:
    """Print the same about a run that had finished before."""
    say(f"This run has finished already ({count(record['tokens'])} tokens). Nothing to do; --fresh starts over.")
    _comparison(record["heldout"])
    _where(folder, record)


def has_vocabulary_head(record: Mapping[str, Any]) -> bool:
    """Return whether a trained model predicts words; if not, its folder holds an encoder."""
    return "loss" in record["heldout"]["after"]


def _comparison(heldout: dict[str, dict[str, Any]]) -> None:
    after = heldout["after"]
    if "terms" in after:
        _comparison_of_terms(heldout["before"], after)
        return
    say(f"\nHeld-out documents ({after['documents']:,}, {after['masked_tokens']:,} masked tokens, never trained on):")
    distilled = "teacher" in heldout
    last = f"{'KL to the teacher':>19}" if distilled else ""
    say(f"  {'':<26}{'MLM loss':>10}{'accuracy':>10}{'pseudo-perplexity':>19}{last}")
    names = {"unigram": "word frequencies alone", "before": "before training", "after": "after training"}
    names |= {"teacher": "the teacher"} if distilled else {}
    for key, name in names.items():
        row = heldout[key]
        pseudo = f"{row['pseudo_perplexity']:,.1f}" if "pseudo_perplexity" in row else "-"
        last = f"{row['kl_to_teacher']:>19.3f}" if "kl_to_teacher" in row else ""
        say(f"  {name:<26}{row['loss']:>10.3f}{row['accuracy']:>10.1%}{pseudo:>19}{last}")
    gain = heldout["unigram"]["loss"] - after["loss"]
    distance = f"{abs(gain):.2f} nats per token {'below' if gain > 0 else 'above'} the frequency baseline"
    if gain > 0.05:
        say(f"  The loss is {distance}: the model has learned more than word frequencies.")
    else:
        say(f"  The loss is {distance}: the model is no better than word frequencies yet. Train longer.")
    if distilled:
        now, then = after["kl_to_teacher"], heldout["before"]["kl_to_teacher"]
        say(f"  Its predictions are {now:.2f} nats from the teacher's (before training {then:.2f}).")


def _comparison_of_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    say(f"\nHeld-out documents ({after['documents']:,}, never trained on), nats:")
    say(f"  {'':<26}{'before training':>17}{'after training':>17}")
    rows = {name: (before["terms"][name], value) for name, value in after["terms"].items()}
    rows["the loss"] = before["distillation_loss"], after["distillation_loss"]
    for name, (then, now) in rows.items():
        say(f"  {name:<26}{then:>17.4f}{now:>17.4f}")
    say("  The loss does not read the vocabulary head, so the model is an encoder: fine-tune it.")


def _where(folder: Path, record: Mapping[str, Any]) -> None:
    loader = "AutoModelForMaskedLM" if has_vocabulary_head(record) else "AutoModel"
    say(f"\n  model      {folder / 'model'}   {loader}.from_pretrained loads it, without this package")
    say(f"  loss curve {folder / 'loss.png'}")
    say(f"  record     {folder / RECORD_FILE}")
    say(f"  logs       tensorboard --logdir {folder / 'logs'}")
    say(f"\nNext: fine-tune and score it on a task\n  compact-biomed evaluate --model {folder / 'model'}")


_RIGHTS = (
    "PubMed abstracts: courtesy of the U.S. National Library of Medicine; their publishers may hold rights in them."
)


def model_card(record: Mapping[str, Any]) -> str:
    """Return the README.md of a pretrained model's folder, from its record."""
    hyperparameters, corpus = record["hyperparameters"], record["corpus"]
    settings = "\n".join(
        f"- {name}: {value}" for name, value in hyperparameters.items() if value not in (None, {}, "", [])
    )
    sources = ", ".join(map(str, hyperparameters["sources"]))
    # Weights trained further stay under their start weights' license; a release names it (`report.cards`).
    license = "other" if record["start_sha256"] else "mit"
    predicts = has_vocabulary_head(record)
    matter = front_matter(
        license=license,
        base_model=base_model_of(hyperparameters["start"]) if "start" in hyperparameters else None,
        language=["en"],
        library_name="transformers",
        pipeline_tag="fill-mask" if predicts else "feature-extraction",
        tags=["biomedical", "pubmed", *(["masked-lm"] if predicts else [])],
    )
    return f"""{matter}
# {hyperparameters["model"]}, preset {hyperparameters["preset"]}

A compact biomedical encoder, made by `{record["from"]["command"]}` with compact-biomed
{record["from"]["versions"]["compact-biomed"]}, after "On the Effectiveness of Compact Biomedical Transformers"
(arXiv 2209.03182). {"" if hyperparameters["preset"] == "paper" else "A miniature: not one of the published models."}

Trained on {record["tokens"]:,} tokens ({corpus["train"]["documents"]:,} documents; source: {sources}).
{rights(hyperparameters)}

{decontamination(corpus)}

{heldout_table(record["heldout"])}

## Settings

{settings}
- start weights (sha256): {record["start_sha256"] or "none"}
- versions: {record["from"]["versions"]}
"""


def rights(hyperparameters: dict[str, Any]) -> str:
    """Return who holds rights in the text that a model was trained on."""
    return "The text is made up." if hyperparameters["preset"] == "smoke" else _RIGHTS


def heldout_table(heldout: dict[str, Any]) -> str:
    """Return what a run measured on its held-out documents, in Markdown."""
    documents = f"{heldout['after']['documents']:,} held-out documents"
    if "terms" in heldout["after"]:
        before, after = (heldout[key]["terms"] for key in ("before", "after"))
        rows = [(name, f"{before[name]:.4f}", f"{value:.4f}") for name, value in after.items()]
        table = markdown_table((f"on {documents}, in nats", "before training", "this model"), rows)
        return f"{table}\nAn encoder, to be fine-tuned: its training did not involve a vocabulary head."
    rows = []
    names = {"unigram": "word frequencies alone", "before": "before training", "after": "this model"}
    for key, name in (names | {"teacher": "its teacher"}).items():
        row = heldout.get(key)
        if row is None:
            continue
        pseudo = f"{row['pseudo_perplexity']:.1f}" if "pseudo_perplexity" in row else ""
        rows.append((name, f"{row['loss']:.3f}", f"{row['accuracy']:.1%}", pseudo))
    return markdown_table((f"on {documents}", "MLM loss (nats)", "accuracy", "pseudo-perplexity"), rows).rstrip()


def decontamination(corpus: dict[str, Any]) -> str:
    """Return which test sets the pretraining text was kept clear of."""
    record = corpus.get("decontamination")
    if record is None:
        return "The text was not compared with any benchmark's test set."
    dropped, n, shortest = (f"{record[key]:,}" for key in ("documents", "n_words", "shortest_text"))
    counts = ", ".join(f"{name} {benchmark['documents']:,}" for name, benchmark in record["benchmarks"].items())
    return (
        f"{dropped} documents were left out because they share {n} words in a row, or a whole text of {shortest} or\n"
        f"more words, with a benchmark's test set. By benchmark (some touch several): {counts}."
    )


def loss_picture(record: dict[str, Any], path: Path) -> None:
    """Draw the training loss against tokens, with the held-out measurements, as PNG.

    Args:
        record: of a pretraining run.
        path: file to write.
    """
    log, heldout = record["log"], record["heldout"]
    figure = Figure(figsize=(7, 4.2), layout="constrained", dpi=140)
    axes = figure.subplots()
    millions = [entry["tokens"] / 1e6 for entry in log]
    axes.plot(millions, [entry["loss"] for entry in log], color="#3b6ea5", linewidth=1.4, label="training loss")
    name, unit = ("loss", "MLM loss (nats per masked token)")
    if not has_vocabulary_head(record):
        name, unit = ("distillation_loss", "distillation loss (nats)")
    else:
        axes.axhline(
            heldout["unigram"]["loss"], color="#999999", linestyle="--", linewidth=1, label="word frequencies alone"
        )
    total = record["tokens"] / 1e6
    axes.plot(
        [0, total],
        [heldout["before"][name], heldout["after"][name]],
        "o",
        color="#c4532d",
        label="held out, before and after",
    )
    axes.annotate(
        f"{heldout['after'][name]:.2f}",
        (total, heldout["after"][name]),
        textcoords="offset points",
        xytext=(-6, 8),
        ha="right",
        color="#c4532d",
    )
    hyperparameters = record["hyperparameters"]
    axes.set_xlabel("tokens seen (millions)")
    axes.set_ylabel(unit)
    axes.set_title(f"{hyperparameters['recipe']}, preset {hyperparameters['preset']}", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, format="png")
