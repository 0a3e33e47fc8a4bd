"""The models that `bench inference` times: checkpoints, or architectures with random weights, and their exports."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from compact_biomed.console import say
from compact_biomed.errors import UsageError

_LABELS = ("B", "I", "O")


class Prepared(NamedTuple):
    places: dict[str, Path]  # variant -> folder
    parameters: int
    vocabulary: int
    flops: Callable[[int], float]  # of one input of so many tokens, matrix products alone


def prepare(name: str, scratch: Path, variants: Sequence[str], longest: int) -> Prepared:
    """Load or make a model, and export it as far as the variants need it.

    Args:
        name: a checkpoint with a head, or SCALE:NAME of `models.architectures` for a token
            classifier with random weights.
        scratch: for what is made.
        longest: tokens of an input.

    Raises:
        UsageError: no such architecture, or a model that reads fewer tokens.
    """
    from compact_biomed.compress import checkpoint
    from compact_biomed.compress.export import export
    from compact_biomed.evaluation.model import longest_input
    from compact_biomed.training.cost import flops_per_token

    scratch.mkdir(parents=True)
    folder = name if ":" not in name else str(_random(name, scratch / "random"))
    found = checkpoint.load(folder)
    limit = longest_input(found.model.config) or longest
    if longest > limit:
        raise UsageError(f"{name} reads {limit} tokens at most", where=f"--lengths {longest}")
    places = {}
    for variant in variants:
        places[variant] = Path(found.name)
        if variant.startswith("onnx"):
            say(f"{name}: {variant}")
            places[variant] = scratch / variant
            # Random weights are for speed alone; how near int8 is to them says nothing.
            export(folder, places[variant], int8=variant.endswith("int8"))
    model = found.model

    def flops(length: int) -> float:
        return flops_per_token(model, length=length, masked=1) / 3 * length  # forward is a third of training

    return Prepared(places, sum(p.numel() for p in model.parameters()), model.config.vocab_size, flops)


def _random(name: str, folder: Path) -> Path:
    import torch
    from transformers import AutoModelForTokenClassification

    from compact_biomed.models.architectures import ARCHITECTURES
    from compact_biomed.models.start import REGISTRY_MINILM, resolve_tokenizer

    scale, _, model = name.partition(":")
    if scale not in ARCHITECTURES.get(model, {}):
        raise UsageError(
            "no such architecture", where=f"--models {name}", remedy=f"paper: or mini: and {', '.join(ARCHITECTURES)}"
        )
    tokenizer = resolve_tokenizer(REGISTRY_MINILM)
    config = ARCHITECTURES[model][scale].config(
        len(tokenizer), id2label=dict(enumerate(_LABELS)), label2id={label: i for i, label in enumerate(_LABELS)}
    )
    torch.manual_seed(0)
    AutoModelForTokenClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
