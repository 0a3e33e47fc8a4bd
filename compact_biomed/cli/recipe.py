"""The verb `recipe`; the flags of a recipe, of `train mlm` and of `train distill`.

These are our own and every field of TrainingArguments.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compact_biomed.cli import guarded
from compact_biomed.cli.flags import Parser, add_threads, check_first, strict
from compact_biomed.errors import flag_of
from compact_biomed.models.layer_maps import LAYER_MAPS
from compact_biomed.objectives.terms import FEATURES
from compact_biomed.training.hyperparameters import CHOICES, SWITCHES
from compact_biomed.training.recipe import PRESETS, DistillationRecipe, Recipe, load_script, scripts, summary_of

STUDENTS = ("distilbiobert", "compactbiobert", "tinybiobert", "relationbiobert")
_EPILOG = """\
Fields of transformers.TrainingArguments can be set too, for instance
  --learning-rate 3e-4 --max-steps 1000 --save-steps 100 --seed 7
(those that would have no effect are refused).
--batch-size is the number of documents per optimizer step; --per-device-train-batch-size and
--gradient-accumulation-steps only say how it is divided.
"""
# Flags that are no settings of a run.
_NO_SETTINGS = ("dry_run", "fresh")
_CHECKPOINTS = ("start", "teacher", "tokenizer", "embeddings_from")  # flags that name one


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `recipe`, which runs a script of `recipes/` wherever the package is installed."""
    parser = subparsers.add_parser(
        "recipe",
        help="train a model of the paper; without a name: list the recipes",
        epilog="The flags of each: compact-biomed recipe NAME --help",
    )
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="such as biomobilebert_cl, pruning or ablations/temperature")
    add("arguments", nargs=argparse.REMAINDER, metavar="FLAGS", help="of the recipe")
    parser.set_defaults(run=strict(parser, _run_script))


def _run_script(options: argparse.Namespace) -> int:
    if options.name is None:
        known = scripts()
        width = max(map(len, known))
        for name, script in known.items():
            print(f"{name:<{width}}  {summary_of(script)}")
        return 0
    module, program = load_script(options.name), f"compact-biomed recipe {options.name}"
    if hasattr(module, "RECIPE"):
        return run(module.RECIPE, options.arguments, program=program)
    from compact_biomed.cli import ablation, prune, reproduce

    if hasattr(module, "ABLATION"):
        return ablation.main(module.ABLATION, module.__file__, options.arguments, program=program)
    if module.main is prune.main:
        return prune.main(module.__doc__, options.arguments, program=program)
    if module.main is reproduce.main:
        return reproduce.main(Path(module.__file__).parent, options.arguments, program=program)
    return module.main(options.arguments, program=program)


def main(recipe: Recipe, arguments: Sequence[str] | None = None) -> int:
    """Run a recipe from the command line; return the exit status."""
    return guarded(lambda: run(recipe, arguments))


def run(
    recipe: Recipe | None,
    arguments: Sequence[str] | None = None,
    *,
    distillation: bool = False,
    program: str | None = None,
) -> int:
    """Parse the flags, then train or print the cost; return the exit status.

    Args:
        recipe: None: a checkpoint of the user's own.
        distillation: of which a student is made; else it is pretrained further.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    resolved, options = parsed_run(recipe, arguments, distillation=distillation, program=program)
    from compact_biomed.training.run import dry_run, train

    if options.dry_run:
        dry_run(resolved)
        return 0
    return 0 if train(resolved, fresh=options.fresh).finished else 130


def parser_of(
    recipe: Recipe | None, *, distillation: bool = False, program: str | None = None
) -> argparse.ArgumentParser:
    """Return the parser of our own flags; it is quick to build.

    Args:
        program: as it is called in the usage; by default the recipe's file.
    """
    distillation = distillation or isinstance(recipe, DistillationRecipe)
    objective = "distillation" if distillation else "continual masked-language modeling"
    parser = Parser(
        prog=program or (f"{recipe.name}.py" if recipe else None),
        description=f"{objective.capitalize()}: {recipe.model if recipe else 'a checkpoint of your own'}.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--preset", choices=PRESETS, default="quick", help="scale of the run (default: quick, a few minutes)")
    if recipe and recipe.variants:
        add("--variant", choices=tuple(recipe.variants), help="which of the published models (paper preset)")
    add("--dry-run", action="store_true", help="print settings and expected cost, and stop")
    add("--output-dir", type=Path, help="folder of the run (default: runs/NAME-PRESET)")
    add("--fresh", action="store_true", help="start over; an earlier run in the folder is kept under another name")
    add = parser.add_argument_group("hyperparameters (what is learned)").add_argument
    add("--sources", nargs="+", help="corpus: registry, nlm[:SUBSET], hub:OWNER/NAME, files, folders, globs")
    add("--decontaminate-against", nargs="+", help="tasks (or folders of them, or all) whose test sets are left out")
    add("--keep-title-only", action="store_true", help="keep citations without an abstract")
    add(
        "--start",
        help="start weights: hub name, folder, registry:all-minilm-l6-v2, random, sliced:NAME (cut out of that wider "
        "checkpoint), or recipe:NAME (trained by that recipe if they are missing)",
    )
    add(
        "--documents",
        choices=CHOICES["documents"],
        help="which training documents are read: all (default), the "
        "quarter that start weights are made on, or the rest",
    )
    add("--tokenizer", help="default: the start checkpoint's own")
    add("--embeddings-from", help="checkpoint whose word embeddings are projected to the model's width, or none")
    add("--max-length", type=int, help="most tokens per document")
    add("--batch-size", type=int, help="documents per optimizer step, over all processes")
    add("--mask-probability", type=float, help="share of tokens that are masked (default: 0.15; relationbiobert: 0)")
    add("--heldout-fraction", type=float, help="share of documents that are never trained on")
    group = parser.add_argument_group("performance (how fast; the result is the same to rounding)")
    add_threads(group)
    add = group.add_argument
    add("--precision", choices=CHOICES["precision"], help="default: bf16 where it is faster than fp32")
    add("--replicas", type=int, help="micro-batches side by side on a CPU (default: 0 = one per core)")
    add("--micro-batch-tokens", type=int, help="padded tokens per micro-batch (default: 0 = chosen for the machine)")
    add("--kernels", choices=CHOICES["kernels"], help="which encoder computes (default: auto)")
    add("--pseudo-positions", type=int, help="sample size of the pseudo-perplexity, 0 = leave it out")
    add("--heldout-documents", type=int, help="most held-out documents that are measured")
    if distillation:
        _add_distillation(parser)
    return parser


def _add_distillation(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("distillation (hyperparameters)").add_argument
    add("--teacher", help="a masked-LM: hub name or folder (default: the recipe's own, trained if it is missing)")
    add("--loss", choices=STUDENTS, help="whose loss terms to use")
    add(
        "--textbrewer-config",
        type=Path,
        metavar="FILE",
        help="loss terms of your own: JSON with the fields of TextBrewer's DistillationConfig, or a list of "
        "intermediate_matches beside the terms on logits of --loss",
    )
    add("--layer-map", help=f"teacher layers of the student: {', '.join(LAYER_MAPS)}, or a list such as 0,2,4")
    add("--student-layers", type=int, help="depth of a student that otherwise is built as its teacher")
    add("--temperature", type=float, help="of the soft targets; weights keep their ratio to its square")
    losses = ", ".join(loss for loss in FEATURES if loss != "task_loss")
    add("--leave-out", nargs="+", metavar="LOSS", help=f"losses whose terms are left out, of: {losses}")
    add("--relation-heads", type=int, metavar="N", help="relation heads of the terms on relations")
    add("--relation-layer", metavar="L", help="teacher layer of the terms on relations: a number, last or upper-middle")
    add("--fidelity", choices=CHOICES["fidelity"], help="the published quirks all on, or all off (default: corrected)")
    for name, meaning in SWITCHES.items():
        add(flag_of(name), choices=("on", "off"), help=meaning)
    add = parser.add_argument_group("distillation (performance)").add_argument
    add("--gradient-shares", action="store_true", default=None, help="log each term's share of the gradient")
    add("--loss-backend", choices=CHOICES["loss_backend"], help="who combines the terms (textbrewer is slower)")


def parsed_run(
    recipe: Recipe | None,
    arguments: Sequence[str],
    *,
    distillation: bool = False,
    program: str | None = None,
) -> tuple[Any, argparse.Namespace]:
    """Return the resolved `Run` that flags ask for, and the parsed flags.

    Raises:
        UserError: a flag or a value that is unknown or has no effect.
    """
    parser = parser_of(recipe, distillation=distillation, program=program)
    options, rest = parser.parse_known_args(arguments)

    named = (getattr(options, name, None) for name in _CHECKPOINTS)
    check_first([name.removeprefix("sliced:") for name in named if name], folders=[options.output_dir])

    from compact_biomed.training.arguments import check_flags
    from compact_biomed.training.interface import distillation_run, pretraining_run

    check_flags(rest, [flag for action in parser._actions for flag in action.option_strings])
    settings = {name: value for name, value in vars(options).items() if name not in _NO_SETTINGS and value is not None}
    resolve = distillation_run if distillation or isinstance(recipe, DistillationRecipe) else pretraining_run
    return resolve(recipe, **settings, argument_flags=rest), options
