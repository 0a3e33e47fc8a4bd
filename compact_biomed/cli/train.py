"""`compact-biomed train`: pretrain a checkpoint of your own further, or distill it."""

import argparse

_OBJECTIVES = {
    "mlm": "pretrain a checkpoint further",
    "distill": "distill a masked-LM into a smaller student, to be fine-tuned",
}
_OF_A_TASK = {"--task", "--ner-dir", "--train"}  # with one of these, it is what the verb `distill` was called before


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `train`; the flags of its objectives are parsed when it runs."""
    train = subparsers.add_parser(
        "train",
        help="pretrain a checkpoint of your own further, or distill it",
        epilog="The flags of each: compact-biomed train mlm --help, train distill --help. "
        "To distill a fine-tuned teacher for its task: compact-biomed distill",
    )
    objectives = train.add_subparsers(dest="objective", required=True, metavar="OBJECTIVE")
    for name, meaning in _OBJECTIVES.items():
        objective = objectives.add_parser(name, help=meaning, add_help=False)
        objective.add_argument("-h", "--help", action="store_true", dest="help_wanted")
        objective.set_defaults(run=_run)


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    from compact_biomed.cli import recipe

    program = f"compact-biomed train {options.objective}"
    distillation = options.objective == "distill"
    if distillation and {argument.split("=")[0] for argument in rest} & _OF_A_TASK:
        from compact_biomed.cli import distill

        program = "compact-biomed distill"
        if options.help_wanted:
            distill.parser_of(program).print_help()
            return 0
        return distill.run(rest, program=program)
    if options.help_wanted:
        recipe.parser_of(None, distillation=distillation, program=program).print_help()
        return 0
    return recipe.run(None, rest, distillation=distillation, program=program)
