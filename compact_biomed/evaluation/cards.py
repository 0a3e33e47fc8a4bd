"""The card of a fine-tuned model: what it is, how it scores, how it was made, how to use it."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PretrainedConfig

from compact_biomed.benchmarks.expected import has_pairs
from compact_biomed.benchmarks.tasks import TASKS
from compact_biomed.checksums import SUMS
from compact_biomed.console import markdown_table
from compact_biomed.evaluation.analysis import printed
from compact_biomed.models.cards import HUB_TASKS, Measured, base_model_of, front_matter, usage

_FAMILIES = {"ner": "token", "qa": "span"}  # other kinds: sequence
NO_LICENSE = (
    "Not stated. The license of the initial weights and the terms of the training data decide what is possible; state "
    "it by\n`compact-biomed push --license`, or in the front matter of this file."
)


def license_words(license: str | None) -> str:
    """Return what the text of a card says about the license."""
    return f"{license}." if license else NO_LICENSE


def model_card(record: Mapping[str, Any], config: PretrainedConfig, license: str | None = None) -> str:
    """Return the README.md of a fine-tuned model.

    Args:
        record: of the run.
        config: of the model, for its labels.
        license: of the weights, an identifier such as "apache-2.0", if the user states one.
    """
    task, hyperparameters = record["task"], record["settings"]
    labels = [] if task["kind"] == "qa" else list(config.id2label.values())
    metrics = markdown_table(("test set", "percent"), [(k, f"{v:.2f}") for k, v in record["metrics"].items()])
    fold = f", fold {task['fold']}" if task["fold"] is not None else ""
    fields = card_fields(record) | {"license": license}
    about = f"seed {record['seed']}{fold}"
    family = _FAMILIES.get(task["kind"], "sequence")
    return f"""{front_matter(**fields, name=record["model"]["name"], measured=measured([record], about))}
# {record["model"]["name"]}, fine-tuned on {task["name"]}

Made by {_maker(record)}: {about}, protocol {record["protocol"]["name"]}, learning rate
{hyperparameters["learning_rate"]:g}, at most {hyperparameters["max_length"]} word pieces per input.
Initial weights (sha256): {record["model"]["weights_sha256"]}.
{f"{chr(10)}Labels: {', '.join(labels)}.{chr(10)}" if labels else ""}
{metrics}
{printed.markdown(record)}
{usage(family, multilabel=task["kind"] == "multilabel", pairs=bool(has_pairs(task)))}
## License

{license_words(license)}

`record.json` is the complete record of the run. `sha256sum -c {SUMS}` checks the files.
"""


def card_fields(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the front matter of a fine-tuned model, but its scores, from its record.

    No license: that is for the user to state.
    """
    task, model, protocol = record["task"], record["model"], record["protocol"]
    hub_task = HUB_TASKS.get(task["kind"], "text-classification")
    train = task.get("files", {}).get("train") or ""
    dataset = train.removeprefix("hub:").partition("@")[0] if str(train).startswith("hub:") else task["name"]
    ways = {"distilled": "distillation" in protocol, "pruned": "pruning" in model}
    return {
        "base_model": base_model_of(model["start"]) if "start" in model else None,
        "datasets": [dataset],
        "language": ["en"] if task["name"] in TASKS else None,
        "library_name": "transformers",
        "pipeline_tag": hub_task if hub_task != "sentence-similarity" else "text-classification",
        "tags": ["compact-biomed", task["kind"], *(name for name, applies in ways.items() if applies)],
    }


def measured(records: Sequence[Mapping[str, Any]], about: str) -> list[Measured]:
    """Return the scores of records as `model-index` has them: on words, not on word-pieces."""
    found = []
    for each in records:
        metrics = {name: value for name, value in each["metrics"].items() if not name.startswith("piece_")}
        found.append(Measured(each["task"]["name"], each["task"]["kind"], metrics, about))
    return found


def _maker(record: Mapping[str, Any]) -> str:
    """Return the command that made the model, and its source."""
    if pruned := record["model"].get("pruning"):
        return f"`recipes/pruning.py`, {pruned['share']:.0%} of {pruned['removed']} of {pruned['source']} removed"
    if distilled := record["protocol"].get("distillation"):
        return f"`compact-biomed distill`, teacher {distilled['teacher']}"
    return "`compact-biomed evaluate`"
