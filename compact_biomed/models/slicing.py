"""Narrower students that start from a wider model: its most important parts, fitted to what the whole computes.

The published compact models start from general ones of their own size. Where no such model exists, a student is sliced
out of a larger one. `sliced_student` keeps the same hidden units everywhere (residual connections require it), the
most important heads and feed-forward units of each layer, and in each head the directions that matter most to scores
and to values. Then it goes up layer by layer. Each linear map is fitted by ridge regression, from the states that the
student has there, to the outputs that the source has there, with the sliced weights as the prior mean. Each LayerNorm
is rescaled so that every unit keeps its mean and its standard deviation. If nothing is left out, the prior is exact,
and the student computes what the source computes.

The statistics need some text, and no labels.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM
from transformers.activations import ACT2FN

from compact_biomed.errors import UserError
from compact_biomed.models.layer_outputs import BertLayer, LayerOutputs, Text, attend, embedded, layer_outputs
from compact_biomed.models.students import check_heads, check_vocabularies

# Strength of the prior: the ridge is this share of the inputs' mean variance.
RIDGE = 0.03
_TINY = 1e-6  # relative to the mean variance: keeps a Cholesky factor of dead directions finite


@torch.no_grad()
def sliced_student(source: nn.Module, config, text: Text, *, layers: Sequence[int]) -> nn.Module:
    """Build a student that starts from parts of a wider or deeper masked-LM.

    Args:
        source: `BertForMaskedLM`, float32; it is not changed.
        config: the student's, no larger than the source in any size.
        text: for the statistics; at least as many tokens as the student has hidden units.
        layers: source layer of each student layer, ascending (`layer_maps.layer_map`).

    Returns:
        The student, float32, without random parts: equal arguments give equal weights.

    Raises:
        UserError: sizes or architectures that do not fit; the message names what fits.
    """
    check_sizes(config, source.config)
    _check_layers(layers, config, source.config)
    if (n_tokens := int(text.mask.sum())) < config.hidden_size:
        raise UserError(
            f"{n_tokens} tokens are too few for the statistics of {config.hidden_size} hidden units",
            remedy="use more or longer documents",
        )
    student = AutoModelForMaskedLM.from_config(config, dtype=torch.float32)
    _Slicer(source, student, text, layers).run()
    return student


class _Slicer:
    """One slicing: source and student side by side on the same text, from the embeddings up."""

    def __init__(self, source: nn.Module, student: nn.Module, text: Text, layers: Sequence[int]):
        self.source, self.student, self.text, self.layers = source, student, text, layers
        self.eps = source.config.layer_norm_eps
        self.act = ACT2FN[source.config.hidden_act]
        self.kept = important_units(source, text, student.config.hidden_size)

    def run(self) -> None:
        theirs, ours = self._embeddings()
        done = 0
        for i, layer in enumerate(self.layers):
            theirs, ours = self._layer(i, layer, self._through(range(done, layer), theirs), ours)
            done = layer + 1
        self._head(self._through(range(done, self.source.config.num_hidden_layers), theirs), ours)

    def _through(self, layers: range, state: Tensor) -> Tensor:
        """Return the source's state behind some of its layers, which the student does not have."""
        for number in layers:
            state = layer_outputs(BertLayer.of(self.source, number), state, self.text.mask, self.act).state
        return state

    def _embeddings(self) -> tuple[Tensor, Tensor]:
        """Slice the embeddings; return the states behind them, of source and student."""
        theirs, ours = self.source.bert.embeddings, self.student.bert.embeddings
        for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
            table = getattr(ours, name).weight
            table.copy_(getattr(theirs, name).weight[: len(table), self.kept])

        state = theirs.LayerNorm(embedded(theirs, self.text.input_ids))
        return state, self._norm(ours.LayerNorm, theirs.LayerNorm, embedded(ours, self.text.input_ids), state)

    def _layer(self, i: int, layer: int, theirs: Tensor, ours: Tensor) -> tuple[Tensor, Tensor]:
        """Slice a layer into the student's layer i; return the states behind it, of source and student."""
        of, to = BertLayer.of(self.source, layer), BertLayer.of(self.student, i)
        out = layer_outputs(of, theirs, self.text.mask, self.act)
        return out.state, self._feed_forward(of, to, out, self._attention(of, to, out, ours))

    def _attention(self, of: BertLayer, to: BertLayer, out: LayerOutputs, ours: Tensor) -> Tensor:
        """Slice the attention of a layer; return the student's state behind its LayerNorm."""
        heads = self._heads(of, to, out)
        for name, mix in (("q", heads.queries), ("k", heads.keys), ("v", heads.values)):
            linear, target = getattr(of, name), getattr(out, name)
            prior = (mix.T @ linear.weight)[:, self.kept], linear.bias @ mix
            self._fit(getattr(to, name), prior, ours, target @ mix)
        context = attend(*(getattr(to, name)(ours) for name in "qkv"), self.text.mask, to.heads)
        weight, bias = of.attention_output.weight, of.attention_output.bias
        mean = self._real(out.context).mean(0)
        lost = mean - mean @ heads.values @ heads.restored  # of the mean context, which the bias can carry
        prior = (weight @ heads.restored.T)[self.kept], (bias + weight @ lost)[self.kept]
        self._fit(to.attention_output, prior, context, out.attended[..., self.kept])
        return self._norm(to.attention_norm, of.attention_norm, to.attention_output(context) + ours, out.middle)

    def _feed_forward(self, of: BertLayer, to: BertLayer, out: LayerOutputs, ours: Tensor) -> Tensor:
        """Slice the feed-forward network of a layer; return the student's state behind its LayerNorm."""
        activation = self._real(self.act(out.inner))
        effect = activation.var(0) * of.outer.weight[self.kept].square().sum(0)
        units = _best(effect, to.inner.out_features)
        prior = of.inner.weight[units][:, self.kept], of.inner.bias[units]
        self._fit(to.inner, prior, ours, out.inner[..., units])
        inner = self.act(to.inner(ours))
        mean = activation.mean(0)
        mean[units] = 0  # what remains is the mean of what is left out, which the bias can carry
        prior = of.outer.weight[self.kept][:, units], (of.outer.bias + of.outer.weight @ mean)[self.kept]
        self._fit(to.outer, prior, inner, out.outer[..., self.kept])
        return self._norm(to.output_norm, of.output_norm, to.outer(inner) + ours, out.state)

    def _head(self, theirs: Tensor, ours: Tensor) -> None:
        """Slice the vocabulary head; its decoder is tied to the word embeddings."""
        of, to = self.source.cls.predictions, self.student.cls.predictions
        dense = of.transform.dense
        prior = dense.weight[self.kept][:, self.kept], dense.bias[self.kept]
        target = dense(theirs)
        self._fit(to.transform.dense, prior, ours, target[..., self.kept])
        total = self.act(to.transform.dense(ours))
        self._norm(to.transform.LayerNorm, of.transform.LayerNorm, total, of.transform.LayerNorm(self.act(target)))
        to.decoder.bias.copy_(of.decoder.bias)

    def _heads(self, of: BertLayer, to: BertLayer, out: LayerOutputs) -> "_Heads":
        """Choose the heads, and in each the directions that matter most to its scores and to its values."""
        width, narrow = of.q.out_features // of.heads, to.q.out_features // to.heads
        split = [self._real(x).view(-1, of.heads, width).transpose(0, 1) for x in (out.q, out.k, out.context)]
        # A constant key shifts all scores of a query, and a constant context is a bias: neither needs a direction.
        q, k, context = split[0], _centered(split[1]), _centered(split[2])
        writes = of.attention_output.weight.view(-1, of.heads, width).permute(1, 2, 0)  # [heads, width, hidden]
        chosen = _best((context @ writes).square().mean(1).sum(-1), to.heads)
        mixes = [
            torch.zeros(of.heads * width, to.heads * narrow, dtype=torch.float64) for _ in range(4)
        ]  # queries, keys, values, restored^T
        # Scores are divided by sqrt(head width), which is smaller now.
        temperature = (narrow / width) ** 0.25
        for new, old in enumerate(chosen.tolist()):
            rows, columns = slice(old * width, (old + 1) * width), slice(new * narrow, (new + 1) * narrow)
            left, right = _score_directions(q[old], k[old], narrow)
            down, up = _value_directions(context[old], writes[old][:, self.kept], narrow)
            for mix, block in zip(mixes, (left * temperature, right * temperature, down, up.T), strict=True):
                mix[rows, columns] = block
        queries, keys, values, restored = (mix.float() for mix in mixes)
        return _Heads(queries, keys, values, restored.T)

    def _fit(self, linear: nn.Linear, prior: tuple[Tensor, Tensor], x: Tensor, target: Tensor) -> None:
        """Set a linear map to the ridge regression of `target` on x [documents, length, width] around the prior."""
        x, (weight, bias) = self._real(x), prior
        residual = self._real(target) - F.linear(x, weight, bias)
        mean_x, mean_residual = x.mean(0), residual.mean(0)
        x, residual = x - mean_x, residual - mean_residual
        gram = (x.T @ x).double()
        gram.diagonal().add_(RIDGE * gram.diagonal().mean())
        change = torch.linalg.solve(gram, (x.T @ residual).double()).float().T
        linear.weight.copy_(weight + change)
        linear.bias.copy_(bias + mean_residual - change @ mean_x)

    def _norm(self, ours: nn.LayerNorm, theirs: nn.LayerNorm, x: Tensor, target: Tensor) -> Tensor:
        """Rescale a LayerNorm so that each unit of its output has the mean and deviation of the source's; apply it."""
        normalized = self._real(F.layer_norm(x, x.shape[-1:], eps=self.eps)).double()
        target = self._real(target)[:, self.kept].double()
        deviation, wanted = normalized.std(0), target.std(0)
        scale = theirs.weight[self.kept].double()
        dead = (deviation < _TINY) | (wanted < _TINY)
        scale = torch.where(dead, scale, scale.sign() * wanted / deviation.clamp(min=_TINY))
        ours.weight.copy_(scale)
        ours.bias.copy_(target.mean(0) - scale * normalized.mean(0))
        return ours(x)

    def _real(self, x: Tensor) -> Tensor:
        """Return the states of real tokens, [tokens, width]."""
        return x[self.text.mask]


class _Heads(NamedTuple):
    """Maps from all heads of a layer, [width, narrow width], to those that are kept."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    restored: Tensor  # [narrow width, width], from the kept directions of the context back to all


def _best(scores: Tensor, n: int) -> Tensor:
    """Return the numbers of the n highest scores, ascending; of equal scores the first."""
    return torch.sort(scores, descending=True, stable=True).indices[:n].sort().values


def _centered(x: Tensor) -> Tensor:
    return x - x.mean(-2, keepdim=True)


def _root(x: Tensor) -> Tensor:
    """Return a lower triangular L with L L^T = the second moments of x [tokens, width]; it can be inverted."""
    x = x.double()
    moments = x.T @ x / len(x)
    moments.diagonal().add_(_TINY * moments.diagonal().mean().clamp(min=_TINY))
    return torch.linalg.cholesky(moments)


def _score_directions(q: Tensor, k: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return A and B, [width, n], for which (q A) (k B)^T is nearest to q k^T in the mean over pairs of tokens."""
    of_q, of_k = _root(q), _root(k)
    left, values, right = torch.linalg.svd(of_q.T @ of_k)
    roots = values[:n].sqrt()
    a = torch.linalg.solve_triangular(of_q.T, left[:, :n] * roots, upper=True)
    b = torch.linalg.solve_triangular(of_k.T, right[:n].T * roots, upper=True)
    return a, b


def _value_directions(context: Tensor, writes: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return A [width, n] and B [n, width] for which context A B writes is nearest to context writes."""
    root = _root(context)
    left = torch.linalg.svd(root.T @ writes.double(), full_matrices=writes.shape[1] < len(root)).U
    a = torch.linalg.solve_triangular(root.T, left[:, :n], upper=True)
    return a, left[:, :n].T @ root.T


@torch.no_grad()
def important_units(source: nn.Module, text: Text, n: int) -> Tensor:
    """Choose hidden units, the same for all layers: each time the one that the chosen ones predict worst.

    That is a pivoted Cholesky decomposition of the covariance of the states that layers and feed-forward networks read,
    each state with equal weight. Of two units that say the same, one is left out before any that says something else.

    Args:
        source: `BertForMaskedLM`.
        text: for the statistics.
        n: number of units.

    Returns:
        Their numbers, int64 [n], ascending.
    """
    activation = ACT2FN[source.config.hidden_act]
    state = source.bert.embeddings.LayerNorm(embedded(source.bert.embeddings, text.input_ids))
    covariance = torch.zeros(2 * (source.config.hidden_size,), dtype=torch.float64)
    for number in range(source.config.num_hidden_layers):
        out = layer_outputs(BertLayer.of(source, number), state, text.mask, activation)
        for read in (state, out.middle):
            of_state = read[text.mask].T.cov().double()
            covariance += of_state / of_state.trace()
        state = out.state
    chosen: list[int] = []
    for _ in range(n):
        unexplained = covariance.diagonal().clone()
        unexplained[chosen] = -1
        unit = int(unexplained.argmax())
        chosen.append(unit)
        column = covariance[:, unit]
        covariance = covariance - torch.outer(column, column) / column[unit].clamp(min=torch.finfo(column.dtype).tiny)
    return torch.tensor(sorted(chosen))


def check_sizes(config, source) -> None:
    """Raise a `UserError` unless a student of this configuration can be sliced out of the source."""
    if (config.model_type, source.model_type) != ("bert", "bert"):
        raise UserError(
            f"a {config.model_type} cannot be sliced out of a {source.model_type}",
            remedy="slice a BERT out of a BERT, or start from other weights",
        )
    check_heads(config)
    check_vocabularies(config, source)
    if config.hidden_act != source.hidden_act:
        raise UserError(
            f"activation: {config.hidden_act} in the student, {source.hidden_act} in the source",
            remedy="give the student the source's",
        )
    for size, ours, theirs in (
        ("hidden units", config.hidden_size, source.hidden_size),
        ("attention heads", config.num_attention_heads, source.num_attention_heads),
        ("units per head", *(c.hidden_size // c.num_attention_heads for c in (config, source))),
        ("feed-forward units", config.intermediate_size, source.intermediate_size),
        ("positions", config.max_position_embeddings, source.max_position_embeddings),
    ):
        if ours > theirs:
            raise UserError(f"{ours} {size} cannot be sliced out of {theirs}", remedy=f"at most {theirs}")


def _check_layers(layers: Sequence[int], config, source) -> None:
    ascending = all(a < b for a, b in pairwise(layers))
    if (
        len(layers) != config.num_hidden_layers
        or not ascending
        or not all(0 <= n < source.num_hidden_layers for n in layers)
    ):
        raise UserError(
            f"source layers {', '.join(map(str, layers))} for a student of {config.num_hidden_layers}",
            remedy=f"name one layer of 0 to {source.num_hidden_layers - 1} for each, in ascending order",
        )
