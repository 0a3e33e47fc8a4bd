"""Floating-point operations of a model, from the sizes of its matrices."""

from torch import nn


def flops_per_token(model: nn.Module, *, length: float, masked: float = 0.15) -> float:
    """Count the floating-point operations of training on one token: forward and backward, matrix products only.

    Count 2 for each weight of a projection forward, 4 backward (Kaplan et al. 2020, section 2.1), as often as
    layers share it (ALBERT); the vocabulary head on the masked share of tokens only; attention scores and sums 12 *
    length * width per layer.

    Args:
        model: a masked-LM of transformers.
        length: mean length of the documents.
        masked: share of tokens that the head reads.
    """
    encoder = getattr(model, model.base_model_prefix)
    config = model.config
    in_encoder = {id(m): name for name, m in encoder.named_modules()}
    shared = config.num_hidden_layers / getattr(config, "num_hidden_groups", config.num_hidden_layers)
    body = head = 0
    for module in model.modules():
        if isinstance(module, nn.Linear):
            if (name := in_encoder.get(id(module))) is not None:
                body += module.weight.numel() * (shared if "layer_groups" in name else 1)
            else:
                head += module.weight.numel()
    width = getattr(config, "true_hidden_size", None) or config.hidden_size
    attention = 12 * length * width * config.num_hidden_layers
    return 6 * (body + masked * head) + attention


def objective_flops_per_token(objective: nn.Module, *, length: float, masked: float) -> float:
    """Count training FLOPs per token: the model's, and those of a teacher's forward pass, a third of its training."""
    masked = masked if objective.reads_logits else 0.0
    flops = flops_per_token(objective.model, length=length, masked=masked)
    if getattr(objective, "asks_teacher", False):
        flops += flops_per_token(objective.teacher.model, length=length, masked=masked) / 3
    return flops
