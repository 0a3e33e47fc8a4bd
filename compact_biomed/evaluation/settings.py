"""The science of one fine-tuning."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """The science of one fine-tuning, besides model, data and seed.

    Args:
        learning_rate: of AdamW (0.9, 0.999, 1e-8), at its highest.
        epochs: over which the schedule stretches.
        stop_after: epochs that are trained, if fewer.
        batch_size: examples (QA: windows) an optimizer step.
        schedule: "linear" or "cosine", to zero.
        warmup: share of all steps.
        weight_decay: of AdamW.
        max_length: most tokens an input, special tokens included.
        max_grad_norm: gradients are scaled down to it.
    """

    learning_rate: float
    epochs: int
    batch_size: int = 16
    schedule: str = "linear"
    warmup: float = 0.0
    weight_decay: float = 0.01
    max_length: int = 512
    max_grad_norm: float = 1.0
    stop_after: int | None = None
