"""All trained weights of a fine-tuning in contiguous vectors, without the word embeddings that it does not use.

`FlatWeights`: casting, clipping and updating the weights are one pass over memory each, instead of one per tensor. A
step on a batch of sentences takes 170 ms (docs/log.md), of which handling a hundred tensors one by one took 23. The
parameters become views of a vector, one vector per group of the optimizer. If prepared weights are parameters as they
are, or joined, the step computes with views of the vectors' copies in the type of the computation, and writes its
gradients in the same order. Otherwise (MobileBERT, modules of transformers) gradients pass through the parameters.
In the former case the weights of a linear layer are stored by columns, [inputs, outputs], which makes their products
faster, forward and backward. A parameter's shape stays what it was.

`ActiveVocabulary`: half of a small model's weights are word embeddings, and a benchmark's training set uses a fifth of
them. The others have no gradient: AdamW changes them by weight decay alone. So they are set aside while the model
trains, and decayed at the end. The result is the same up to rounding; casting, clipping and updating them in every
step is saved.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from compact_biomed.engine import compiled
from compact_biomed.engine.microbatch import Replicas, Sums

Block = tuple[nn.Parameter, ...]  # the parameters that one prepared weight joins along its rows


class _Vectors:
    """Vectors, one per group, and the blocks' views of them.

    Args:
        groups: the blocks of each group.
        by_columns: ids of the parameters that are stored by columns.
        like: has the type and device of the vectors.
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
    """An objective's parameters as vectors, one per parameter group of an optimizer.

    Between `adopt` and `release` the parameters are views of the vectors.

    Args:
        objective: has the parameters; later changes of which tensors they are have no effect.
        groups: an optimizer's parameter groups.

    Attributes:
        groups: the same groups, each with its vector as its only parameter.
        gradients: of the vectors, after `backward`.
        copies: the copies of the vectors that a step computes with; None if it computes with the parameters. If you
            change the vectors between `adopt` and `release`, write them there too and call `refresh_copies`.
    """

    def __init__(self, objective: nn.Module, groups: Sequence[Mapping[str, Any]]):
        sources = _disjoint(objective.sources(), groups)
        blocks_of_groups = [list(_blocks(group["params"], (sources or {}).values())) for group in groups]
        linear = {id(module.weight) for module in objective.modules() if isinstance(module, nn.Linear)}
        self._blocks = [block for blocks in blocks_of_groups for block in blocks]
        like = self._blocks[0][0].detach().new_empty(0)

        def vectors(like: Tensor) -> _Vectors:
            return _Vectors(blocks_of_groups, linear if sources else set(), like)

        self._values, self._wide = vectors(like), vectors(like)
        self._weights, self.copies = None, None
        if sources:
            computed = like.to(objective.dtype)
            self._copy = vectors(computed)
            self.copies = self._copy.vectors
            # The gradients of a single micro-batch are not summed, so they need no wider type.
            self._narrow = self._wide if computed.dtype == like.dtype else vectors(computed)
            self._scale = objective.query_scale
            self._leaves = [view.detach().requires_grad_() for view in self._copy.views]
            leaf_of = dict(zip(self._blocks, self._leaves, strict=True))
            self._weights = {name: leaf_of[block] for name, block in sources.items()}
        parameters = (nn.Parameter(vector, requires_grad=False) for vector in self._values.vectors)
        self.groups = [{**group, "params": [vector]} for group, vector in zip(groups, parameters, strict=True)]
        self.gradients = self._wide.vectors
        self._original: dict[
            int, list[Tensor]
        ] = {}  # by block, the parameters' data at `adopt`, until it has a gradient

    def _parameters(self) -> Iterator[tuple[int, nn.Parameter, Tensor, Tensor]]:
        """Yield the number of each parameter's block, the parameter, and its views of the values and the wide sums."""
        for i, (block, *views) in enumerate(zip(self._blocks, self._values.views, self._wide.views, strict=True)):
            if len(block) == 1:
                yield i, block[0], *views
                continue
            rows = [len(parameter) for parameter in block]
            for parameter, *parts in zip(block, *(view.split(rows) for view in views), strict=True):
                yield i, parameter, *parts

    def _queries(self, vectors: _Vectors) -> Iterator[Tensor]:
        """Yield the rows of the query in each joined projection."""
        for block, view in zip(self._blocks, vectors.views, strict=True):
            if len(block) > 1:
                yield view[: len(block[0])]

    @torch.no_grad()
    def adopt(self) -> None:
        """Copy the parameters into the vectors and make them views of these."""
        self._original = {i: [parameter.data for parameter in block] for i, block in enumerate(self._blocks)}
        for _, parameter, value, _ in self._parameters():
            parameter.data = value.copy_(parameter)
        self._write_copies()

    def _write_copies(self) -> None:
        if self.copies is not None:
            for copy, vector in zip(self.copies, self._values.vectors, strict=True):
                copy.copy_(vector)
            self.refresh_copies()

    @torch.no_grad()
    def refresh_copies(self) -> None:
        """Turn values just written into `copies` into what the step computes with: scale the rows of the queries."""
        if self.copies is not None and (queries := list(self._queries(self._copy))):
            torch._foreach_mul_(queries, self._scale)

    @torch.no_grad()
    def release(self) -> None:
        """Give the parameters separate memory again.

        A parameter that had no gradient since `adopt` is unchanged, not even decayed. If it had none in some steps
        only, these count as steps with a gradient of zero.
        """
        for _, parameter, value, _ in self._parameters():
            parameter.data = value.clone(memory_format=torch.contiguous_format)
        for i, original in self._original.items():
            for parameter, data in zip(self._blocks[i], original, strict=True):
                parameter.data = data

    def state(self) -> dict[str, Tensor]:
        """Return the vectors, and the original data of parameters that had no gradient yet, by name."""
        values = {f"values.{i}": vector for i, vector in enumerate(self._values.vectors)}
        original = ((f"original.{i}.{j}", x) for i, data in self._original.items() for j, x in enumerate(data))
        return values | dict(original)

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `state` returned, after `adopt`.

        Raises:
            KeyError, RuntimeError: it is the state of other parameters.
        """
        for i, vector in enumerate(self._values.vectors):
            vector.copy_(tensors[f"values.{i}"])
        self._write_copies()
        without_gradient = {int(name.split(".")[1]) for name in tensors if name.startswith("original.")}
        self._original = {
            i: [tensors[f"original.{i}.{j}"] for j in range(len(self._blocks[i]))] for i in without_gradient
        }

    def backward(self, engine: Replicas, parts: Sequence[tuple], *, scale: float, stream: Sequence[int]):
        """Compute the gradient of a step and return what `Replicas.backward` returns."""
        if self._weights is None:
            return self._by_parameters(engine, parts, scale=scale, stream=stream)
        target = self._wide if len(parts) > 1 else self._narrow
        sums = Sums(self._leaves, target.views)
        result = engine.gradients(parts, self._weights, self._leaves, sums, scale=scale, stream=stream)
        for i, total in enumerate(sums.values):
            self._note_gradient(i, target.views[i], total)
        if queries := list(self._queries(target)):
            torch._foreach_mul_(queries, self._scale)
        self.gradients = target.vectors
        return result

    def _by_parameters(self, engine: Replicas, parts: Sequence[tuple], **how):
        """Compute the gradient through the parameters, because prepared weights are more than joined parameters."""
        result = engine.backward(parts, **how)
        for i, parameter, _, view in self._parameters():
            if parameter.grad is not None:
                view.copy_(parameter.grad)
            self._note_gradient(i, view, parameter.grad)
            parameter.grad = None
        return result

    def _note_gradient(self, i: int, view: Tensor, gradient: Tensor | None) -> None:
        """Clear the view of a missing gradient; otherwise forget the original data of block i."""
        if gradient is None:
            view.zero_()
        else:
            self._original.pop(i, None)


def _shape(block: Block) -> tuple[int, ...]:
    first = block[0].shape
    return first if len(block) == 1 else (sum(len(parameter) for parameter in block), *first[1:])


def _disjoint(sources: Mapping[str, Block] | None, groups: Sequence[Mapping[str, Any]]) -> Mapping[str, Block] | None:
    """Return `sources`, or None if a parameter is part of several prepared weights, or of one but of no group."""
    used = [id(parameter) for block in set((sources or {}).values()) for parameter in block]
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    return sources if len(set(used)) == len(used) and trained.issuperset(used) else None


def _blocks(parameters: Iterable[nn.Parameter], joined: Iterable[Block]) -> Iterator[Block]:
    """Yield the parameters in blocks: those that a prepared weight joins, together; each other one alone."""
    block_of = {id(parameter): block for block in joined for parameter in block}
    yielded: set[Block] = set()
    for parameter in parameters:
        block = block_of.get(id(parameter), (parameter,))
        if block not in yielded:
            yielded.add(block)
            yield block


# ---- Word embeddings


class ActiveVocabulary:
    """The rows of a model's word embedding that a training set uses.

    `shrink` replaces the embedding by these rows, `restore` updates the whole one and puts it back. Build the
    optimizer while the model is shrunk.

    Args:
        model: of transformers.
        inputs: token ids of everything that the model reads while it is shrunk.
        decay: AdamW's weight decay of the embedding.

    Attributes:
        embedding: of the model.
        full: its weight with all rows; between `shrink` and `restore`, as it was before.
        small: the rows in use.
        factor: by which the other rows have been decayed since `shrink`.
    """

    def __init__(self, model: nn.Module, inputs: Iterable[Sequence[int]], *, decay: float):
        self.embedding = model.get_input_embeddings()
        self.full = self.embedding.weight
        trained = self.full.requires_grad
        self.decay = decay if trained else 0.0
        used = np.zeros(len(self.full), dtype=bool)
        for ids in inputs:
            used[ids] = True
        # Ids up to that of padding stay unchanged: models compare with it.
        used[: (model.config.pad_token_id or 0) + 1] = True
        self._rows = torch.from_numpy(used.nonzero()[0]).to(self.full.device)
        self._new_id = np.cumsum(used) - 1
        self.small = nn.Parameter(self.full.detach()[self._rows], requires_grad=trained)
        self.factor = 1.0

    def renumbered(self, ids: Sequence[int]) -> np.ndarray:
        """Return the token ids that the shrunk model takes."""
        return self._new_id[ids]

    def shrink(self) -> None:
        """Reduce the embedding to the rows in use."""
        self.embedding.weight = self.small

    def decay_others(self, learning_rate: float) -> None:
        """Decay the rows that are set aside, as AdamW does without a gradient. Call it once per step."""
        self.factor *= 1 - learning_rate * self.decay

    @torch.no_grad()
    def restore(self) -> None:
        """Put back all rows, with the trained ones updated and the others decayed."""
        self.full.mul_(self.factor)
        self.full[self._rows] = self.small
        self.factor = 1.0
        self.embedding.weight = self.full


# ---- AdamW and gradient clipping in one pass over memory.


# Numbers updated at a time: few enough that the cache holds them, their moments and their gradient.
_PIECE = 1 << 20
# A norm is rounded to its tensor's type. The norm of the norms of small pieces is more exact; large pieces are faster.
_PIECE_OF_NORM = _PIECE >> 2


class ClippedAdamW(torch.optim.Optimizer):
    """AdamW on gradients that are first clipped to a norm, piece by piece.

    Args:
        groups: parameter groups of contiguous vectors, with `weight_decay`.
        learning_rate: a schedule may change it.
        max_grad_norm: as for `torch.nn.utils.clip_grad_norm_`.
    """

    def __init__(self, groups: Iterable[Mapping[str, Any]], learning_rate: float, max_grad_norm: float):
        super().__init__(groups, {"lr": learning_rate, "betas": (0.9, 0.999), "eps": 1e-8})
        self.max_grad_norm = max_grad_norm
        for group in self.param_groups:
            for vector in group["params"]:
                moments = {"exp_avg": torch.zeros_like(vector), "exp_avg_sq": torch.zeros_like(vector)}
                self.state[vector] = {"step": torch.zeros((), device=vector.device), **moments}

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], copies: Sequence[Tensor] | None = None) -> None:
        """Update the vectors.

        Args:
            gradients: one per vector, of its shape, in any float type.
            copies: one per vector, overwritten with its new values.
        """
        in_float32 = all(vector.dtype is torch.float32 for vector in self.state)
        compute = _Compiled if in_float32 and copies is not None and compiled.usable(*copies) else _Pieces
        factor = (self.max_grad_norm / (compute.norm(gradients) + 1e-6)).clamp(max=1.0)
        vectors = [(group, vector) for group in self.param_groups for vector in group["params"]]
        for i, ((group, vector), gradient) in enumerate(zip(vectors, gradients, strict=True)):
            copy = None if copies is None else copies[i]
            compute.update(group, vector.detach(), self.state[vector], gradient, factor, copy)


class _Compiled:
    """The update by `compiled.adamw`: gradients and copies in float32 or bfloat16."""

    @staticmethod
    def norm(gradients: Sequence[Tensor]) -> Tensor:
        squares = sum(compiled.call("adamw", "square_sum", gradient) for gradient in gradients)
        return torch.tensor(squares**0.5, dtype=torch.float32)

    @staticmethod
    def update(group, vector: Tensor, state, gradient: Tensor, factor: Tensor, copy: Tensor) -> None:
        state["step"] += 1
        corrections = (1 - beta ** int(state["step"]) for beta in group["betas"])
        numbers = (factor, group["lr"], group["weight_decay"], *group["betas"], *corrections, group["eps"])
        vectors = (vector, state["exp_avg"], state["exp_avg_sq"], gradient, copy)
        compiled.call("adamw", "update", *vectors, *map(np.float32, numbers))


class _Pieces:
    """The update by torch's fused AdamW, in pieces that the cache holds."""

    @staticmethod
    def norm(gradients: Sequence[Tensor]) -> Tensor:
        wide = torch.promote_types(gradients[0].dtype, torch.float32)
        norms = [torch.linalg.vector_norm(piece).to(wide) for g in gradients for piece in g.split(_PIECE_OF_NORM)]
        return torch.linalg.vector_norm(torch.stack(norms))

    @staticmethod
    def update(group, vector: Tensor, state, gradient: Tensor, factor: Tensor, copy: Tensor | None) -> None:
        beta1, beta2 = group["betas"]
        options = {"beta1": beta1, "beta2": beta2, "weight_decay": group["weight_decay"], "eps": group["eps"]}
        options |= {"lr": group["lr"], "fused": True, "amsgrad": False, "maximize": False}
        scratch = vector.new_empty(min(_PIECE, len(vector)))
        vectors = (vector, state["exp_avg"], state["exp_avg_sq"], gradient)
        for weights, mean, square, piece in zip(*(x.split(_PIECE) for x in vectors), strict=True):
            clipped = scratch[: len(piece)].copy_(piece).mul_(factor)
            step = state["step"].clone()  # torch increments it in place
            adamw([weights], [clipped], [mean], [square], [], [step], **options)
        state["step"] += 1
        if copy is not None:
            copy.copy_(vector)
