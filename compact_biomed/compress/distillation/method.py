"""Learning from a teacher, as `evaluation.finetune.Method` asks for it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from compact_biomed.compress.distillation.teacher import Teacher, taught_features
from compact_biomed.compress.distillation.terms import HARD_LOSS, Transfer, task_terms
from compact_biomed.compress.distillation.text import Unlabelled, as_examples
from compact_biomed.compress.distillation.transfer import LayerTeacher, LayerTransfer, TeacherInputs
from compact_biomed.console import say
from compact_biomed.engine.plan import ComputePlan
from compact_biomed.engine.taps import NO_TAPS
from compact_biomed.evaluation.finetune import Assignment, Method
from compact_biomed.evaluation.learner import Feature, Learner, padded
from compact_biomed.objectives import evaluate
from compact_biomed.objectives.task import TaskBatch, TaskObjective, TaskOutput
from compact_biomed.objectives.terms import Term

# ----------------------------------------------------------------------------------------------------
# A task model with two losses, on hard and on soft labels, in the form that `Replicas` computes.


_NO_TOKEN = -1e9  # a logit whose probability is 0 at any temperature, finite as the losses want it


class TaughtBatch(NamedTuple):
    """A `TaskBatch` with soft labels."""

    input_ids: Tensor  # [batch, length]
    attention_mask: Tensor | None  # [batch, length]; None where nothing is padding
    token_type_ids: Tensor | None  # [batch, length]; None where all are of type 0
    targets: Tensor  # as of `TaskBatch`; of unlabelled inputs they are not read
    labelled: Tensor  # [batch], bool
    taught: Tensor  # [batch, length], bool: the positions whose logits have soft labels
    soft: Tensor  # the teacher's logits of these positions, [rows, outputs]
    theirs: TeacherInputs | None = None  # where layers are compared


class TaughtObjective(TaskObjective):
    """A student with the terms of its loss.

    Args:
        model, head, dtype, fast: as for `TaskObjective`.
        wanted: the terms on logits, `HARD_LOSS` and one on soft labels, or one of them.
        transfer: the terms on layers, if any.
    """

    def __init__(
        self,
        model: nn.Module,
        head: str,
        *,
        wanted: Sequence[Term],
        transfer: LayerTransfer | None = None,
        dtype: torch.dtype = torch.float32,
        fast: bool = True,
    ):
        super().__init__(model, head, dtype=dtype, fast=fast)
        self.terms, self.transfer = tuple(wanted), transfer
        if transfer is not None:
            weight = next(model.parameters())
            transfer.to(weight.device, weight.dtype)
            transfer.teacher.to(weight.device)

    def prepare(self) -> dict[str, Tensor]:
        """The weights of the model, and of the projections."""
        return super().prepare() | (self.transfer.prepared() if self.transfer is not None else {})

    def sources(self) -> dict[str, tuple[nn.Parameter, ...]] | None:
        found = super().sources()
        if found is None or self.transfer is None:
            return found
        return found | {name: (parameter,) for name, parameter in self.transfer.prepared().items()}

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        targets: Tensor,
        labelled: Tensor,
        taught: Tensor,
        soft: Tensor,
        theirs: TeacherInputs | None = None,
        *,
        prepared: Mapping[str, Tensor] | None = None,
    ) -> TaskOutput:
        """The summed loss of a `TaughtBatch`: the weighted sum of its terms' sums."""
        seen = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        hard = self.head.loss_positions(seen, targets) & labelled[:, None]
        wanted = hard | taught
        taps = self.transfer.taps if self.transfer is not None else NO_TAPS
        if self.fast and prepared is None:
            prepared = self.cast(self.prepare())
        inputs = (input_ids, attention_mask, token_type_ids)
        logits, ours = self.with_taps(*inputs, wanted, taps, prepared=prepared)
        sums = []
        for term in self.terms:
            if term.loss != HARD_LOSS:
                sums.append(term.weight * self._soft_loss(term, logits[taught[wanted]], soft, taught))
            elif labelled.any():
                loss, _ = self.head.loss(logits[hard[wanted]], targets[labelled], hard[labelled])
                sums.append(term.weight * loss)
        if self.transfer is not None:
            sums.append(self.transfer.loss_sum(ours, theirs, attention_mask, prepared))
        total = torch.stack(sums).sum() if sums else logits.sum() * 0
        return TaskOutput(total, len(logits) if self.head.family == "token" else len(labelled))

    def _soft_loss(self, term: Term, student: Tensor, teacher: Tensor, taught: Tensor) -> Tensor:
        """The sum over tokens, or documents."""
        share = 1.0
        if self.head.family == "span":  # a softmax over the tokens of a document; the mean of start and end
            student, teacher, share = by_end(student, taught), by_end(teacher, taught), 0.5
        outputs = {"logits": student}, {"logits": teacher}
        return share * evaluate.evaluate([term], *outputs, taught, reduction="sum")[term.name]


def by_end(logits: Tensor, wanted: Tensor) -> Tensor:
    """Logits [rows, 2] of the wanted positions [batch, length] -> [2 * batch, length], start and end in turn."""
    scores = logits.new_full((*wanted.shape, 2), _NO_TOKEN)
    scores[wanted] = logits
    return scores.transpose(1, 2).flatten(0, 1)


# ----------------------------------------------------------------------------------------------------
# A learner whose examples carry soft labels.


class TaughtLearner(Learner):
    """Trains a student on the features that `soft_labels` makes.

    The loss of a step is the sum of its terms on logits over all rows divided by their number, those without a hard
    label counted: the more unlabelled text, the less the hard labels weigh. Terms on layers are means over its tokens.

    Args:
        model, head, machine: as for `Learner`.
        terms: of the loss.
        teacher: what the terms on layers compare with; None = there are none.
    """

    def __init__(
        self, model, head: str, machine: ComputePlan, terms: Sequence[Term], teacher: LayerTeacher | None = None
    ):
        on_layers = [term for term in terms if term.feature != "logits"]
        heads = model.config.num_attention_heads
        self.transfer = LayerTransfer(on_layers, teacher, heads) if teacher is not None else None
        on_logits = [term for term in terms if term.feature == "logits"]
        objective = partial(TaughtObjective, wanted=on_logits, transfer=self.transfer)
        super().__init__(model, head, machine, objective=objective)

    def rows(self, features: Sequence[Feature]) -> int:
        """Tokens, or documents, with a label of either kind."""
        return sum(feature["rows"] for feature in features)

    def objective_inputs(
        self, features: Sequence[Feature], parts: Sequence[tuple[np.ndarray, TaskBatch]]
    ) -> list[TaughtBatch]:
        """The micro-batches with their soft labels, and with what the teacher's layers read."""
        factors = None
        if self.transfer is not None:
            lengths = [len(feature["input_ids"]) for feature in features]
            factors = self.transfer.factors(lengths, max(self.rows(features), 1))
        return [self._taught([features[i] for i in chosen], part, factors) for chosen, part in parts]

    def _taught(self, features: Sequence[Feature], part: TaskBatch, factors: torch.Tensor | None) -> TaughtBatch:
        taught = torch.zeros_like(part.input_ids, dtype=torch.bool)
        for row, feature in zip(taught, features, strict=True):
            row[feature["taught"]] = True
        labelled = torch.tensor([feature["labelled"] for feature in features], device=self.device)
        soft = torch.from_numpy(np.concatenate([feature["soft"] for feature in features]).astype(np.float32))
        theirs = self._theirs(features, part.input_ids.shape[1], factors) if factors is not None else None
        return TaughtBatch(*part, labelled, taught, soft.to(self.device), theirs)

    def _theirs(self, features: Sequence[Feature], width: int, factors: torch.Tensor) -> TeacherInputs:
        config = self.transfer.teacher.config
        ids = padded([feature["teacher_ids"] for feature in features], width, config.pad_token_id)
        types = [feature.get("token_type_ids") or () for feature in features]
        typed = getattr(config, "type_vocab_size", 0) > 1 and any(map(any, types))
        return TeacherInputs(ids.to(self.device), padded(types, width, 0).to(self.device) if typed else None, factors)


class FromTeacher(Method):
    """Labelled examples with hard and soft labels, unlabelled ones with soft labels.

    The teacher is computed once; its logits, float16, stay in memory for all learning rates, epochs and seeds.

    Args:
        teacher: fits the task (`Teacher.check`).
        unlabelled: text.
        temperature, soft_weight: see `task_terms`.
        protocol: name of the protocol that says the rest.
        transfer: what of the layers is compared, or None.
    """

    def __init__(
        self,
        teacher: Teacher,
        unlabelled: Unlabelled,
        *,
        temperature: float,
        soft_weight: float,
        protocol: str,
        transfer: Transfer | None = None,
    ):
        self.teacher, self.unlabelled, self.protocol = teacher, unlabelled, protocol
        self.soft_weight = soft_weight
        self.extra_examples = len(unlabelled.texts)  # the rest of the task's own is counted with its training set
        self.terms = task_terms(teacher.head, temperature=temperature, soft_weight=soft_weight, transfer=transfer)
        self.layer_terms = [term for term in self.terms if term.feature != "logits"]
        self._told = {
            "teacher": teacher.name,
            "teacher_sha256": teacher.sums["weights_sha256"],
            "temperature": temperature,
            "soft_weight": soft_weight,
            "unlabelled": len(unlabelled),
            "unlabelled_sha256": unlabelled.sha256() if len(unlabelled) else None,
            "unlabelled_left_out": unlabelled.left_out,
            "terms": {term.name: term.weight for term in self.terms},
        }
        if transfer is not None:
            self._told["transfer"] = asdict(transfer)
        self.hyperparameters = {
            "distillation": {name: value for name, value in self._told.items() if name != "teacher"}
        }
        self._made: tuple[tuple, list] | None = None
        self._layers: LayerTeacher | None = None

    def protocol_fields(self) -> dict[str, Any]:
        """The protocol's name, so that tables tell such scores from plain ones, and what they were distilled from."""
        return {"name": f"distilled-{self.protocol}", "distillation": self._told}

    def features(self, work: Assignment, tokenizer, encoding: dict[str, Any]) -> list:
        key = (work.checkpoint, work.task.name, tuple(example.key for example in work.train), str(encoding))
        if self._made is None or self._made[0] != key:
            self._made = key, self._make(work, tokenizer, encoding)
        return self._made[1]

    def _make(self, work: Assignment, tokenizer, encoding: dict[str, Any]) -> list:
        teacher = self.teacher if self.soft_weight else None
        unlabelled = [*as_examples(self.unlabelled.texts, work.task.kind, tokenizer), *self.unlabelled.rest]
        if teacher:
            say(f"  the teacher reads {len(work.train):,} labelled and {len(unlabelled):,} unlabelled examples")
        given = {"tokenizer": tokenizer, "encoding": encoding, "teacher": teacher}
        features = [
            *taught_features(work.task.kind, work.train, **given, labelled=True),
            *taught_features(work.task.kind, unlabelled, **given, labelled=False),
        ]
        # Training numbers the student's ids anew, and those of the teacher's layers stay.
        return [{**f, "teacher_ids": f["input_ids"]} for f in features] if self.layer_terms else features

    def learner(self, model, head: str, machine) -> Learner:
        if self.layer_terms and self._layers is None:  # its cast weights serve all learning rates and seeds
            how = {"dtype": machine.dtype, "fast": machine.fast}
            self._layers = LayerTeacher(self.teacher.checkpoint.model, self.layer_terms, **how)
        return TaughtLearner(model, head, machine, self.terms, self._layers)
