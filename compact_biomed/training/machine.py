"""What this machine can do, and the speed settings that follow from it."""

import platform
from dataclasses import dataclass

import torch

from compact_biomed.bench.matmul import bf16_is_faster, matmul_ceiling
from compact_biomed.cores import usable_cores
from compact_biomed.models import encoders
from compact_biomed.training.settings import Speed


@dataclass(frozen=True)
class Plan:
    """Speed settings with every "auto" decided.

    Args:
        dtype: of the computation.
        fast: our encoder instead of transformers' modules.
        replicas: micro-batches side by side.
        micro_batch_tokens: padded tokens a micro-batch.
        ceiling: FLOP/s of matrix products in `dtype`.
        device: in words, for the record.
    """

    dtype: torch.dtype
    fast: bool
    replicas: int
    micro_batch_tokens: int
    ceiling: float
    device: str


def plan(speed: Speed, config, *, world_size: int = 1) -> Plan:
    """Decide the speed settings for a model on this machine."""
    on_gpu = torch.cuda.is_available()
    precision = speed.precision
    if precision == "auto":
        precision = "bf16" if bf16_is_faster() else "fp32"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    fast = speed.kernels == "fast" or (speed.kernels == "auto" and not on_gpu)
    fast = fast and encoders.is_supported(config)
    replicas = 1
    if fast and not on_gpu and world_size == 1:
        replicas = speed.replicas or usable_cores()
    # Large enough for the matrix products to run at their full rate, small enough for memory
    # to stay low; small models do less work an operation and want more tokens (docs/log.md).
    small = config.hidden_size < 400
    tokens = speed.micro_batch_tokens or (16384 if on_gpu else 2048 if small else 1536)
    ceiling = matmul_ceiling(dtype, "cuda" if on_gpu else "cpu")
    return Plan(dtype, fast, replicas, tokens, ceiling, device_name())


def device_name() -> str:
    """The processor in words: "AMD EPYC, 2 cores" or a GPU's name."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            model = next((line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{model}, {usable_cores()} cores"
