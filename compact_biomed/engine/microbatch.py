"""How a batch is computed: in micro-batches of similar length, side by side on the cores.

Which documents share an optimizer step is science and is decided elsewhere. Here the step
is cut up for speed. Documents of similar length go together, so that little is padding;
a micro-batch has a budget of tokens, so that it fits the cache and memory stays flat; its
length is a multiple of 32, so that few shapes occur. The sum of the losses is the same
however the batch is cut (to rounding, and to the draw of dropout).

On CPUs each core computes micro-batches of its own, single-threaded, instead of all cores
sharing every small matrix product: no core waits for another at each operation.
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
        tokens: about how many tokens a micro-batch has; a single document may have more.
        replicas: how many are computed at a time; their number is a multiple of it where
            there are documents enough, so that no core waits at the end.
        keep_width: leave every micro-batch as wide as the batch (for losses that read padding).
    """
    lengths = torch.full_like(labels[:, 0], labels.shape[1]) if keep_width else attention_mask.sum(1)
    parts = []
    for rows, width in cut(lengths, widest=input_ids.shape[1], tokens=tokens, replicas=replicas):
        mask = attention_mask[rows, :width]
        parts.append(MicroBatch(input_ids[rows, :width], None if bool(mask.all()) else mask, labels[rows, :width]))
    return parts


def cut(lengths: Tensor, *, widest: int, tokens: int, replicas: int = 1) -> list[tuple[Tensor, int]]:
    """Which documents of a batch go together, and how wide their micro-batch is; longest documents first.

    Args:
        lengths: [batch], tokens of each document.
        widest: the greatest width, padding included; at least the longest document.
        tokens, replicas: as for `split`.

    Returns:
        For each micro-batch the indices of its documents and its width.
    """
    order, widths = _longest_first(lengths, widest)
    n_parts = math.ceil(int(widths.sum()) / (tokens * replicas)) * replicas
    # Each document goes to the part in which its middle falls on the way through all tokens. Padding is hardly
    # work: the parts' widths fill memory, their tokens take time.
    work = lengths[order].clamp(min=1)
    part_of = (work.cumsum(0) - work / 2) * n_parts // int(work.sum())
    return [(order[part_of == part], int(widths[part_of == part].max())) for part in part_of.unique_consecutive()]


def portions(lengths: Tensor, *, widest: int, tokens: int) -> list[tuple[Tensor, int]]:
    """As `cut`, for answering: which shapes occur hardly depends on the documents, however many there are.

    A portion is full, as its width allows, or holds what remains; in both cases a number of documents that has four
    binary digits at most. What a new shape needs is kept by the libraries below.
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
    """The documents' indices, and how wide each is in their order."""
    order = torch.argsort(lengths, descending=True, stable=True)
    # At least one place of padding behind each document, unless it is as long as the batch: MobileBERT's
    # last token sees what follows it, and [PAD] must not come and go with the company.
    widths = (lengths[order] + LENGTH_STEP) // LENGTH_STEP * LENGTH_STEP
    return order, widths.clamp(min=1, max=widest)


class Objective(Protocol):
    """A model together with its loss, as `Replicas` computes it (objectives.mlm, objectives.distillation)."""

    fast: bool  # whether it runs on prepared weights and our encoder
    dtype: torch.dtype

    def prepare(self) -> dict[str, Tensor]: ...

    def __call__(self, *part: Tensor | None, prepared: dict[str, Tensor] | None = None) -> tuple:
        """The summed loss, which is differentiated, and other sums: a NamedTuple of scalars."""


class Sums:
    """The summed gradient of each of some tensors.

    Args:
        source: the tensors; the sums are of their type, or of that of `into`.
        into: memory of the sums. What it holds before is overwritten.

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

    def places(self) -> dict[int, Tensor]:
        """By a tensor's data_ptr(), where its first gradient may be written, if of the tensor's type; see `put`."""
        pairs = zip(self._source, self._into or (), strict=False)
        return {tensor.data_ptr(): place for tensor, place in pairs if place.dtype == tensor.dtype}

    def put(self, i: int) -> None:
        """The first gradient has been written to its place; more can be added."""
        self.values[i] = self._into[i]

    def add_rows(self, i: int, ids: Tensor, rows: Tensor) -> None:
        """Add a gradient that is zero but in the rows `ids` [n]: `rows` [n, width]."""
        if self.values[i] is None:
            self.values[i] = torch.zeros_like(self._source[i]) if self._into is None else self._into[i].zero_()
        self.values[i].index_add_(0, ids, rows.to(self.values[i].dtype))


class Replicas:
    """Computes the gradient of a batch, `n` micro-batches at a time, each on one core.

    The weights are prepared (joined, folded, cast) once; each micro-batch yields gradients
    of the prepared weights; these are added up, usually in float32, in the order of the
    micro-batches whichever is ready first, and led back to the parameters once. So the sum
    is the same in every run to the bit.

    Args:
        objective: the model with its loss.
        n: how many at a time. Only the fast encoder may run beside itself: the modules of
            transformers draw dropout from one generator.
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
            parts: the objective's arguments, a tuple for each micro-batch.
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
        # What was passed on as it is takes its sum without a copy; the rest is led through the folding.
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
        """As `backward`, on weights that the caller has prepared; the gradients are added to `sums` alone.

        Args:
            parts, scale, stream: as for `backward`, and so is what is returned.
            weights: as the objective takes them.
            leaves: the tensors that stand in `weights`, no two at one place in memory; the parameters if it is None.
            sums: of the gradients of `leaves`, in their order.
        """
        place_of = {leaf.data_ptr(): i for i, leaf in enumerate(leaves)}
        turn = _Turn()

        def one(numbered: tuple[int, tuple]):
            index, part = numbered
            with turn.guard():
                places = sums.places() if len(parts) == 1 else {}
                wanted = set(places)
                with (
                    random_stream(*stream, index, modules=weights is None),
                    collected_lookups() as lookups,
                    gradients_into(places),
                    torch.enable_grad(),
                ):
                    output = self.objective(*part, prepared=weights)
                    gradients = torch.autograd.grad(output.loss_sum * scale, leaves, allow_unused=True)
                turn.wait_for(index)
                for pointer in wanted.difference(places):
                    sums.put(place_of[pointer])
                for i, gradient in enumerate(gradients):
                    if gradient is not None:
                        sums.add(i, gradient)
                for table, ids, rows in lookups:
                    sums.add_rows(place_of[table], ids, rows)
                turn.done(index)
            return _numbers(output)

        with one_blas_thread(*leaves):
            return _summed(self.map(one, list(enumerate(parts))))

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def backward_wrapped(self, wrapped, parts: Sequence[tuple], *, scale: float, stream: Sequence[int], hold: Callable):
        """As `backward`, through a data-parallel wrapper whose processes talk once, at the last micro-batch.

        Args:
            wrapped: the wrapper around the objective.
            hold: makes a context in which gradients stay local (`no_sync`).

        Returns:
            The outputs of this process, as of `backward`.
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
        """work(item) for each item, `n` at a time; the results in order. A single one has all cores."""
        if len(items) == 1:
            return [work(items[0])]
        with _one_thread_each() if self._pool else nullcontext():
            return list((self._pool.map if self._pool else map)(work, items))


def _numbers(output: tuple) -> tuple:
    """An objective's output as plain numbers."""
    return type(output)(*(x.item() if isinstance(x, Tensor) else x for x in output))


def _summed(outputs: Sequence[tuple]) -> tuple:
    """Outputs added up field by field."""
    return type(outputs[0])(*map(sum, zip(*outputs, strict=True)))


class _Turn:
    """Lets threads do a thing one after the other in the order of their numbers, whichever is ready first."""

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
        """If the block fails, those who wait for its turn fail too instead of waiting forever."""
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
