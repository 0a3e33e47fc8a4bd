"""What a run will cost, estimated before it starts: tokens, FLOPs, memory, time on this machine."""

import time
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModelForMaskedLM

from compact_biomed.engine.microbatch import MicroBatch, Replicas
from compact_biomed.engine.plan import ComputePlan, plan
from compact_biomed.models.flops import flops_per_token, objective_flops_per_token
from compact_biomed.training.build import objective_of_shape
from compact_biomed.training.resolve import Run
from compact_biomed.training.shapes import expected_config

_TOKENS_PER_DOCUMENT = 220  # mean of the registry sample's abstracts at 256 tokens; used before a corpus is made


@dataclass(frozen=True)
class Cost:
    """The expected cost of a run.

    Args:
        parameters: of the masked-LM, tied weights once.
        tokens: real tokens that the run trains on, without padding.
        flops: of the whole run.
        memory_bytes: peak resident memory, estimated.
        seconds: on this machine, from a timed probe; None if not probed.
    """

    parameters: int
    tokens: float
    flops: float
    memory_bytes: float
    seconds: float | None


def probe(
    objective: nn.Module, *, length: int, tokens: int, replicas: int, vocab_size: int, masked: float = 0.15
) -> float:
    """Time the training step on made-up ids, in tokens per second: one round to warm up, one timed.

    The weights' gradients are cleared afterwards; nothing is learned.
    """
    generator = torch.Generator().manual_seed(0)
    rows = max(tokens // length, 1)
    parts: list[MicroBatch] = []
    for _ in range(replicas):
        ids = torch.randint(vocab_size, (rows, length), generator=generator)
        chosen = torch.rand(rows, length, generator=generator) < masked
        parts.append(MicroBatch(ids, None, torch.where(chosen, ids, -100)))
    objective.train()
    batch = {name: torch.cat([getattr(part, name) for part in parts]) for name in ("input_ids", "labels")}
    batch["attention_mask"] = torch.ones_like(batch["labels"])
    parts, scale = objective.with_divisor(parts, objective.counts(batch))
    engine = Replicas(objective, replicas)
    for _ in range(2):
        start = time.perf_counter()
        engine.backward(parts, scale=scale, stream=(0,))
        seconds = time.perf_counter() - start
        objective.zero_grad(set_to_none=True)
    engine.close()
    return replicas * rows * length / seconds


def memory_bytes(objective: nn.Module, *, tokens: int, replicas: int) -> float:
    """Estimate the peak resident memory of training, in bytes, from the sizes of what is held at once.

    fp32 weights, gradients and Adam's two moments (16 bytes per parameter); the step's own
    sum of gradients, fp32; the cast weights and each replica's gradient of them; what a
    micro-batch keeps for backward; a teacher's cast weights; 0.6 GB for Python and its libraries.
    """
    config, model = objective.model.config, objective.model
    parameters = sum(p.numel() for p in model.parameters())
    width = torch.empty((), dtype=objective.dtype).element_size()
    weights = parameters * (16 + 4 + width * (1 + replicas))
    if teacher := getattr(objective, "teacher", None):
        weights += width * sum(p.numel() for p in teacher.model.parameters())
    hidden, layers = config.hidden_size, config.num_hidden_layers
    if config.model_type == "mobilebert":
        inner = config.true_hidden_size
        per_token = 3 * hidden + 12 * inner + 2 * config.num_feedforward_networks * (config.intermediate_size + inner)
    else:
        per_token = 10 * hidden + 3 * getattr(config, "intermediate_size", getattr(config, "hidden_dim", 4 * hidden))
    length = 256
    cells = config.num_attention_heads * length * 2 + 2  # probabilities and their dropout mask
    activations = tokens * layers * (per_token + cells) * width * replicas
    logits = 0.2 * tokens * config.vocab_size * (width * 2 + 4) * replicas
    return weights + activations + logits + 0.6e9


def expected(
    run: Run, objective: nn.Module, machine: ComputePlan, *, length: float, vocabulary: int
) -> tuple[Cost, float]:
    """Return the cost of a run on this machine, and the probed rate in tokens per second.

    Args:
        length: mean tokens per document.
        vocabulary: size of the tokenizer's.
    """
    hyperparameters = run.hyperparameters
    tokens = run.arguments.max_steps * hyperparameters.batch_size * length
    per_token = objective_flops_per_token(objective, length=length, masked=hyperparameters.mask_probability)
    rate = probe(
        objective,
        length=hyperparameters.max_length,
        tokens=machine.micro_batch_tokens,
        replicas=machine.replicas,
        vocab_size=vocabulary,
        masked=hyperparameters.mask_probability,
    )
    memory = memory_bytes(objective, tokens=machine.micro_batch_tokens, replicas=machine.replicas)
    parameters = sum(p.numel() for p in objective.result.parameters())
    return Cost(parameters, tokens, tokens * per_token, memory, tokens / rate), rate


@dataclass(frozen=True)
class Estimate:
    """What a run will cost, known before its corpus is.

    Args:
        cost: of the whole run.
        rate: probed tokens per second.
        flops_per_token: of training.
        encoder_flops_per_token: of training the model alone, without teacher and vocabulary head.
        length: tokens per document that were assumed.
        machine: the performance settings.
    """

    cost: Cost
    rate: float
    flops_per_token: float
    encoder_flops_per_token: float
    length: int
    machine: ComputePlan


def estimate(run: Run) -> Estimate:
    """Estimate the cost of a run from its settings alone; nothing is built or fetched."""
    hyperparameters = run.hyperparameters
    cased = "-cased" in hyperparameters.start + hyperparameters.teacher
    vocabulary = {"smoke": 1205}.get(hyperparameters.preset, 28_996 if cased else 30_522)
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(expected_config(hyperparameters, vocabulary))
    machine = plan(run.performance, model.config)
    objective = objective_of_shape(hyperparameters, model, machine)
    length = min(_TOKENS_PER_DOCUMENT, hyperparameters.max_length)
    cost, rate = expected(run, objective, machine, length=length, vocabulary=model.config.vocab_size)
    per_token = objective_flops_per_token(objective, length=length, masked=hyperparameters.mask_probability)
    alone = flops_per_token(model, length=length, masked=0)
    return Estimate(cost, rate, per_token, alone, length, machine)
