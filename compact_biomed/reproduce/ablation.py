"""Ablations: run every variant of a recipe with the same seeds, and record what came out.

A script in recipes/ablations/ declares the variants (`declaration.Ablation`). Runs of one recipe and seed see the same
documents in the same order under the same masks, so that variants are compared within seeds.
"""

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compact_biomed.console import say
from compact_biomed.files import sha256_json
from compact_biomed.records.lines import RECORD_FILE
from compact_biomed.records.store import append_new
from compact_biomed.reproduce.declaration import Ablation
from compact_biomed.reproduce.processes import ITSELF, Launcher
from compact_biomed.training.run_folder import read_record

# Fields of a training's record that the record of an ablation repeats.
_COPIED = ("hyperparameters", "start_sha256", "speed", "tokens", "seconds", "heldout", "weights_sha256", "from")


@dataclass(frozen=True)
class AblationRun:
    """A training of one variant of one recipe with one seed.

    Args:
        flags: command line of the recipe, without seed and folder.
        folder: of this run.
    """

    recipe: str
    variant: str
    seed: int
    flags: tuple[str, ...]
    folder: Path

    def __str__(self) -> str:
        return f"{self.recipe}, {self.variant}, seed {self.seed}"

    def command(self, recipes: Path) -> list[str]:
        """Return the command that does the run.

        Args:
            recipes: folder of the recipes.
        """
        script = str(recipes / f"{self.recipe}.py")
        return [sys.executable, script, "--seed", str(self.seed), "--output-dir", str(self.folder), *self.flags]

    def record(self) -> dict[str, Any] | None:
        """Return the training's record, or None if the run is not finished."""
        path = self.folder / RECORD_FILE
        return read_record(path) if path.is_file() else None


def ablation_runs(
    ablation: Ablation,
    folder: Path,
    *,
    recipes: Iterable[str],
    seeds: Sequence[int],
    variants: Collection[str] = (),
    flags: Sequence[str] = (),
) -> Iterator[AblationRun]:
    """Yield the runs of an ablation, seed by seed, so that an unfinished ablation already compares all variants.

    Args:
        folder: holds one folder per run.
        recipes: names of recipes that the ablation declares.
        variants: the only variants to run; all by default.
        flags: added to the command line of every run.
    """
    for seed in dict.fromkeys(seeds):
        for recipe in dict.fromkeys(recipes):
            for variant, variant_flags in ablation.variants[recipe].items():
                if not variants or variant in variants:
                    run_folder = folder / f"{recipe}-{variant.replace(' ', '-')}-{seed}"
                    yield AblationRun(recipe, variant, seed, (*flags, *variant_flags), run_folder)


def run_ablation(
    ablation: Ablation, runs: Iterable[AblationRun], records: Path, *, recipes: Path, start: Launcher
) -> tuple[list[AblationRun], bool]:
    """Carry out the runs that are not finished and append each run's record, unless it is there already.

    Args:
        records: JSON Lines file of the ablation.
        recipes: folder of the recipes.
        start: runs a command, as `processes.Launcher` does.

    Returns:
        The runs that failed, and whether Ctrl-C stopped the ablation.
    """
    failed = []
    for run in runs:
        if run.record() is None:
            say(f"\n=== {run}")
            ended = start(run.command(recipes))
            if ended.by != ITSELF or ended.status == 130:
                return failed, True
        if (record := run.record()) is None:
            failed.append(run)
        else:
            append_new(records, _entry(ablation, run, record))
    return failed, False


def _entry(ablation: Ablation, run: AblationRun, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ablation's record of a run; the same run of the same ablation is recognized by its weights."""
    about = {"ablation": ablation.name, "recipe": run.recipe, "variant": run.variant, "seed": run.seed}
    key = sha256_json([about, record["weights_sha256"]])[:16]
    reference = next(iter(ablation.variants[run.recipe]))
    context = {"corpus": record["corpus"]["fingerprint"], "reference": reference, "question": ablation.question}
    copied = {name: record[name] for name in _COPIED}
    return {"record": "ablation", "run": key, **about, **context, **copied}
