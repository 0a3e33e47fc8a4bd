"""The front matter of model cards, as model hubs read it: license, base model, data, language, tags, scores."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from compact_biomed.errors import UsageError, UserError
from compact_biomed.models.locate import REGISTRY_MINILM, is_hub_name

CARD = "README.md"
MINILM_ON_HUB = "sentence-transformers/all-MiniLM-L6-v2"
# Kinds of tasks in records -> types of tasks as model hubs name them.
HUB_TASKS = {
    "ner": "token-classification",
    "relation": "text-classification",
    "qa": "question-answering",
    "classification": "text-classification",
    "pairs": "text-classification",
    "multilabel": "text-classification",
    "regression": "sentence-similarity",
}


@dataclass(frozen=True)
class Measured:
    """Scores on one test set, for `model-index`.

    Args:
        task: its name.
        kind: of the task, as in records.
        metrics: name -> percent.
        about: how it was measured, in a few words, beside the name of each metric.
    """

    task: str
    kind: str
    metrics: Mapping[str, float]
    about: str

    def results(self) -> list[EvalResult]:
        """Return one entry per metric."""
        hub_task = HUB_TASKS.get(self.kind, "other")
        return [
            EvalResult(
                task_type=hub_task,
                dataset_type=self.task,
                dataset_name=self.task,
                dataset_split="test",
                metric_type=metric,
                metric_value=round(value, 2),
                metric_name=f"{metric}, percent, {self.about}",
            )
            for metric, value in self.metrics.items()
        ]


def front_matter(*, name: str | None = None, measured: Iterable[Measured] = (), **fields: Any) -> str:
    """Return the front matter of a card, its `---` lines included.

    Args:
        name: of the model, for `model-index`; without scores it is not used.
        measured: scores.
        fields: of `huggingface_hub.ModelCardData`: license, base_model, datasets, language, library_name, pipeline_tag,
            tags; those that are None or empty are left out.
    """
    results = [result for each in measured for result in each.results()]
    index = {"model_name": name, "eval_results": results} if results else {}
    return f"---\n{ModelCardData(**{key: value for key, value in fields.items() if value}, **index).to_yaml()}\n---\n"


def check_license(license: str) -> None:
    """Check that a license is an identifier, as hubs list them.

    Raises:
        UsageError: it is not.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", license):
        remedy = "write an identifier such as apache-2.0, mit, cc-by-4.0 or other"
        raise UsageError(f"{license!r} is no identifier of a license", where="--license", remedy=remedy)


def read_front_matter(folder: Path | str) -> dict[str, Any]:
    """Return the front matter of the card in a folder; empty where there is none that can be read."""
    path = Path(folder) / CARD
    if not path.is_file():
        return {}
    try:
        return ModelCard(path.read_text(encoding="utf-8"), ignore_metadata_errors=True).data.to_dict()
    except Exception:  # of YAML and of the hub's client, each with classes of its own
        return {}


def with_fields(card: str, fields: Mapping[str, Any]) -> str:
    """Return a card with other values of some fields of its front matter.

    Raises:
        UserError: its front matter cannot be read.
    """
    try:
        parsed = ModelCard(card, ignore_metadata_errors=True)
    except Exception as error:  # of YAML and of the hub's client, each with classes of its own
        what = f"its front matter cannot be read: {str(error).splitlines()[0]}"
        raise UserError(what, where=CARD, remedy="correct the lines between the first two ---") from error
    for name, value in fields.items():
        setattr(parsed.data, name, value)
    return str(parsed)


def base_model_of(start: str | Path) -> str | None:
    """Return the hub's name of the model from which a checkpoint derives; None if it is not known.

    Args:
        start: the checkpoint: a hub name, a registry name, or a folder, whose own card is asked.
    """
    if str(start) == REGISTRY_MINILM:
        return MINILM_ON_HUB
    if Path(start).is_dir():
        base = read_front_matter(start).get("base_model")
        return base[0] if isinstance(base, list) and base else base
    return str(start) if is_hub_name(str(start)) and "/" in str(start) else None


def usage(family: str, *, multilabel: bool = False, pairs: bool = False) -> str:
    """Return sections of a card that say how to use a fine-tuned checkpoint.

    Args:
        family: "token", "sequence" or "span".
        multilabel: whether a text may have several labels.
        pairs: whether the model reads pairs of texts.
    """
    texts = '"She was treated for ovarian cancer."'
    second = ', "Her cancer was treated."' if pairs else ""
    arguments = {"span": '"QUESTION" "TEXT"', "sequence": '"TEXT" "TEXT"' if pairs else '"TEXT"'}.get(family, '"TEXT"')
    call = {
        "token": f"model.entities({texts})",
        "sequence": f"model.classify({texts}{second})",
        "span": 'model.answers("What was it?", "It was a fever.")',
    }[family]
    return f"""## Use

With this package, texts of any length, and offsets of characters:

```python
from compact_biomed import load
model = load("THIS_FOLDER")
{call}
```

or `compact-biomed predict --model THIS_FOLDER FILE`.

{_WITH_TRANSFORMERS["pair" if pairs else family].format(options=", top_k=None" if multilabel else "")}
In ONNX, without this package and without torch:

```
compact-biomed export --model THIS_FOLDER --output small --int8
python small/run.py {arguments}
```
"""


_WITH_TRANSFORMERS = {
    "token": """\
With transformers (`aggregation_strategy="first"`: a word has the tag of its first piece, as in training; "simple" would
cut words into pieces):

```python
from transformers import pipeline
find = pipeline("token-classification", "THIS_FOLDER", aggregation_strategy="first")
find("She was treated for ovarian cancer.")
```
""",
    "sequence": """\
With transformers:

```python
from transformers import pipeline
classify = pipeline("text-classification", "THIS_FOLDER"{options})
classify("She was treated for ovarian cancer.")
```
""",
    "pair": """\
With transformers:

```python
from transformers import pipeline
classify = pipeline("text-classification", "THIS_FOLDER"{options})
classify({{"text": "She was treated for ovarian cancer.", "text_pair": "Her cancer was treated."}})
```
""",
    "span": """\
With transformers, which has no pipeline for questions since version 5: `AutoModelForQuestionAnswering` gives the scores
of each piece as begin and as end of the answer.
""",
}
