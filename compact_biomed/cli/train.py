"""`compact-biomed train`: the recipes' engine on checkpoints of the user's own."""

import argparse

from compact_biomed.errors import UsageError

_OBJECTIVES = {
    "mlm": "continual pretraining of a checkpoint",
    "distill": "a smaller student of a teacher; with --task, of a fine-tuned teacher for its task",
}
_OF_A_TASK = {"--task", "--ner-dir"}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `train`; its flags are a recipe's, parsed when it runs."""
    train = subparsers.add_parser(
        "train",
        help="pretrain a checkpoint of your own further, or distil it",
        epilog="The flags of each: compact-biomed train mlm --help, train distill --help, train distill --task --help",
    )
    objectives = train.add_subparsers(dest="objective", required=True, metavar="OBJECTIVE")
    for name, meaning in _OBJECTIVES.items():
        objective = objectives.add_parser(name, help=meaning, add_help=False)
        objective.add_argument("-h", "--help", action="store_true", dest="help_wanted")
        objective.set_defaults(run=_run)


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    from compact_biomed.cli.flags import underscored
    from compact_biomed.cli.recipe import parser_of, run_recipe

    program = f"compact-biomed train {options.objective}"
    given = {argument.split("=")[0].replace("_", "-") for argument in rest}
    if options.objective == "distill" and given & _OF_A_TASK:
        from compact_biomed.cli import distill_task

        if options.help_wanted:
            distill_task.parser_of(program).print_help()
            return 0
        return distill_task.run(underscored(rest), program=program)
    recipe = _mlm() if options.objective == "mlm" else _distill()
    if options.help_wanted:
        parser_of(recipe, program=program).print_help()
        return 0
    wanted, what = ("--start", "start weights") if options.objective == "mlm" else ("--teacher", "a teacher")
    if wanted not in given:
        raise UsageError(
            f"train {options.objective} needs {what}", where=wanted, remedy="a hub name or a checkpoint folder"
        )
    if options.objective == "distill" and not given & {"--student-layers", "--start"}:
        raise UsageError(
            "train distill needs a student",
            where="--student-layers",
            remedy="a number of layers, or --start with a checkpoint folder",
        )
    return run_recipe(recipe, rest, program=program)


def _mlm():
    """A recipe without a row in the paper: the user names the start weights."""
    from compact_biomed.training.recipe import ContinualRecipe

    return ContinualRecipe(name="train-mlm", model="biominilm", paper={"start": "random"}, mini={"start": "random"})


def _distill():
    """The same: the user names the teacher and the student's depth."""
    from compact_biomed.training.recipe import DistillationRecipe

    spaced = {"layer_map": "spaced", "temperature": 2.0}
    return DistillationRecipe(
        name="train-distill", model="student", paper=spaced, mini=spaced, smoke=spaced, loss="distilbiobert"
    )
