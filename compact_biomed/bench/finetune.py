"""`compact-biomed bench finetune`: fine-tuning for entities as `evaluate` does it, beside the plain way.

The plain way: transformers' model in fp32, batches in random order padded to the longest,
every embedding in the optimizer. Same start weights, same sentences, same order; in turns,
so that a busy spell of the machine hits both.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from compact_biomed.console import say
from compact_biomed.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `bench finetune`."""
    from compact_biomed.models.start import REGISTRY_MINILM

    add = parser.add_argument
    add("--model", default=REGISTRY_MINILM, metavar="M", help="default: %(default)s")
    add("--task", default="NCBI-disease", help="a set of entities (default: %(default)s)")
    add("--data", type=Path, metavar="DIR", help="folder of the benchmarks' files (default: COMPACT_BIOMED_DATA)")
    add("--examples", type=int, default=320, metavar="N", help="sentences a turn (default: %(default)s)")
    add("--rounds", type=int, default=3, metavar="N", help="pairs of turns (default: %(default)s)")
    add("--records", type=Path, metavar="FILE", help="append the result to this JSON Lines file")


def run(options: argparse.Namespace) -> int:
    """Measure, print, record."""
    import transformers

    from compact_biomed.files import append_record

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    result = compare(options)
    say(f"plain {result['tokens_per_s_plain']:,.0f} tokens/s, ours {result['tokens_per_s']:,.0f} tokens/s: "
        f"ratio {result['ratio']:.2f} (median of {options.rounds} pairs, {result['precision']})")  # fmt: skip
    if options.records:
        append_record(options.records, result)
    return 0


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Time both ways in turns, after a short turn of each that is not counted."""
    from compact_biomed.evaluation import model as models
    from compact_biomed.evaluation import protocols, tasks
    from compact_biomed.evaluation.kinds import KINDS
    from compact_biomed.evaluation.learner import Learner
    from compact_biomed.evaluation.readers import read
    from compact_biomed.training.machine import plan
    from compact_biomed.training.settings import Speed
    from compact_biomed.training.story import command_line, versions

    task = tasks.task_named(options.task)
    splits = read(task, tasks.find(task, options.data))
    kind, labels = KINDS[task.kind], KINDS[task.kind].labels(splits)
    if kind.head != "token":
        raise UserError("not a set of entities", where=f"--task {options.task}")
    published = protocols.protocol("published", task, len(splits.train), protocols.AS_IS)
    settings = published.settings
    plain, mine = (models.build(options.model, kind.head, labels, seed=0).model for _ in range(2))
    tokenizer = models.load_tokenizer(options.model, mine.config)
    some = protocols.training_examples(splits, published, protocols.Overrides(max_train_examples=options.examples))
    features = kind.encode(some, tokenizer, labels=labels, max_length=settings.max_length, level="published")
    machine = plan(Speed(), mine.config)
    learner = Learner(mine, kind.head, machine)
    ways = {
        "plain": lambda few: plain_epoch(plain, few, settings),
        "ours": lambda few: _our_epoch(learner, few, settings),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.rounds + 1):
        for name, way in ways.items():
            few = features if turn else features[: 4 * settings.batch_size]
            start = time.perf_counter()
            way(few)
            if turn:
                rates[name].append(sum(len(f["input_ids"]) for f in few) / (time.perf_counter() - start))
    learner.close()
    ratios = [ours / theirs for ours, theirs in zip(rates["ours"], rates["plain"], strict=True)]
    return {
        "bench": "finetune", "model": options.model, "task": task.name, "examples": len(features),
        "batch_size": settings.batch_size, "tokens_per_s": statistics.median(rates["ours"]),
        "tokens_per_s_plain": statistics.median(rates["plain"]), "ratio": statistics.median(ratios), "ratios": ratios,
        "precision": str(machine.dtype).removeprefix("torch."), "replicas": machine.replicas,
        "device": machine.device, "command": command_line(), "versions": versions(),
    }  # fmt: skip


def _our_epoch(learner, features: list[dict], settings) -> None:
    from dataclasses import replace

    learner.fit(features, replace(settings, epochs=1), seed=0, after_epoch=lambda number: None)


def plain_epoch(model, features: list[dict], settings) -> None:
    """One epoch of token classification as one writes it with transformers and torch."""
    import torch

    from compact_biomed.evaluation.batches import epoch, padded
    from compact_biomed.evaluation.learner import decay_groups
    from compact_biomed.objectives import IGNORED

    optimizer = torch.optim.AdamW(decay_groups(model, settings.weight_decay), lr=settings.learning_rate, fused=True)
    model.train()
    for rows in epoch(len(features), settings.batch_size, seed=0, number=0):
        chosen = [features[i] for i in rows]
        width = max(len(feature["input_ids"]) for feature in chosen)
        lengths = torch.tensor([len(feature["input_ids"]) for feature in chosen])
        model(
            input_ids=padded([feature["input_ids"] for feature in chosen], width, model.config.pad_token_id),
            attention_mask=(torch.arange(width) < lengths[:, None]).long(),
            labels=padded([feature["labels"] for feature in chosen], width, IGNORED),
        ).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
