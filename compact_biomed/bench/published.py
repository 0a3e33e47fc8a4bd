"""A step of continual pretraining as the published scripts write it, for comparison.

Published scripts: transformers' model in fp32, eager attention (there was no other then),
the vocabulary head on every position, batches of 24 documents a device in the order in
which they come, padded to the longest.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compact_biomed.objectives import IGNORED

DOCUMENTS_A_DEVICE = 24


class PublishedStep:
    """Forward, backward, clipping and AdamW on one batch.

    Args:
        model: a masked-LM of transformers with eager attention.
        learning_rate: of AdamW.
    """

    def __init__(self, model: nn.Module, *, learning_rate: float = 1e-4):
        self.model = model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)

    def __call__(self, batches: Sequence[dict[str, Tensor]]) -> float:
        """One optimizer step over the device batches; returns their mean loss."""
        self.model.train()
        loss = self.losses(batches, backward=True)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss

    def losses(self, batches: Sequence[dict[str, Tensor]], *, backward: bool = False) -> float:
        """Mean loss over all masked tokens of the batches."""
        n = sum(int(batch["labels"].ne(-100).sum()) for batch in batches)
        total = 0.0
        for batch in batches:
            share = int(batch["labels"].ne(-100).sum()) / n
            loss = self.model(**batch).loss * share
            if backward:
                loss.backward()
            total += float(loss.detach())
        return total


def device_batches(batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Cut a padded batch into device batches as they come, each padded to its longest document."""
    parts = []
    for start in range(0, len(batch["labels"]), DOCUMENTS_A_DEVICE):
        part = {name: tensor[start : start + DOCUMENTS_A_DEVICE] for name, tensor in batch.items()}
        longest = int(part["attention_mask"].sum(1).max())
        parts.append({name: tensor[:, :longest].contiguous() for name, tensor in part.items()})
    return parts


# ----------------------------------------------------------------------------------------------------
# A step of distillation as the published scripts write it, for comparison.
#
# Published scripts of DistilBioBERT, CompactBioBERT and TinyBioBERT: both models in fp32 with
# eager attention, all hidden states and all attention maps asked for, vocabulary heads on every
# position, the masked rows picked by `masked_select`; both in train mode, the teacher without a graph.


class PublishedDistillationStep(PublishedStep):
    """Forward, backward, clipping and AdamW on one batch.

    Args:
        name: of the recipe.
        student, teacher: masked-LMs of transformers with eager attention.
        projection: TinyBioBERT's map from the student's width to the teacher's.
    """

    def __init__(self, name: str, student: nn.Module, teacher: nn.Module, projection: nn.Module | None = None):
        self.wrapper = nn.ModuleDict({"student": student, "teacher": teacher.requires_grad_(False)})
        if projection is not None:
            self.wrapper["projection"] = projection
        super().__init__(self.wrapper)
        self.optimizer = torch.optim.AdamW([p for p in self.wrapper.parameters() if p.requires_grad], lr=5e-4)
        self.formula = _FORMULAS[name]

    def losses(self, batches: Sequence[dict[str, Tensor]], *, backward: bool = False) -> float:
        """The mean loss of the device batches, as data parallelism averages them."""
        total = 0.0
        for batch in batches:
            loss = self._loss(batch) / len(batches)
            if backward:
                loss.backward()
            total += float(loss.detach())
        return total

    def _loss(self, batch: dict[str, Tensor]) -> Tensor:
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        everything = {"output_hidden_states": True, "output_attentions": True}
        with torch.no_grad():
            teacher = self.wrapper["teacher"](**inputs, **everything)
        student = self.wrapper["student"](**inputs, **everything)
        labels, mask = batch["labels"], batch["attention_mask"].bool()
        chosen = (labels != IGNORED).unsqueeze(-1).expand_as(student.logits)
        rows = SimpleNamespace(
            student=torch.masked_select(student.logits, chosen).view(-1, student.logits.shape[-1]),
            teacher=torch.masked_select(teacher.logits, chosen).view(-1, teacher.logits.shape[-1]),
            mlm=F.cross_entropy(student.logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED),
        )
        projection = self.wrapper["projection"] if "projection" in self.wrapper else None
        return self.formula(student, teacher, rows, mask, projection)


def _kl(rows: SimpleNamespace, temperature: float) -> Tensor:
    student, teacher = (F.log_softmax(rows.student / temperature, -1), F.softmax(rows.teacher / temperature, -1))
    return F.kl_div(student, teacher, reduction="batchmean") * temperature**2


def _cosine(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    chosen = mask.unsqueeze(-1).expand_as(student)
    s, t = (torch.masked_select(x, chosen).view(-1, x.shape[-1]) for x in (student, teacher))
    return F.cosine_embedding_loss(s, t, torch.ones(len(s)))


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
DISTILLED = tuple(_FORMULAS)
