"""The card that lies beside a model's weights."""

from typing import Any

_RIGHTS = (
    "PubMed abstracts come by courtesy of the U.S. National Library of Medicine; their publishers may hold rights\n"
    "in them."
)


def model_card(record: dict[str, Any]) -> str:
    """A README.md for the folder of a pretrained model, from its record."""
    science, corpus = record["science"], record["corpus"]
    settings = "\n".join(f"- {name}: {value}" for name, value in science.items() if value not in (None, {}, ""))
    sources = ", ".join(map(str, science["sources"]))
    # Weights that go on from others' stay under their license; a release names it (`release_card`).
    license = "other" if record["start_sha256"] else "mit"
    return f"""---
license: {license}
language: en
library_name: transformers
pipeline_tag: fill-mask
tags: [biomedical, pubmed, masked-lm]
---

# {science["model"]}, preset {science["preset"]}

A compact biomedical encoder, made by `{record["from"]["command"]}` with compact-biomed
{record["from"]["versions"]["compact-biomed"]}, after "On the Effectiveness of Compact Biomedical Transformers"
(arXiv 2209.03182). {"" if science["preset"] == "paper" else "A miniature: not one of the published models."}

Trained on {record["tokens"]:,} tokens ({corpus["train"]["documents"]:,} documents; source: {sources}).
{rights(science)}

{decontamination(corpus)}

{heldout_table(record["heldout"])}

## Settings

{settings}
- start weights (sha256): {record["start_sha256"] or "none"}
- versions: {record["from"]["versions"]}
"""


def rights(science: dict[str, Any]) -> str:
    """Whose the text is that a model was trained on."""
    return "The text is made up." if science["preset"] == "smoke" else _RIGHTS


def heldout_table(heldout: dict[str, Any]) -> str:
    """What a run measured on its held-out documents, in Markdown."""
    documents = f"{heldout['after']['documents']:,} held-out documents"
    lines = [f"| on {documents} | MLM loss (nats) | accuracy | pseudo-perplexity |", "|---|---|---|---|"]
    names = {"unigram": "word frequencies alone", "before": "before training", "after": "this model"}
    for key, name in (names | {"teacher": "its teacher"}).items():
        row = heldout.get(key)
        if row is None:
            continue
        pseudo = f"{row['pseudo_perplexity']:.1f}" if "pseudo_perplexity" in row else ""
        lines.append(f"| {name} | {row['loss']:.3f} | {row['accuracy']:.1%} | {pseudo} |")
    return "\n".join(lines)


def decontamination(corpus: dict[str, Any]) -> str:
    """Which test sets the pretraining text was kept clear of."""
    record = corpus.get("decontamination")
    if record is None:
        return "The text was not compared with any benchmark's test set."
    dropped, n, shortest = (f"{record[key]:,}" for key in ("documents", "n_words", "shortest_text"))
    counts = ", ".join(f"{name} {found['documents']:,}" for name, found in record["benchmarks"].items())
    return (
        f"{dropped} documents were left out because they share {n} words in a row, or a whole text of {shortest} or\n"
        f"more words, with a benchmark's test set. By benchmark (some touch several): {counts}."
    )
