"""Ablations: variants of a recipe, each run with the same seeds, in pairs; runs, records, a table.

A script in recipes/ablations/ states the variants. Runs of one recipe and seed see the same documents in the same
order under the same masks, so that variants are compared within seeds.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compact_biomed.cli import guarded
from compact_biomed.cli.flags import Parser
from compact_biomed.console import say
from compact_biomed.files import sha256_json
from compact_biomed.records import append_record, read_lines
from compact_biomed.report.trainings import ablation_markdown
from compact_biomed.reproduce.processes import ITSELF, Launch, launch

# What a record of an ablation keeps of a run's.
_KEPT = ("hyperparameters", "start_sha256", "speed", "tokens", "seconds", "heldout", "weights_sha256", "from")


@dataclass(frozen=True)
class Run:
    """One variant of one recipe with one seed."""

    recipe: str
    variant: str
    seed: int
    flags: tuple[str, ...]
    folder: Path

    def record(self) -> dict[str, Any] | None:
        path = self.folder / "record.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


@dataclass(frozen=True)
class Ablation:
    """What an ablation script states.

    Args:
        name: of the script, without .py.
        question: what the table answers.
        variants: recipe -> variant -> the recipe's flags; the first variant is the one that the others are held
            against.
    """

    name: str
    question: str
    variants: Mapping[str, Mapping[str, Sequence[str]]]

    def main(self, script: str, arguments: Sequence[str] | None = None, *, start: Launch = launch) -> int:
        """Run what is missing, then tell; return the exit status.

        Args:
            script: file of the ablation; recipes lie in the folder above its own.
            arguments: of the command line.
            start: runs a command (`processes.launch`).
        """
        options = self._parser().parse_args(arguments)
        options.scripts = Path(os.path.relpath(script)).parents[1]
        # Other flags are other runs, in another folder.
        options.folder /= re.sub(r"[^\w.]+", "-", " ".join(options.rest)).strip("-") or "quick"
        options.records = options.records or options.folder / "records.jsonl"
        return guarded(lambda: self._run(options, start))

    def _run(self, options: argparse.Namespace, start: Launch) -> int:

        failed, stopped = self._train(options, start)
        if failed:
            say(f"\n{len(failed)} runs failed: {'; '.join(failed)}")
        if options.records.is_file():
            print(ablation_markdown(read_lines([options.records])), end="")
        if stopped:
            say("Stopped; the same command goes on.")
        return 130 if stopped else 1 if failed else 0

    def _train(self, options: argparse.Namespace, start: Launch) -> tuple[list[str], bool]:
        failed = []
        for run in self._runs(options):
            name = f"{run.recipe}, {run.variant}, seed {run.seed}"
            if run.record() is None:
                say(f"\n=== {name}")
                ended = start(self._command(run, options))
                if ended.by != ITSELF or ended.status == 130:
                    return failed, True
            if (record := run.record()) is None:
                failed.append(name)
            else:
                self._keep(run, record, options.records)
        return failed, False

    def _runs(self, options: argparse.Namespace) -> Iterator[Run]:
        """All runs that are asked for; seed by seed, so that what is there after a while compares all variants."""
        for seed in options.seeds:
            for recipe in options.recipes:
                for variant, flags in self.variants[recipe].items():
                    if not options.only or variant in options.only:
                        folder = options.folder / f"{recipe}-{variant.replace(' ', '-')}-{seed}"
                        yield Run(recipe, variant, seed, tuple(flags), folder)

    def _keep(self, run: Run, record: Mapping[str, Any], file: Path) -> None:
        """Append a run's record, once: the same run of the same ablation is found again by its weights."""
        about = {"ablation": self.name, "recipe": run.recipe, "variant": run.variant, "seed": run.seed}
        key = sha256_json([about, record["weights_sha256"]])[:16]
        if any(line.record["run"] == key for line in read_lines([file], missing_ok=True)):
            return
        first = next(iter(self.variants[run.recipe]))
        kept = {name: record[name] for name in _KEPT}
        place = {"corpus": record["corpus"]["fingerprint"], "reference": first, "question": self.question}
        append_record(file, {"record": "ablation", "run": key, **about, **place, **kept})

    def _command(self, run: Run, options: argparse.Namespace) -> list[str]:
        script = str(options.scripts / f"{run.recipe}.py")
        where = ["--seed", str(run.seed), "--output_dir", str(run.folder)]
        return [sys.executable, script, *where, *options.rest, *run.flags]

    def _parser(self) -> argparse.ArgumentParser:
        variants = dict.fromkeys(name for each in self.variants.values() for name in each)
        parser = Parser(
            prog=f"{self.name}.py",
            description=f"{self.question} Variants: {', '.join(variants)}.",
            epilog="What stands behind -- goes to every run, for instance: -- --preset mini --max_steps 1000",
        )
        add = parser.add_argument
        add("--recipes", nargs="+", choices=tuple(self.variants), default=list(self.variants))
        add("--only", nargs="+", choices=tuple(variants), metavar="VARIANT", help="these variants")
        add("--seeds", nargs="+", type=int, default=[1, 2, 3])
        add("--folder", type=Path, default=Path("runs/ablations") / self.name, help="of the runs (%(default)s)")
        add("--records", type=Path, help="JSON Lines, one a run (default: FOLDER/records.jsonl)")
        add("rest", nargs="*", metavar="-- FLAGS", help="flags of every run")
        return parser
