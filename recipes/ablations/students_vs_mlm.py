"""Does a teacher help? Each distilled student beside the same student trained by MLM alone.

    python recipes/ablations/students_vs_mlm.py                        # three students, seeds 1 2 3, quick
    python recipes/ablations/students_vs_mlm.py --students distilbiobert --seeds 1 2 -- --max_steps 100

Same start, same documents in the same order, same masks, same number of tokens; only the terms
with a teacher are left out of the control (TinyBioBERT has no MLM term: its control gets one).
What stands behind `--` goes to every run. Runs that are finished are not repeated. At the end: the
held-out MLM loss and the KL to the teacher, mean and deviation over seeds, and the difference
within pairs of one seed.
"""

import argparse
import json
import runpy
import statistics
import sys
from pathlib import Path

from compact_biomed.cli import guarded
from compact_biomed.console import say
from compact_biomed.errors import UserError
from compact_biomed.files import append_record

RECIPES = Path(__file__).parents[1]
CONTROL = {
    "distilbiobert": ("--leave_out", "soft_kl", "hidden_cosine"),
    "compactbiobert": ("--leave_out", "soft_kl", "hidden_cosine", "attention_kl"),
    "tinybiobert": ("--loss", "distilbiobert", "--leave_out", "soft_kl", "hidden_cosine"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing, then tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--students", nargs="+", choices=tuple(CONTROL), default=list(CONTROL))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--folder", type=Path, default=Path("runs/students_vs_mlm"))
    parser.add_argument("--records", type=Path, help="append one line a run to this JSON Lines file")
    parser.add_argument("rest", nargs="*", metavar="-- FLAGS", help="flags of every run")
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(RECIPES))
    found = {}
    for student in options.students:
        recipe = runpy.run_path(str(RECIPES / f"{student}.py"))["RECIPE"]
        for seed in options.seeds:
            for way, flags in (("distilled", ()), ("mlm alone", CONTROL[student])):
                folder = options.folder / f"{student}-{way.replace(' ', '-')}-{seed}"
                if not (folder / "record.json").is_file():
                    say(f"\n=== {student}, seed {seed}, {way}")
                    code = recipe.main(["--seed", str(seed), "--output_dir", str(folder), *options.rest, *flags])
                    if code:
                        return code
                record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
                found[student, way, seed] = record["heldout"]["after"] | {"tokens": record["tokens"]}
                if options.records:
                    keep = ("kind", "science", "tokens", "seconds", "heldout", "speed", "versions", "weights_sha256")
                    append_record(options.records, {"way": way} | {key: record[key] for key in keep})
    _tell(found, options)
    return 0


def _tell(found: dict, options: argparse.Namespace) -> None:
    for student in options.students:
        tokens = {found[student, way, seed]["tokens"] for way in ("distilled", "mlm alone") for seed in options.seeds}
        if len(tokens) > len(options.seeds):
            raise UserError(f"the runs of {student} saw different numbers of tokens", where=options.folder)
        say(f"\n{student}, {max(tokens):,} tokens a run, {len(options.seeds)} seeds")
        for key, name in (("loss", "held-out MLM loss"), ("kl_to_teacher", "KL to the teacher")):
            pairs = [[found[student, way, seed][key] for way in ("distilled", "mlm alone")] for seed in options.seeds]
            differences = [distilled - alone for distilled, alone in pairs]
            columns = [_mean(list(column)) for column in zip(*pairs, strict=True)]
            lower = sum(d < 0 for d in differences)
            say(f"  {name:<20} distilled {columns[0]}   MLM alone {columns[1]}   difference {_mean(differences)}; "
                f"distilled is lower in {lower} of {len(pairs)}")  # fmt: skip


def _mean(values: list[float]) -> str:
    deviation = f" +- {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{deviation}"


if __name__ == "__main__":
    sys.exit(guarded(main))
