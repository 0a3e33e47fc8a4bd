"""`compact-biomed train`: pretrain a checkpoint of your own further, or distill it."""

import argparse

_OBJECTIVES = {
    "mlm": "pretrain a checkpoint further",
    "distill": "distill a teacher into a smaller student; with --task, a fine-tuned teacher for its task",
}
_OF_A_TASK = {"--task", "--ner-dir", "--train"}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `train`; the flags of its objectives are parsed when it runs."""
    train = subparsers.add_parser(
        "train",
        help="pretrain a checkpoint of your own further, or distill it",
        epilog="The flags of each: compact-biomed train mlm --help, train distill --help, train distill --task --help",
    )
    objectives = train.add_subparsers(dest="objective", required=True, metavar="OBJECTIVE")
    for name, meaning in _OBJECTIVES.items():
        objective = objectives.add_parser(name, help=meaning, add_help=False)
        objective.add_argument("-h", "--help", action="store_true", dest="help_wanted")
        objective.set_defaults(run=_run)


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    from compact_biomed.cli import recipe
    from compact_biomed.cli.flags import underscored

    program = f"compact-biomed train {options.objective}"
    distillation = options.objective == "distill"
    if distillation and {argument.split("=")[0].replace("_", "-") for argument in rest} & _OF_A_TASK:
        from compact_biomed.cli import distill_task

        if options.help_wanted:
            distill_task.parser_of(program).print_help()
            return 0
        return distill_task.run(underscored(rest), program=program)
    if options.help_wanted:
        recipe.parser_of(None, distillation=distillation, program=program).print_help()
        return 0
    return recipe.run(None, rest, distillation=distillation, program=program)
