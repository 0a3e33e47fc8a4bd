"""Micro-batches: how the gradient of a batch is computed on the cores of a machine.

Which documents share an optimizer step is a hyperparameter and is decided elsewhere. Here the step is cut up for speed:

* Documents of similar length go together, so that little is padding.
* A micro-batch has a budget of tokens, so that it fits the cache and memory stays flat.
* Its length is a multiple of 32, so that matrix products have few shapes.
* On CPUs each core computes whole micro-batches in a single thread. When all cores share every small matrix product,
  they wait for one another at each operation.

The sum of the losses is the same however the batch is cut, up to rounding and the draw of dropout.
"""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from compact_biomed.engine.compiled import one_blas_thread
from compact_biomed.engine.dropout import random_stream
from compact_biomed.engine.kernels import collected_lookups, gradients_into
from compact_biomed.machine import share_one_heap

LENGTH_STEP = 32


class MicroBatch(NamedTuple):
    """Documents of similar length that are computed together."""

    input_ids: Tensor  # [rows, length]
    attention_mask: Tensor | None  # [rows, length]; None where nothing is padding
    labels: Tensor  # [rows, length]


def split(
    input_ids: Tensor,
    attention_mask: Tensor,
    labels: Tensor,
    *,
    tokens: int,
    replicas: int = 1,
    keep_width: bool = False,
) -> list[MicroBatch]:
    """Cut a padded batch into micro-batches of about equal work, longest documents first.

    Args:
        input_ids, attention_mask, labels: [batch, length], padded on the right.
        tokens: approximate number of tokens per micro-batch; a single document may have more.
        replicas: number of micro-batches computed at a time. If there are enough documents, the number of
            micro-batches is a multiple of it, so that no core waits at the end.
        keep_width: leave every micro-batch as wide as the batch (for losses that read padding).
    """
    lengths = torch.full_like(labels[:, 0], labels.shape[1]) if keep_width else attention_mask.sum(1)
    parts = []
    for rows, width in training_groups(lengths, widest=input_ids.shape[1], tokens=tokens, replicas=replicas):
        mask = attention_mask[rows, :width]
        parts.append(MicroBatch(input_ids[rows, :width], None if bool(mask.all()) else mask, labels[rows, :width]))
    return parts


def training_groups(lengths: Tensor, *, widest: int, tokens: int, replicas: int = 1) -> list[tuple[Tensor, int]]:
    """Group the documents of a batch into micro-batches of about equal work, longest documents first.

    Args:
        lengths: [batch], tokens of each document.
        widest: the greatest width, padding included; at least the longest document.
        tokens, replicas: as for `split`.

    Returns:
        For each micro-batch the indices of its documents and its width.
    """
    order, widths = _longest_first(lengths, widest)
    n_parts = math.ceil(int(widths.sum()) / (tokens * replicas)) * replicas
    # Each document goes to the part that its middle token falls into when all tokens are divided evenly. Padding is
    # hardly work: the widths of the parts take memory, their tokens take time.
    work = lengths[order].clamp(min=1)
    part_of = (work.cumsum(0) - work / 2) * n_parts // int(work.sum())
    return [(order[part_of == part], int(widths[part_of == part].max())) for part in part_of.unique_consecutive()]


def prediction_groups(lengths: Tensor, *, widest: int, tokens: int) -> list[tuple[Tensor, int]]:
    """Group documents as `training_groups` does, but in few shapes, however many documents there are.

    The libraries below keep memory for each new shape. So a group is as full as its width allows, or holds the
    documents that remain, and in both cases its number of documents has at most four significant binary digits.
    """
    order, widths = _longest_first(lengths, widest)
    parts, first = [], 0
    while first < len(widths):
        width = int(widths[first])
        count = min(max(tokens // width, 1), len(widths) - first)
        count -= count % (1 << max(count.bit_length() - 4, 0))
        parts.append((order[first : first + count], width))
        first += count
    return parts


def _longest_first(lengths: Tensor, widest: int) -> tuple[Tensor, Tensor]:
    """Return the indices of the documents by descending length, and the width of each in this order."""
    order = torch.argsort(lengths, descending=True, stable=True)
    # At least one [PAD] behind each document, unless it is as long as the batch: MobileBERT's last token sees what
    # follows it, and that must not depend on the other documents.
    widths = (lengths[order] + LENGTH_STEP) // LENGTH_STEP * LENGTH_STEP
    return order, widths.clamp(min=1, max=widest)


class Objective(Protocol):
    """A model together with its loss, as `Replicas` computes it (for example `objectives.mlm.MaskedLM`)."""

    fast: bool  # whether it runs on prepared weights and the fast encoder
    dtype: torch.dtype

    def prepare(self) -> dict[str, Tensor]: ...

    def __call__(self, *part: Tensor | None, prepared: dict[str, Tensor] | None = None) -> tuple:
        """Return a NamedTuple of scalars: `loss_sum`, which is differentiated, and other sums."""


class Sums:
    """Sums of gradients, one per tensor.

    Args:
        source: the tensors; the sums have their type, or that of `into`.
        into: memory for the sums, which is overwritten.

    Attributes:
        values: the sums; None where nothing was added.
    """

    def __init__(self, source: Sequence[Tensor], into: Sequence[Tensor] | None = None):
        self._source, self._into = source, into
        self.values: list[Tensor | None] = [None] * len(source)

    def add(self, i: int, gradient: Tensor) -> None:
        total = self.values[i]
        if total is not None:
            total.add_(gradient)
        elif self._into is not None:
            self.values[i] = self._into[i].copy_(gradient)
        else:
            self.values[i] = gradient.to(self._source[i].dtype, copy=True)

    def buffers(self) -> dict[int, Tensor]:
        """Return, by a tensor's data_ptr(), the memory of its sum, if it has the tensor's type.

        A first gradient may be written there directly; then call `mark_written`.
        """
        pairs = zip(self._source, self._into or (), strict=False)
        return {tensor.data_ptr(): buffer for tensor, buffer in pairs if buffer.dtype == tensor.dtype}

    def mark_written(self, i: int) -> None:
        """Note that the first gradient of tensor i is in its buffer, so that the next ones are added to it."""
        self.values[i] = self._into[i]

    def add_rows(self, i: int, ids: Tensor, rows: Tensor) -> None:
        """Add a gradient that is zero except in the rows `ids` [n], where it is `rows` [n, width]."""
        if self.values[i] is None:
            self.values[i] = torch.zeros_like(self._source[i]) if self._into is None else self._into[i].zero_()
        self.values[i].index_add_(0, ids, rows.to(self.values[i].dtype))


class Replicas:
    """An engine that computes the gradient of a batch, `n` micro-batches at a time, each on one core.

    The weights are prepared (joined, folded, cast) once per step. Each micro-batch yields gradients of the prepared
    weights. These are summed, usually in float32, in the order of the micro-batches, whichever finishes first; so the
    sum is bit-identical in every run. The sum is propagated back to the parameters once.

    Args:
        objective: the model with its loss.
        n: number of micro-batches at a time. Only the fast encoder can run in several threads at once: the modules
            of transformers draw dropout from one generator.

    Raises:
        ValueError: `n` > 1 without the fast encoder.
    """

    def __init__(self, objective: Objective, n: int = 1):
        if n > 1 and not objective.fast:
            raise ValueError("several replicas need the fast encoder")
        self.objective, self.n = objective, n
        if n > 1:
            share_one_heap()
        self._pool = ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(1,)) if n > 1 else None

    def backward(self, parts: Sequence[tuple], *, scale: float, stream: Sequence[int]):
        """Add scale * d(summed loss)/d(weights) to the parameters' gradients.

        Args:
            parts: the objective's arguments, one tuple per micro-batch.
            scale: usually 1 / (number of masked tokens in the whole step).
            stream: numbers that identify this step; they determine the dropout.

        Returns:
            The objective's outputs summed field by field, as plain numbers.
        """
        if self.objective.fast:
            prepared = self.objective.prepare()
            source = list({id(t): t for t in prepared.values()}.values())
            leaves = [t.detach().to(self.objective.dtype).requires_grad_() for t in source]
            leaf_of = {id(t): leaf for t, leaf in zip(source, leaves, strict=True)}
            weights = {name: leaf_of[id(t)] for name, t in prepared.items()}
        else:
            source = leaves = [p for p in self.objective.parameters() if p.requires_grad]
            weights = None

        sums = Sums(source)
        result = self.gradients(parts, weights, leaves, sums, scale=scale, stream=stream)
        # Weights that were passed on unchanged take their sum without a copy; the others go back through the folding.
        folded, folded_sums = [], []
        for tensor, total in zip(source, sums.values, strict=True):
            if total is None or not tensor.requires_grad:
                continue
            if not tensor.is_leaf:
                folded.append(tensor)
                folded_sums.append(total)
            elif tensor.grad is None:
                tensor.grad = total
            else:
                tensor.grad.add_(total)
        if folded:
            torch.autograd.backward(folded, folded_sums)
        return result

    def gradients(
        self,
        parts: Sequence[tuple],
        weights: Mapping[str, Tensor] | None,
        leaves: Sequence[Tensor],
        sums: Sums,
        *,
        scale: float,
        stream: Sequence[int],
    ):
        """Add gradients to `sums` as `backward` does to the parameters, on weights that the caller has prepared.

        Args:
            parts, scale, stream: as for `backward`.
            weights: as the objective takes them.
            leaves: the tensors in `weights`, no two with the same memory; the parameters if `weights` is None.
            sums: of the gradients of `leaves`, in their order.

        Returns:
            The objective's outputs, as `backward` returns them.
        """
        index_of = {leaf.data_ptr(): i for i, leaf in enumerate(leaves)}
        turn = _Turn()

        def compute(numbered_part: tuple[int, tuple]):
            index, part = numbered_part
            with turn.guard():
                buffers = sums.buffers() if len(parts) == 1 else {}
                offered = set(buffers)
                with (
                    random_stream(*stream, index, modules=weights is None),
                    collected_lookups() as lookups,
                    gradients_into(buffers),
                    torch.enable_grad(),
                ):
                    output = self.objective(*part, prepared=weights)
                    gradients = torch.autograd.grad(output.loss_sum * scale, leaves, allow_unused=True)
                turn.wait_for(index)
                for pointer in offered.difference(buffers):
                    sums.mark_written(index_of[pointer])
                for i, gradient in enumerate(gradients):
                    if gradient is not None:
                        sums.add(i, gradient)
                for table, ids, rows in lookups:
                    sums.add_rows(index_of[table], ids, rows)
                turn.done(index)
            return _numbers(output)

        with one_blas_thread(*leaves):
            return _summed(self.map(compute, list(enumerate(parts))))

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def backward_wrapped(self, wrapped, parts: Sequence[tuple], *, scale: float, stream: Sequence[int], hold: Callable):
        """Run `backward` through a data-parallel wrapper whose processes communicate at the last micro-batch only.

        Args:
            wrapped: the wrapper around the objective.
            hold: returns a context in which gradients stay local (`no_sync`).

        Returns:
            The outputs of this process, as `backward` returns them.
        """
        outputs = []
        for index, part in enumerate(parts):
            with hold() if index < len(parts) - 1 else nullcontext():
                with random_stream(*stream, index, modules=not self.objective.fast):
                    output = wrapped(*part)
                    (output.loss_sum * scale).backward()
            outputs.append(_numbers(output))
        return _summed(outputs)

    def map(self, work: Callable, items: Sequence) -> list:
        """Return work(item) for each item in order, computed `n` at a time. A single item has all cores."""
        if len(items) == 1:
            return [work(items[0])]
        with _one_thread_each() if self._pool else nullcontext():
            return list((self._pool.map if self._pool else map)(work, items))


def _numbers(output: tuple) -> tuple:
    """Turn an objective's output into plain numbers."""
    return type(output)(*(x.item() if isinstance(x, Tensor) else x for x in output))


def _summed(outputs: Sequence[tuple]) -> tuple:
    """Add up outputs field by field."""
    return type(outputs[0])(*map(sum, zip(*outputs, strict=True)))


class _Turn:
    """An order in which threads take their turns: that of their numbers, whichever is ready first."""

    def __init__(self):
        self._next, self._failed, self._condition = 0, False, threading.Condition()

    def wait_for(self, number: int) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._next == number or self._failed)
            if self._failed:
                raise RuntimeError("another micro-batch failed")

    def done(self, number: int) -> None:
        with self._condition:
            self._next = number + 1
            self._condition.notify_all()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Let the threads that wait for the block's turn fail with it instead of waiting forever."""
        try:
            yield
        except BaseException:
            with self._condition:
                self._failed = True
                self._condition.notify_all()
            raise


@contextmanager
def _one_thread_each() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
