"""A declaration of few models, and pretended runs: they leave what a recipe and an evaluation would leave."""

import hashlib
import json
from pathlib import Path

from compact_biomed.records.store import Records
from compact_biomed.reproduce.declaration import Declaration, load
from compact_biomed.reproduce.processes import Ended, Share
from compact_biomed.reproduce.steps import ReproductionPaths

TEXT = """
[models]
Teacher = { recipe = "biominilm_cl" }
Student = { recipe = "distilbiobert", teacher = "Teacher" }
Alone = { recipe = "distilbiobert", teacher = "Teacher", settings = { leave_out = ["soft_kl", "hidden_cosine"] } }
General = { checkpoint = "somewhere", like = "Teacher" }

[power]
difference = 1.0
deviation = 1.0

[presets.smoke]
training = { max_steps = 4, batch_size = 2, seed = 1 }
evaluation = [
  { tasks = ["smoke"], seeds = [1, 2] },
  { tasks = ["NCBI-disease"], models = ["Student"], seeds = [2] },
]
protocol = { epochs = 2 }
"""


def declared(folder: Path, text: str = TEXT) -> Declaration:
    path = folder / "reproduce.toml"
    path.write_text(text)
    return load(path, "smoke")


def paths_in(folder: Path) -> ReproductionPaths:
    return ReproductionPaths(folder / "recipes", folder / "runs", folder / "results", "smoke")


class Pretended:
    """Replaces `processes.Launcher`: writes what the command would write and remembers the commands.

    Args:
        fails: words; a command that contains one of them ends with status 1 and writes nothing.
        ends: word -> how a command that contains it ends, writing nothing.
    """

    def __init__(self, fails: tuple[str, ...] = (), ends: dict[str, Ended] | None = None):
        self.fails, self.ends, self.commands = fails, ends or {}, []

    def __call__(
        self,
        command: list[str],
        *,
        seconds: float | None = None,
        lock: int | None = None,
        share: Share | None = None,
    ) -> Ended:
        self.commands.append(command)
        for word, ended in self.ends.items():
            if any(word in part for part in command):
                return ended
        if any(word in part for word in self.fails for part in command):
            return Ended(1)
        values = _flags(command)
        if "evaluate" in command:
            _write_scores(values)
        else:
            _write_training(values)
        return Ended(0)

    def interrupt(self) -> None:
        """Nothing that it began is still running."""


def _flags(command: list[str]) -> dict[str, list[str]]:
    flags: dict[str, list[str]] = {}
    for part in command:
        if part.startswith("--"):
            flags[(flag := part[2:].replace("-", "_"))] = []
        elif flags:
            flags[flag].append(part)
    return flags


def _write_training(values: dict[str, list[str]]) -> None:
    """Write a record whose hyperparameters are numbers where the flags are numbers."""
    folder = Path(values["output_dir"][0])
    lists = ("leave_out",)
    science = {
        name: parts if name in lists else int(parts[0]) if parts[0].isdecimal() else parts[0]
        for name, parts in values.items()
        if name != "output_dir"
    }
    weights = hashlib.sha256(repr(science).encode()).hexdigest()
    if "teacher" in values:
        of_teacher = json.loads((Path(values["teacher"][0]).parent / "record.json").read_text())
        science["teacher_sha256"] = of_teacher["weights_sha256"]
    heldout = {"loss": 3 + int(weights[:4], 16) / 1e5, "accuracy": int(weights[4:8], 16) / 1e5}
    record = {"kind": "pretraining", "start_sha256": {}, "peak_memory_bytes": 0, "flops": 0}
    record["from"] = {"command": "pretended"}
    record |= {
        "hyperparameters": science | {"recipe": "r"},
        "speed": {"device": "none"},
        "parameters": 7,
        "seconds": 2.0,
    }
    record |= {"tokens": 80 * science["max_steps"], "weights_sha256": weights}
    record |= {"heldout": {"unigram": heldout, "before": heldout, "after": heldout}}
    record |= {"corpus": {"fingerprint": "f", "train": {"documents": 10, "tokens": 400}}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(json.dumps(record))


def _write_scores(values: dict[str, list[str]]) -> None:
    model, start, seed = values["name"][0], Path(values["model"][0]), int(values["seeds"][0])
    trained = start.parent / "record.json"
    weights = json.loads(trained.read_text())["weights_sha256"] if trained.is_file() else "general"
    store = Records(values["records"][0])
    named = values.get("task", [""])[0].split(",") + [Path(place).name for place in values.get("ner_dir", [])]
    for task in filter(None, named):
        run = f"{model}-{task}-{seed}-{weights[:8]}"
        record = {"record": "scores", "run": run, "seed": seed, "split": "test", "metrics": {"f1": 50.0 + seed}}
        record["model"] = {"name": model, "weights_sha256": weights}
        record["task"] = {"name": task, "fold": None, "folds": 0, "version": 1, "metric": "f1"}
        record["task"]["data_sha256"] = {"test": "0"}
        overrides = {"epochs": int(values["epochs"][0])}
        record["protocol"] = {"name": values["protocol"][0], "level": "standard", "overrides": overrides}
        store.add(record | {"how": {"tokens_per_second": 100.0, "device": "a machine"}})
