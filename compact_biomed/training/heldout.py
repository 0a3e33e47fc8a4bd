"""The held-out test: how well a masked-LM predicts documents that it has not seen.

Three numbers, each on the same held-out tokens for every model:

* MLM loss (nats per token) and accuracy on masks that are fixed by the documents' keys;
* pseudo-perplexity (Salazar et al. 2020, equation 4): one token masked at a time, the rest
  of the document visible, estimated on a fixed random sample of positions;
* the same loss and accuracy of the unigram baseline, which knows word frequencies and
  nothing else. A model that is not clearly below it has learned nothing more.

A student whose loss never reads its vocabulary head does not learn to predict words. Of it, the terms of its loss are
measured instead: how far its hidden layers are from the teacher's on these documents.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor, nn

from compact_biomed.console import progress
from compact_biomed.engine.kernels import cross_entropy
from compact_biomed.engine.microbatch import split
from compact_biomed.errors import UserError
from compact_biomed.objectives import IGNORED
from compact_biomed.objectives.losses import soft_kl
from compact_biomed.objectives.mlm import MaskedLM, Masking, hashed_uniform
from compact_biomed.training.data import Collator, Documents

# Seed and share are fixed: the masks belong to the test, not to the run, so that runs of any mask rate can be compared.
HELDOUT_SEED, HELDOUT_PROBABILITY = 2209_03182, 0.15
_TOKENS_AT_ONCE = 4096


def unigram_log_probabilities(counts: np.ndarray) -> np.ndarray:
    """Return log-frequencies of the training text, float32 [vocabulary], one count added to each entry."""
    smoothed = counts.astype(np.float64) + 1
    return np.log(smoothed / smoothed.sum()).astype(np.float32)


class HeldoutTest:
    """The held-out documents with their masks, ready to measure models on.

    Args:
        documents: the held-out split.
        masking: the rule; its seed and its probability are replaced by fixed ones.
        pad_id: id of [PAD].
        unigram: int64 [vocabulary], counts in the training split.
        max_documents: take that many, evenly spaced over the corpus; all if None.
        pseudo_positions: sample size of the pseudo-perplexity; 0 leaves it out.
        widest: longest input of the model, None = no limit.
    """

    def __init__(
        self,
        documents: "datasets.Dataset",
        masking: Masking,
        pad_id: int,
        unigram: np.ndarray,
        *,
        max_documents: int | None = None,
        pseudo_positions: int = 512,
        widest: int | None = None,
    ):
        n = len(documents) if max_documents is None else min(max_documents, len(documents))
        # Evenly spaced: the corpus is sorted by year.
        chosen = np.linspace(0, len(documents) - 1, n).round().astype(int)
        fixed = replace(masking, seed=HELDOUT_SEED, probability=HELDOUT_PROBABILITY)
        self.masking, self.n_documents = fixed, n
        self._limit = "--heldout-documents" if n < len(documents) else "--heldout-fraction"
        self._rows = Documents(documents).__getitems__([(0, int(i)) for i in chosen])
        longest = max((len(ids) for ids, _, _ in self._rows), default=0)
        self._collate = Collator(fixed, pad_id, longest, widest)
        # Terms of a loss that predicts no word are measured on text that is masked as in training, or not at all.
        as_trained = replace(fixed, probability=masking.probability)
        self._collate_as_trained = Collator(as_trained, pad_id, longest, widest)
        self._log_unigram = unigram_log_probabilities(unigram)
        self._pseudo = self._sample(pseudo_positions)

    def require_masked_tokens(self, where: object) -> None:
        """Check, before any training, that there is something to predict.

        Args:
            where: the sources of the documents, for the message.

        Raises:
            UserError: no token of the documents is masked, so a loss would be the mean of nothing.
        """
        if any(bool((batch["labels"] != IGNORED).any()) for batch in self._batches()):
            return
        tokens, n = sum(len(ids) for ids, _, _ in self._rows), self.n_documents
        raise UserError(
            f"too little text is held out to measure a model on: no token is masked in {n} document{'s' * (n != 1)} "
            f"of {tokens} tokens",
            where=where,
            remedy=f"raise {self._limit}, or add text",
        )

    def _sample(self, n: int) -> list[tuple[np.ndarray, int]]:
        """Return (ids, position) pairs: ordinary tokens with the smallest hashes of all held-out tokens."""
        scores, positions = [], []
        for row, (ids, key, _) in enumerate(self._rows):
            hashes = hashed_uniform(np.uint64(key), np.arange(len(ids)), HELDOUT_SEED, 3)
            ordinary = np.flatnonzero(~np.isin(ids, self.masking.special_ids))
            scores.append(hashes[ordinary])
            positions.extend((row, int(position)) for position in ordinary)
        best = np.argsort(np.concatenate(scores), kind="stable")[:n] if positions else []
        return [(self._rows[positions[i][0]][0], positions[i][1]) for i in best]

    def baseline(self) -> dict[str, float]:
        """Return loss and accuracy of the unigram distribution, on the same masked tokens."""
        loss = correct = n = 0.0
        most_frequent = int(self._log_unigram.argmax())
        for batch in self._batches():
            targets = batch["labels"][batch["labels"] != IGNORED].numpy()
            loss -= float(self._log_unigram[targets].astype(np.float64).sum())
            correct += int((targets == most_frequent).sum())
            n += len(targets)
        return {"loss": loss / max(n, 1), "accuracy": correct / max(n, 1), "masked_tokens": int(n)}

    @torch.no_grad()
    def measure(self, objective: nn.Module, *, description: str = "held-out") -> dict[str, Any]:
        """Measure loss (nats per masked token), accuracy, pseudo-perplexity, and the counts behind them.

        For a student, measure also its KL divergence from the teacher on the masked tokens, in nats. If no term of its
        loss reads the logits, measure only the terms: their means, unweighted, and the weighted sum.

        Args:
            objective: `MaskedLM` or `Distillation`.
        """
        if not objective.reads_logits:
            return self._terms(objective, description)
        training, masked_lm = objective.training, objective.masked_lm
        objective.eval()
        device = next(objective.parameters()).device
        kl, teaches = 0.0, hasattr(objective, "teacher_logits")

        def logits_of(ids: Tensor, mask: Tensor | None, scored: Tensor) -> Tensor:
            nonlocal kl
            logits = masked_lm.logits(ids, mask, scored)
            if teaches:
                kl += float(soft_kl(logits, objective.teacher_logits(ids, mask, scored), reduction="sum"))
            return logits

        result = self._score(logits_of, device, description)
        pseudo = self._pseudo_loss(masked_lm, device)
        objective.train(training)
        if self._pseudo:
            result |= {"pseudo_perplexity": math.exp(pseudo), "pseudo_tokens": len(self._pseudo)}
        if teaches:
            result["kl_to_teacher"] = kl / max(result["masked_tokens"], 1)
        return result | {"documents": self.n_documents}

    def _terms(self, objective: nn.Module, description: str) -> dict[str, Any]:
        """Measure the terms of a distillation, without dropout."""
        training, device = objective.training, next(objective.parameters()).device
        objective.eval()
        sums, counts = dict.fromkeys((term.name for term in objective.terms), 0.0), 0
        with progress(total=self.n_documents, desc=description, unit=" documents", leave=False) as bar:
            for batch in self._batches(self._collate_as_trained):
                counts = counts + objective.counts(batch)
                for part in split(**batch, tokens=_TOKENS_AT_ONCE, keep_width=objective.keep_padding):
                    values = objective.values(*(None if x is None else x.to(device) for x in part))
                    sums = {name: total + float(values[name]) for name, total in sums.items()}
                bar.update(len(batch["labels"]))
        objective.train(training)
        divisors = torch.as_tensor(counts).clamp(min=1).tolist()
        means = {name: total / n for (name, total), n in zip(sums.items(), divisors, strict=True)}
        weighted = sum(term.weight * means[term.name] for term in objective.terms)
        return {"distillation_loss": weighted, "terms": means, "documents": self.n_documents}

    @torch.no_grad()
    def measure_teacher(self, objective: nn.Module) -> dict[str, float]:
        """Measure loss and accuracy of a distillation's teacher on the same masked tokens."""
        return self._score(objective.teacher_logits, next(objective.parameters()).device, "the teacher")

    def _score(self, logits_of: Callable[..., Tensor], device: torch.device, description: str) -> dict[str, float]:
        """Measure loss and accuracy of a function (ids, mask, scored) -> logits [rows, vocabulary]."""
        loss = correct = n = 0.0
        with progress(total=self.n_documents, desc=description, unit=" documents", leave=False) as bar:
            for batch in self._batches():
                for part in split(**batch, tokens=_TOKENS_AT_ONCE):
                    ids, mask, labels = (None if x is None else x.to(device) for x in part)
                    scored = labels != IGNORED
                    targets = labels[scored]
                    part_loss, part_correct = cross_entropy(logits_of(ids, mask, scored), targets)
                    loss, correct, n = loss + float(part_loss), correct + int(part_correct), n + len(targets)
                bar.update(len(batch["labels"]))
        return {"loss": loss / max(n, 1), "accuracy": correct / max(n, 1), "masked_tokens": int(n)}

    def _pseudo_loss(self, objective: MaskedLM, device: torch.device) -> float:
        total = 0.0
        ordered = sorted(self._pseudo, key=lambda pair: len(pair[0]))
        at_once = 16
        for start in range(0, len(ordered), at_once):
            chosen = ordered[start : start + at_once]
            width = max(len(ids) for ids, _ in chosen)
            ids = torch.full((len(chosen), width), self._collate.pad_id)
            labels = torch.full_like(ids, IGNORED)
            mask = torch.zeros_like(ids)
            for row, (document, position) in enumerate(chosen):
                ids[row, : len(document)] = torch.from_numpy(document.astype(np.int64))
                labels[row, position] = ids[row, position]
                ids[row, position] = self.masking.mask_id
                mask[row, : len(document)] = 1
            total += float(objective(ids.to(device), mask.to(device), labels.to(device)).loss_sum)
        return total / max(len(self._pseudo), 1)

    def _batches(self, collate: Collator | None = None):
        for start in range(0, len(self._rows), 64):
            yield (collate or self._collate)(self._rows[start : start + 64])
