"""Training steps as the published scripts write them, for comparison.

All of them use transformers' models in fp32 with eager attention (there was no other then), apply the vocabulary head
to every position, and take batches of 24 documents per device in corpus order, padded to the longest document.

The scripts of DistilBioBERT, CompactBioBERT and TinyBioBERT moreover return all hidden states and all attention maps,
pick the masked rows with `masked_select`, and leave both models in train mode; only the student has a graph.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compact_biomed.objectives import IGNORED

DOCUMENTS_PER_DEVICE = 24


def device_batches(batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Cut a padded batch into device batches in its order, each padded to its longest document."""
    parts = []
    for start in range(0, len(batch["labels"]), DOCUMENTS_PER_DEVICE):
        part = {name: tensor[start : start + DOCUMENTS_PER_DEVICE] for name, tensor in batch.items()}
        longest = int(part["attention_mask"].sum(1).max())
        parts.append({name: tensor[:, :longest].contiguous() for name, tensor in part.items()})
    return parts


class PublishedStep:
    """An optimizer step of continual pretraining: forward, backward, clipping and AdamW.

    Args:
        model: a masked-LM of transformers with eager attention.
        learning_rate: of AdamW.
    """

    def __init__(self, model: nn.Module, *, learning_rate: float = 1e-4):
        self.model = model
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.01)

    def __call__(self, batches: Sequence[dict[str, Tensor]]) -> float:
        """Take one optimizer step over the device batches and return their mean loss."""
        self.model.train()
        loss = self.loss(batches, backward=True)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss

    def loss(self, batches: Sequence[dict[str, Tensor]], *, backward: bool = False) -> float:
        """Return the mean loss over all masked tokens of the batches; with `backward`, add up its gradients."""
        masked = [int(batch["labels"].ne(IGNORED).sum()) for batch in batches]
        total = 0.0
        for batch, n in zip(batches, masked, strict=True):
            loss = self.model(**batch).loss * (n / sum(masked))
            if backward:
                loss.backward()
            total += float(loss.detach())
        return total


class PublishedDistillationStep(PublishedStep):
    """An optimizer step of distillation: forward of both models, backward, clipping and AdamW.

    Args:
        recipe: one of `DISTILLATION_RECIPES`; decides the loss.
        student, teacher: masked-LMs of transformers with eager attention.
        projection: TinyBioBERT's map from the student's width to the teacher's.
    """

    def __init__(self, recipe: str, student: nn.Module, teacher: nn.Module, projection: nn.Module | None = None):
        modules = nn.ModuleDict({"student": student, "teacher": teacher.requires_grad_(False)})
        if projection is not None:
            modules["projection"] = projection
        super().__init__(modules, learning_rate=5e-4)
        self.projection = projection
        self.formula = _FORMULAS[recipe]

    def loss(self, batches: Sequence[dict[str, Tensor]], *, backward: bool = False) -> float:
        """Return the unweighted mean of the device batches' losses, as data parallelism computes it."""
        total = 0.0
        for batch in batches:
            loss = self._batch_loss(batch) / len(batches)
            if backward:
                loss.backward()
            total += float(loss.detach())
        return total

    def _batch_loss(self, batch: dict[str, Tensor]) -> Tensor:
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        everything = {"output_hidden_states": True, "output_attentions": True}
        with torch.no_grad():
            teacher = self.model["teacher"](**inputs, **everything)
        student = self.model["student"](**inputs, **everything)
        labels, mask = batch["labels"], batch["attention_mask"].bool()
        chosen = (labels != IGNORED).unsqueeze(-1).expand_as(student.logits)
        rows = SimpleNamespace(
            student=torch.masked_select(student.logits, chosen).view(-1, student.logits.shape[-1]),
            teacher=torch.masked_select(teacher.logits, chosen).view(-1, teacher.logits.shape[-1]),
            mlm=F.cross_entropy(student.logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED),
        )
        return self.formula(student, teacher, rows, mask, self.projection)


# ---- The published losses
# `rows` has the logits of the masked tokens [masked, vocabulary] and the MLM loss.


def _kl(rows: SimpleNamespace, temperature: float) -> Tensor:
    student, teacher = (F.log_softmax(rows.student / temperature, -1), F.softmax(rows.teacher / temperature, -1))
    return F.kl_div(student, teacher, reduction="batchmean") * temperature**2


def _cosine(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    chosen = mask.unsqueeze(-1).expand_as(student)
    s, t = (torch.masked_select(x, chosen).view(-1, x.shape[-1]) for x in (student, teacher))
    return F.cosine_embedding_loss(s, t, torch.ones(len(s), device=s.device))


def _attention_kl(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    chosen = mask[:, None, :, None].expand_as(student)
    s, t = (torch.masked_select(x, chosen).view(-1, x.shape[-1]) + 1e-12 for x in (student, teacher))
    return (t * (t.log() - s.log())).mean()


def _distilbiobert(student, teacher, rows, mask, projection) -> Tensor:
    last = _cosine(student.hidden_states[-1], teacher.hidden_states[-1], mask)
    return 2.0 * rows.mlm + 5.0 * _kl(rows, 2.0) + last


def _compactbiobert(student, teacher, rows, mask, projection) -> Tensor:
    maps = zip(student.attentions, teacher.attentions[1::2], strict=True)
    states = zip(student.hidden_states[1:], teacher.hidden_states[2::2], strict=True)
    layers = sum(_attention_kl(s, t, mask) for s, t in maps) + sum(_cosine(s, t, mask) for s, t in states)
    return rows.mlm + 3.0 * layers + 5.0 * _kl(rows, 1.0)


def _tinybiobert(student, teacher, rows, mask, projection) -> Tensor:
    block = len(teacher.attentions) // len(student.attentions)
    maps = zip(student.attentions, teacher.attentions[block - 1 :: block], strict=True)
    states = zip(student.hidden_states, teacher.hidden_states[::block], strict=True)
    layers = sum(F.mse_loss(s, t) for s, t in maps) + sum(F.mse_loss(projection(s), t) for s, t in states)
    return layers - (F.softmax(rows.teacher, -1) * F.log_softmax(rows.student, -1)).sum(-1).mean()


_FORMULAS: dict[str, Callable[..., Tensor]] = {
    "distilbiobert": _distilbiobert,
    "compactbiobert": _compactbiobert,
    "tinybiobert": _tinybiobert,
}
DISTILLATION_RECIPES = tuple(_FORMULAS)
