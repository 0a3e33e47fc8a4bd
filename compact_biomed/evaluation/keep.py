"""What `evaluate --save` keeps of a run: a folder that transformers reads, with a card."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compact_biomed.errors import UserError
from compact_biomed.files import atomic_folder, write_json

if TYPE_CHECKING:
    from compact_biomed.evaluation.finetune import Outcome

RECORD = "record.json"
_PIPELINES = {"ner": "token-classification", "qa": "question-answering"}


def keep(folder: Path, outcome: "Outcome", record: Mapping[str, Any]) -> None:
    """Write a fine-tuned model: safetensors, configuration with the labels, tokenizer, card, record.

    Args:
        folder: is replaced as a whole if it exists.
        record: of the run, as it enters the file of records; kept beside the weights as `RECORD`.
    """
    with atomic_folder(folder) as temporary:
        outcome.model.save_pretrained(temporary)
        outcome.tokenizer.save_pretrained(temporary)
        write_json(temporary / RECORD, dict(record))
        (temporary / "README.md").write_text(card(record, outcome.model.config), encoding="utf-8")


def kept_record(folder: Path) -> dict[str, Any]:
    """The record beside the weights of a kept model; empty where there is none.

    Raises:
        UserError: it is not JSON.
    """
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"not JSON: {error}", where=path, remedy="remove the file") from error
    return found if isinstance(found, dict) else {}


def card(record: Mapping[str, Any], config) -> str:
    """A README.md for the folder of a fine-tuned model.

    Args:
        record: of the run.
        config: of the model, for its labels.
    """
    task, settings = record["task"], record["settings"]
    pipeline = _PIPELINES.get(task["kind"], "text-classification")
    labels = "" if task["kind"] == "qa" else f"\nLabels: {', '.join(config.id2label.values())}.\n"
    metrics = "\n".join(f"| {name} | {value:.2f} |" for name, value in record["metrics"].items())
    fold = f", fold {task['fold']}" if task["fold"] is not None else ""
    return f"""---
library_name: transformers
pipeline_tag: {pipeline}
---

# {record["model"]["name"]}, fine-tuned on {task["name"]}

By {_maker(record)}: seed {record["seed"]}{fold}, protocol {record["protocol"]["name"]}, learning rate
{settings["learning_rate"]:g}, at most {settings["max_length"]} word-pieces.
Start weights (sha256): {record["model"]["weights_sha256"]}.
{labels}
| on the test set | percent |
|---|---|
{metrics}

`record.json` holds the whole record of the run. To use the model: `compact-biomed predict --model THIS_FOLDER FILE`.
"""


def _maker(record: Mapping[str, Any]) -> str:
    """What made the model, and from what."""
    if pruned := record["model"].get("pruning"):
        return f"`recipes/pruning.py`, {pruned['share']:.0%} of {pruned['removed']} of {pruned['source']} removed"
    if distilled := record["protocol"].get("distillation"):
        return f"`compact-biomed train distill --task`, teacher {distilled['teacher']}"
    return "`compact-biomed evaluate`"
