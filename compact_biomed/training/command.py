"""`compact-biomed train`: continual pretraining of any encoder, with the recipes' engine."""

import argparse

from compact_biomed.errors import UserError


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `train`; its flags are a recipe's, parsed when it runs."""
    train = subparsers.add_parser(
        "train", help="continual pretraining of a checkpoint of your own", add_help=False, allow_abbrev=False
    )
    train.add_argument("objective", choices=("mlm",), help="masked-language modeling")
    train.add_argument("-h", "--help", action="store_true", dest="help_wanted")
    train.set_defaults(run=_run)


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    from compact_biomed.training.command_line import parser_of, run_recipe
    from compact_biomed.training.recipe import ContinualRecipe

    # A recipe without a row in the paper: the user names the start weights.
    recipe = ContinualRecipe(name="train-mlm", model="biominilm", paper={"start": "random"}, mini={"start": "random"})
    if options.help_wanted:
        parser_of(recipe).print_help()
        return 0
    if not any(argument.split("=")[0] == "--start" for argument in rest):
        raise UserError("train mlm needs start weights", where="--start", remedy="a hub name or a checkpoint folder")
    return run_recipe(recipe, rest)
