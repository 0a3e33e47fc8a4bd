"""What this machine can do, and the speed settings that follow from it."""

import platform
import time
from dataclasses import dataclass
from functools import lru_cache

import torch

from compact_biomed.engine import encoders
from compact_biomed.machine import Speed, usable_cores

# ----------------------------------------------------------------------------------------------------
# The ceiling: how many FLOP/s this machine reaches in large matrix products.


@lru_cache(maxsize=8)
def matmul_ceiling(dtype: torch.dtype, device: str = "cpu", *, size: int = 2048, seconds: float = 0.4) -> float:
    """Best rate of a size^3 product in `dtype`, in FLOP/s, with torch's current number of threads.

    The best of several is taken: other work on the machine only ever lowers a rate.
    """
    a = torch.randn(size, size, device=device, dtype=dtype)
    b = torch.randn(size, size, device=device, dtype=dtype)
    out = torch.empty_like(a)
    synchronize = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    best, end = 0.0, time.perf_counter() + seconds
    torch.mm(a, b, out=out)
    while time.perf_counter() < end:
        synchronize()
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        synchronize()
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


@lru_cache(maxsize=1)
def bf16_is_faster() -> bool:
    """Whether this CPU's bf16 products beat its fp32 ones clearly; on GPUs, whether bf16 exists.

    The processor's own flags decide where they are told: a timing may come out differently on
    a busy machine, and a run must go on in the precision that it began in.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    flags = cpu_flags()
    if flags:
        return not flags.isdisjoint(_BF16_FLAGS)
    return matmul_ceiling(torch.bfloat16, size=1024, seconds=0.1) > 1.3 * matmul_ceiling(
        torch.float32, size=1024, seconds=0.1
    )


_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # Intel and AMD; Arm


def cpu_flags(path: str = "/proc/cpuinfo") -> set[str]:
    """What the first processor can do, as Linux tells it; empty elsewhere."""
    try:
        with open(path, encoding="utf-8") as stream:
            for line in stream:
                name, _, value = line.partition(":")
                if name.strip() in ("flags", "Features"):
                    return set(value.split())
    except OSError:
        pass
    return set()


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
