"""The plan of a computation: performance settings with every "auto" decided for this machine and model.

bfloat16 is chosen if the processor computes it faster than float32 (`bf16_is_faster`). The fast
encoder runs one micro-batch per core. Progress is compared with the ceiling, the rate of large matrix products.
"""

import platform
import time
from dataclasses import dataclass
from functools import lru_cache

import torch

from compact_biomed.engine import encoders
from compact_biomed.errors import UserError, check_choice
from compact_biomed.machine import PRECISION_CHOICES, PerformanceSettings, usable_cores


@dataclass(frozen=True)
class ComputePlan:
    """Performance settings with every "auto" decided.

    Args:
        dtype: of the computation.
        fast: use the fast encoder instead of transformers' modules.
        replicas: number of micro-batches computed at a time.
        micro_batch_tokens: padded tokens per micro-batch.
        ceiling: FLOP/s of large matrix products in `dtype`.
        device: in words, for the record.
    """

    dtype: torch.dtype
    fast: bool
    replicas: int
    micro_batch_tokens: int
    ceiling: float
    device: str

    @property
    def precision(self) -> str:
        """The name of `dtype`, for records."""
        return str(self.dtype).removeprefix("torch.")


def plan(speed: PerformanceSettings, config, *, world_size: int = 1) -> ComputePlan:
    """Decide the performance settings for a model on this machine.

    Raises:
        UserError: a precision in which this model cannot be computed.
    """
    on_gpu = torch.cuda.is_available()
    dtype = dtype_of(speed.precision, config)
    fast = speed.kernels == "fast" or (speed.kernels == "auto" and not on_gpu)
    fast = fast and encoders.is_supported(config)
    replicas = 1
    if fast and not on_gpu and world_size == 1:
        replicas = speed.replicas or usable_cores()
    # Large enough for matrix products at the full rate, small enough for low memory. Small models do less work per
    # operation and need more tokens (docs/log.md).
    small = config.hidden_size < 400
    tokens = speed.micro_batch_tokens or (16384 if on_gpu else 2048 if small else 1536)
    ceiling = matmul_ceiling(dtype, "cuda" if on_gpu else "cpu")
    return ComputePlan(dtype, fast, replicas, tokens, ceiling, device_name())


def dtype_of(precision: str, config) -> torch.dtype:
    """Return the type in which a model is computed: of "auto", bf16 where that is faster and the model allows it.

    Raises:
        UserError: "bf16" for a model that cannot be computed so.
    """
    check_choice("precision", precision, PRECISION_CHOICES)
    if precision == "bf16" and not runs_in_bf16(config):
        raise UserError(
            f"a {config.model_type} cannot be computed in bf16", where="--precision bf16", remedy="leave it out"
        )
    bf16 = precision == "bf16" or (precision == "auto" and runs_in_bf16(config) and bf16_is_faster())
    return torch.bfloat16 if bf16 else torch.float32


def runs_in_bf16(config) -> bool:
    """Return whether a model's modules run in bf16: DeBERTa's first version masks with the lowest number of fp32."""
    return config.model_type != "deberta"


# ---- Measurements of the machine


@lru_cache(maxsize=8)
def matmul_ceiling(dtype: torch.dtype, device: str = "cpu", *, size: int = 2048, seconds: float = 0.4) -> float:
    """Measure the best rate of a size^3 product in `dtype`, in FLOP/s, with torch's current number of threads.

    It is the best of several: other work on the machine can only lower a rate.
    """
    a = torch.randn(size, size, device=device, dtype=dtype)
    b = torch.randn(size, size, device=device, dtype=dtype)
    out = torch.empty_like(a)
    synchronize = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    best, end = 0.0, time.perf_counter() + seconds
    torch.mm(a, b, out=out)
    while not best or time.perf_counter() < end:  # on a busy machine the first product may have taken all the time
        synchronize()
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        synchronize()
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


@lru_cache(maxsize=1)
def bf16_is_faster() -> bool:
    """Return whether products in bf16 are clearly faster than in fp32 on this CPU; on GPUs, whether bf16 exists.

    The processor's flags decide if the system lists them: a timing can differ on a busy machine, and a resumed run
    must keep the precision that it began with. Intel's processors need their matrix unit (AMX) for it: with
    avx512_bf16 alone, as where a virtual machine hides the unit, products in bf16 have half of fp32's rate (157 to 167
    instead of 300 to 337 GFLOP/s on two cores).
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    vendor, flags = processor()
    if flags:
        return not flags.isdisjoint(_BF16_FLAGS if vendor != "GenuineIntel" else {"amx_bf16"})
    return matmul_ceiling(torch.bfloat16, size=1024, seconds=0.1) > 1.3 * matmul_ceiling(
        torch.float32, size=1024, seconds=0.1
    )


_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # Intel and AMD; Arm


def processor(path: str = "/proc/cpuinfo") -> tuple[str, set[str]]:
    """Return the vendor and the feature flags of the first processor, as Linux lists them; empty elsewhere."""
    vendor = ""
    try:
        with open(path, encoding="utf-8") as stream:
            for line in stream:
                name, _, value = line.partition(":")
                if name.strip() == "vendor_id":
                    vendor = value.strip()
                if name.strip() in ("flags", "Features"):
                    return vendor, set(value.split())
    except OSError:
        pass
    return vendor, set()


def device_name() -> str:
    """Return the processor in words, such as "AMD EPYC, 2 cores", or the name of the GPU."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            model = next((line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{model}, {usable_cores()} cores"
