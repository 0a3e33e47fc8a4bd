"""What the time of a training step goes into, by kind of work.

torch's profiler reports the operations of all threads with the time that each takes by itself. Every operation belongs
to one kind of work, by its name or by that of an operation around it. The engine computes micro-batches side by side:
the time of those threads counts by the share of the processor that each has. What no operation takes is launch and
overhead: Python, autograd, waiting for the last micro-batch. So the kinds add up to the time of the step.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch._C._profiler import _ExperimentalConfig  # the only way to see the threads of the micro-batches
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, record_function

from compact_biomed.bench import timed
from compact_biomed.engine import compiled

PRODUCTS, ATTENTION, ELEMENTWISE, NORMALIZATION = "matrix products", "attention", "element-wise", "normalization"
COPIES, OPTIMIZER, DATA, OVERHEAD = "copies and lookups", "optimizer", "data", "launch and overhead"
KINDS = (PRODUCTS, ATTENTION, ELEMENTWISE, NORMALIZATION, COPIES, OPTIMIZER, DATA, OVERHEAD)

# Work that counts by what it is part of: names of autograd functions, and labels of the step (`ours`, `tuned`).
_WITHIN = {
    "bench: optimizer": OPTIMIZER,
    "bench: data": DATA,
    "_CrossEntropy": ELEMENTWISE,  # whose softmax is no attention
    "_FromScores": ELEMENTWISE,  # likewise: a loss on attention maps
    "_Attention": ATTENTION,
    "_DocumentAttention": ATTENTION,
    "_BucketedAttention": ATTENTION,
    "loop attention": ATTENTION,
    "loop rowwise.norm": NORMALIZATION,
    "loop": ELEMENTWISE,
}
_PRODUCTS = {"mm", "addmm", "addmm_", "addmv", "mv", "_addmm_activation"}
_ATTENTION = {"bmm", "baddbmm", "baddbmm_", "_softmax", "_softmax_backward_data"}
_NORMALIZATION = {"native_layer_norm", "native_layer_norm_backward"}
_COPIES = {
    *("copy_", "_to_copy", "cat", "index", "index_select", "index_add_", "_index_put_impl_", "embedding", "gather"),
    *("embedding_dense_backward", "fill_", "zero_", "masked_select", "nonzero", "clone", "scatter_", "scatter_add_"),
}
# Operations that give out memory or another view of it.
_LAUNCH = {
    *("view", "_unsafe_view", "t", "transpose", "as_strided", "as_strided_", "empty", "empty_like", "empty_strided"),
    *("resize_", "detach", "detach_", "expand", "slice", "select", "narrow", "alias", "unbind", "split", "unsqueeze"),
    *("squeeze", "permute", "reshape", "flatten", "item", "_local_scalar_dense", "is_nonzero", "lift_fresh"),
}


def kind_of(names: list[str]) -> str:
    """Return the kind of work of an operation.

    Args:
        names: its own, then those of the operations around it, from the inside out.
    """
    for name in names:
        for start, kind in _WITHIN.items():
            if name.startswith(start):
                return kind
    name = names[0]
    if "scaled_dot_product" in name or "flash_attention" in name:
        return ATTENTION
    if name.startswith("triton_"):  # what torch.compile fuses
        return ELEMENTWISE
    if not name.startswith("aten::"):
        return OVERHEAD  # Python and autograd around operations
    name = name.removeprefix("aten::")
    for operations, kind in (
        (_PRODUCTS, PRODUCTS),
        (_ATTENTION, ATTENTION),
        (_NORMALIZATION, NORMALIZATION),
        (_COPIES, COPIES),
        (_LAUNCH, OVERHEAD),
    ):
        if name in operations:
            return kind
    return ELEMENTWISE


@dataclass(frozen=True)
class Profile:
    """What the time of a step goes into; all times in seconds per step.

    Args:
        seconds: of each of `KINDS`; they add up to `wall`.
        wall: of a step while it is profiled.
        unprofiled: of a step without the profiler.
        product_flops: of the matrix products of a step.
        operations: the operations that take most, with their times.
    """

    seconds: dict[str, float]
    wall: float
    unprofiled: float
    product_flops: float
    operations: tuple[tuple[str, float], ...]

    @property
    def product_rate(self) -> float:
        """FLOP/s of the matrix products while they run, on all cores together."""
        return self.product_flops / self.seconds[PRODUCTS] if self.seconds[PRODUCTS] else 0.0

    def as_json(self, tokens: int) -> dict[str, Any]:
        """Return the profile as a part of a record.

        Args:
            tokens: of a step.
        """
        return {
            "seconds": {kind: round(value, 6) for kind, value in self.seconds.items()},
            "shares": {kind: round(value / self.wall, 4) for kind, value in self.seconds.items()},
            "wall_seconds": round(self.wall, 6),
            "wall_seconds_unprofiled": round(self.unprofiled, 6),
            "tokens_per_s": round(tokens / self.unprofiled, 1),
            "product_gflops": round(self.product_rate / 1e9, 1),
            "operations": [[name, round(seconds, 6)] for name, seconds in self.operations],
        }


def profile_step(
    step: Callable[[], Any], *, replicas: int = 1, rounds: int = 1, most: int = 8, on_gpu: bool = False
) -> Profile:
    """Profile a training step, after one to warm up.

    Args:
        replicas: threads that compute side by side, besides the one that calls.
        rounds: steps that are profiled, and as many that are timed without the profiler.
        most: operations to name.
        on_gpu: count the time of an operation's kernels on the GPU; the rest is the time in which the GPU is idle.
    """
    if on_gpu:
        step = partial(_synchronized, step)
    step()
    unprofiled = min(timed(step)[1] for _ in range(rounds))
    settings = {"record_shapes": True, "with_flops": True}
    every_thread = _ExperimentalConfig(profile_all_threads=True)
    with (
        _labeled_loops(),
        torch.profiler.profile(
            activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu],
            experimental_config=every_thread,
            **settings,
        ) as profiler,
    ):
        wall = 0.0
        for _ in range(rounds):
            with record_function("bench: step"):
                wall += timed(step)[1]
    events = profiler.events()
    caller = next(event.thread for event in events if event.name == "bench: step")
    seconds, operations, flops = Counter(dict.fromkeys(KINDS, 0.0)), Counter(), 0.0
    for event in events:
        if event.name == "bench: step" or event.device_type != DeviceType.CPU:  # kernels count with their operations
            continue
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        own = own / 1e6 / (1 if event.thread == caller or on_gpu else replicas) / rounds
        kind = kind_of(list(_names_around(event)))
        seconds[kind] += own
        operations[f"{event.name} ({kind})"] += own
        if kind == PRODUCTS:
            flops += (event.flops or 0) / rounds
    wall /= rounds
    seconds[OVERHEAD] += wall - sum(seconds.values())
    return Profile(dict(seconds), wall, unprofiled, flops, tuple(operations.most_common(most)))


def _synchronized(step: Callable[[], Any]) -> None:
    step()
    torch.cuda.synchronize()


def _names_around(event: Any) -> Iterator[str]:
    while event is not None:
        yield event.name
        event = event.cpu_parent


@contextmanager
def _labeled_loops() -> Iterator[None]:
    """Let the profiler see compiled loops, which are no operations of torch, as "loop MODULE.FUNCTION"."""
    plain = compiled.call

    def call(module: str, function: str, *arguments):
        with record_function(f"loop {module}.{function}"):
            return plain(module, function, *arguments)

    compiled.call = call
    try:
        yield
    finally:
        compiled.call = plain
