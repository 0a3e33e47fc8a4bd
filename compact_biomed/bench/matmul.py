"""The ceiling: how many FLOP/s this machine reaches in large matrix products."""

import time
from functools import lru_cache

import torch


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
