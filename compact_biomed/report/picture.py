"""The loss picture of a run."""

from pathlib import Path
from typing import Any


def loss_picture(record: dict[str, Any], path: Path) -> None:
    """Draw training loss against tokens, with the held-out measurements, as PNG.

    Args:
        record: of a pretraining run.
        path: file to write.
    """
    from matplotlib.figure import Figure  # no pyplot: nothing global, no display

    log, heldout = record["log"], record["heldout"]
    figure = Figure(figsize=(7, 4.2), layout="constrained", dpi=140)
    axes = figure.subplots()
    millions = [entry["tokens"] / 1e6 for entry in log]
    axes.plot(millions, [entry["loss"] for entry in log], color="#3b6ea5", linewidth=1.4, label="training loss")
    axes.axhline(
        heldout["unigram"]["loss"], color="#999999", linestyle="--", linewidth=1, label="word frequencies alone"
    )
    total = record["tokens"] / 1e6
    axes.plot(
        [0, total],
        [heldout["before"]["loss"], heldout["after"]["loss"]],
        "o",
        color="#c4532d",
        label="held out, before and after",
    )
    axes.annotate(
        f"{heldout['after']['loss']:.2f}",
        (total, heldout["after"]["loss"]),
        textcoords="offset points",
        xytext=(-6, 8),
        ha="right",
        color="#c4532d",
    )
    science = record["science"]
    axes.set_xlabel("tokens seen (millions)")
    axes.set_ylabel("MLM loss (nats a masked token)")
    axes.set_title(f"{science['recipe']}, preset {science['preset']}", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, format="png")
