"""The weights of a training end to end, so that casting, clipping and updating them are each one pass over memory.

A step on a batch of sentences takes 170 ms (docs/log.md), of which handling a hundred tensors one by one took 23. The
parameters become views of a vector, one for each group of the optimizer. Where prepared weights are parameters as
they are or joined, the step computes with views of the vectors' copies in its own type, and leaves its gradients
beside them; elsewhere (MobileBERT, modules of transformers) gradients come by way of the parameters.

In the former case the weights of a linear layer lie in memory by columns, [inputs, outputs]. Their products are then
faster, forward and backward, and a parameter's shape is what it was.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compact_biomed.engine.microbatch import Replicas, Sums

Block = tuple[nn.Parameter, ...]  # parameters of one prepared weight, one below the other


class _Vectors:
    """Vectors, one for each group, and the blocks' views of them.

    Args:
        groups: their blocks.
        by_columns: ids of the parameters that lie by columns.
        like: has the type and device.
    """

    def __init__(self, groups: Sequence[Sequence[Block]], by_columns: set[int], like: Tensor):
        self.vectors, self.views = [], []
        for blocks in groups:
            sizes = [sum(p.numel() for p in block) for block in blocks]
            vector = like.new_zeros(sum(sizes))
            self.vectors.append(vector)
            for block, piece in zip(blocks, vector.split(sizes), strict=True):
                shape = _shape(block)
                self.views.append(piece.view(shape[::-1]).t() if id(block[0]) in by_columns else piece.view(shape))


class FlatWeights:
    """An objective's parameters as vectors, one for each of an optimizer's groups.

    Between `adopt` and `release` the parameters are views of the vectors.

    Args:
        objective: its parameters of now are those meant.
        groups: an optimizer's parameter groups.

    Attributes:
        groups: the same, each with its vector as its one parameter.
        gradients: of the vectors, after `backward`.
        copies: where a step computes with copies of the vectors, these; else None. Who changes the vectors between
            `adopt` and `release` writes them there too and calls `copied`.
    """

    def __init__(self, objective: nn.Module, groups: Sequence[Mapping[str, Any]]):
        sources = _placed_once(objective.sources(), groups)
        cut = [list(_blocks(group["params"], (sources or {}).values())) for group in groups]
        linear = {id(module.weight) for module in objective.modules() if isinstance(module, nn.Linear)}
        self._blocks = [block for blocks in cut for block in blocks]
        like = self._blocks[0][0].detach().new_empty(0)

        def vectors(like: Tensor) -> _Vectors:
            return _Vectors(cut, linear if sources else set(), like)

        self._values, self._wide = vectors(like), vectors(like)
        self._weights, self.copies = None, None
        if sources:
            computed = like.to(objective.dtype)
            self._copy = vectors(computed)
            self.copies = self._copy.vectors
            # A single part's gradients need no wider type than their own.
            self._narrow = self._wide if computed.dtype == like.dtype else vectors(computed)
            self._scale = objective.query_scale
            self._leaves = [view.detach().requires_grad_() for view in self._copy.views]
            leaf_of = dict(zip(self._blocks, self._leaves, strict=True))
            self._weights = {name: leaf_of[block] for name, block in sources.items()}
        parameters = (nn.Parameter(vector, requires_grad=False) for vector in self._values.vectors)
        self.groups = [{**group, "params": [vector]} for group, vector in zip(groups, parameters, strict=True)]
        self.gradients = self._wide.vectors
        self._own: dict[int, list[Tensor]] = {}  # the parameters' own memory, until their block has a gradient

    def _places(self) -> Iterator[tuple[int, nn.Parameter, Tensor, Tensor]]:
        """Each parameter with the number of its block and its places among the values and the wider sums."""
        for i, (block, *views) in enumerate(zip(self._blocks, self._values.views, self._wide.views, strict=True)):
            if len(block) == 1:
                yield i, block[0], *views
                continue
            rows = [len(parameter) for parameter in block]
            for parameter, *places in zip(block, *(view.split(rows) for view in views), strict=True):
                yield i, parameter, *places

    def _queries(self, vectors: _Vectors) -> Iterator[Tensor]:
        """The rows of the query in the joined projections."""
        for block, view in zip(self._blocks, vectors.views, strict=True):
            if len(block) > 1:
                yield view[: len(block[0])]

    @torch.no_grad()
    def adopt(self) -> None:
        """Take the parameters' values; from now on they are views."""
        self._own = {i: [parameter.data for parameter in block] for i, block in enumerate(self._blocks)}
        for _, parameter, value, _ in self._places():
            parameter.data = value.copy_(parameter)
        if self.copies is not None:
            for copy, vector in zip(self.copies, self._values.vectors, strict=True):
                copy.copy_(vector)
            self.copied()

    @torch.no_grad()
    def copied(self) -> None:
        """After the vectors' values have been written into `copies`: make of them what the step computes with."""
        if self.copies is not None and (queries := list(self._queries(self._copy))):
            torch._foreach_mul_(queries, self._scale)

    @torch.no_grad()
    def release(self) -> None:
        """Give the parameters memory of their own again.

        One that had no gradient since `adopt` is as it was, not even decayed. For one that had none in some steps,
        these count as steps with a gradient of zero.
        """
        for _, parameter, value, _ in self._places():
            parameter.data = value.clone(memory_format=torch.contiguous_format)
        for i, own in self._own.items():
            for parameter, data in zip(self._blocks[i], own, strict=True):
                parameter.data = data

    def backward(self, engine: Replicas, parts: Sequence[tuple], *, scale: float, stream: Sequence[int]):
        """Compute the gradient of a step and return what `Replicas.backward` does."""
        if self._weights is None:
            return self._by_parameters(engine, parts, scale=scale, stream=stream)
        found = self._wide if len(parts) > 1 else self._narrow
        sums = Sums(self._leaves, found.views)
        result = engine.gradients(parts, self._weights, self._leaves, sums, scale=scale, stream=stream)
        for i, total in enumerate(sums.values):
            self._seen(i, found.views[i], total)
        if queries := list(self._queries(found)):
            torch._foreach_mul_(queries, self._scale)
        self.gradients = found.vectors
        return result

    def _by_parameters(self, engine: Replicas, parts: Sequence[tuple], **how):
        """By way of the parameters' own gradients, where prepared weights are more than parameters joined."""
        result = engine.backward(parts, **how)
        for i, parameter, _, place in self._places():
            if parameter.grad is not None:
                place.copy_(parameter.grad)
            self._seen(i, place, parameter.grad)
            parameter.grad = None
        return result

    def _seen(self, i: int, place: Tensor, gradient: Tensor | None) -> None:
        if gradient is None:
            place.zero_()
        else:
            self._own.pop(i, None)


def _shape(block: Block) -> tuple[int, ...]:
    first = block[0].shape
    return first if len(block) == 1 else (sum(len(parameter) for parameter in block), *first[1:])


def _placed_once(
    sources: Mapping[str, Block] | None, groups: Sequence[Mapping[str, Any]]
) -> Mapping[str, Block] | None:
    """`sources`, or None where a parameter stands in several prepared weights, or in one but in no group."""
    placed = [id(parameter) for block in set((sources or {}).values()) for parameter in block]
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    return sources if len(set(placed)) == len(placed) and trained.issuperset(placed) else None


def _blocks(parameters: Iterable[nn.Parameter], joined: Iterable[Block]) -> Iterator[Block]:
    """The parameters, those together that a prepared weight joins."""
    block_of = {id(parameter): block for block in joined for parameter in block}
    seen: set[Block] = set()
    for parameter in parameters:
        block = block_of.get(id(parameter), (parameter,))
        if block not in seen:
            seen.add(block)
            yield block


# ----------------------------------------------------------------------------------------------------
# Training with only the word embeddings that occur in the training set.
#
# Half of a small model's weights are word embeddings, and a benchmark's training set uses a
# fifth of them. The others have no gradient: AdamW moves them by weight decay alone. So they
# are set aside while the model trains, and decayed at the end. What is learned is the same to
# rounding; casting, clipping and updating them every step is saved.


class ActiveVocabulary:
    """The rows of a model's word embedding that a training set uses.

    `shrink` puts them in the place of the whole embedding, `restore` puts the whole one back,
    up to date. The optimizer is made while the model is shrunk.

    Args:
        model: of transformers.
        inputs: token ids of all that is read while the model is shrunk.
        decay: AdamW's decay of the embedding.
    """

    def __init__(self, model: nn.Module, inputs: Iterable[Sequence[int]], *, decay: float):
        self.embedding = model.get_input_embeddings()
        self.full = self.embedding.weight
        trained = self.full.requires_grad
        self.decay = decay if trained else 0.0
        used = np.zeros(len(self.full), dtype=bool)
        for ids in inputs:
            used[ids] = True
        # Ids up to the padding's keep their number: models compare with it.
        used[: (model.config.pad_token_id or 0) + 1] = True
        self._rows = torch.from_numpy(used.nonzero()[0]).to(self.full.device)
        self._new_id = np.cumsum(used) - 1
        self.small = nn.Parameter(self.full.detach()[self._rows], requires_grad=trained)
        self._factor = 1.0

    def renumbered(self, ids: Sequence[int]) -> np.ndarray:
        """Token ids as the shrunk model takes them."""
        return self._new_id[ids]

    def shrink(self) -> None:
        """Only the rows in use."""
        self.embedding.weight = self.small

    def decay_others(self, learning_rate: float) -> None:
        """To be called each step: what AdamW does to a row that never had a gradient."""
        self._factor *= 1 - learning_rate * self.decay

    @torch.no_grad()
    def restore(self) -> None:
        """All rows."""
        self.full.mul_(self._factor)
        self.full[self._rows] = self.small
        self._factor = 1.0
        self.embedding.weight = self.full
