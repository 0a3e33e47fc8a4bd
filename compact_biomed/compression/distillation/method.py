"""Train a student on hard labels, on a teacher's soft labels, and on the teacher's layers.

`FromTeacher` is the `evaluation.finetune.Method` of task distillation: it makes the features, with the teacher's logits
computed once, and the `StudentLearner` that trains on them. `StudentObjective` computes the loss of a batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compact_biomed.benchmarks.examples import Example
from compact_biomed.compression.distillation.teacher import Teacher, student_features
from compact_biomed.compression.distillation.text import UnlabeledText, as_examples
from compact_biomed.compression.distillation.transfer import LayerTeacher, LayerTransfer, TeacherInputs
from compact_biomed.console import say
from compact_biomed.engine.plan import ComputePlan
from compact_biomed.engine.taps import NO_TAPS
from compact_biomed.evaluation.features import Feature
from compact_biomed.evaluation.finetune import Assignment, Method
from compact_biomed.evaluation.learner import Learner, padded
from compact_biomed.objectives import evaluate
from compact_biomed.objectives.task import TaskBatch, TaskObjective, TaskOutput
from compact_biomed.objectives.terms import EACH, LINEAR, MAPPED, Term, expand, relation_terms

# ---- the terms: hard labels, the teacher's soft labels, and, if wanted, the layers of both models


HARD_LOSS = "task_loss"
# The loss on soft labels under each kind of task head (`models.checkpoints.HEAD_FORMS`).
SOFT_LOSS_OF_HEAD = {
    "token": "soft_kl",
    "sequence": "soft_kl",
    "span": "soft_kl",
    "multilabel": "soft_binary_cross_entropy",
    "regression": "soft_mse",
}


@dataclass(frozen=True)
class Relations:
    """Which layers are compared by the relations of their queries, keys and values (MiniLMv2).

    Args:
        heads: relation heads.
        layer_S, layer_T: a layer of the student and one of the teacher.
    """

    heads: int
    layer_S: int
    layer_T: int


@dataclass(frozen=True)
class Transfer:
    """Which features of the layers are compared, by the losses of CompactBioBERT and of MiniLMv2.

    Args:
        of: "hidden" (1 - cosine of the states behind two layers), "attention" (KL of their maps), "relations", or
            several.
        layers: teacher layer of each student layer; none if relations alone are compared.
        widths: of the student's and of the teacher's states.
        weight: of each layer's term, and of each of the three terms on relations.
        relations: if they are compared.
    """

    of: Sequence[str]
    layers: Sequence[int]
    widths: tuple[int, int]
    weight: float = 1.0
    relations: Relations | None = None

    def settings(self) -> dict[str, Any]:
        """Return it as JSON values; without relations as records have it that are older than they."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def terms(self) -> tuple[Term, ...]:
        """Return the terms: one per pair of layers and three on relations.

        States of another width go through one shared projection.
        """
        each = {"layer_S": EACH, "layer_T": MAPPED}
        projection = LINEAR if len(set(self.widths)) > 1 else None
        stated = []
        if "attention" in self.of:
            stated.append(Term("attention_kl", self.weight, **each))
        if "hidden" in self.of:
            stated.append(Term("hidden_cosine", self.weight, **each, projection=projection))
        depths = {"student_layers": len(self.layers), "teacher_layers": max(self.layers, default=0) + 1}
        terms = expand(stated, **depths, widths=self.widths, layers=self.layers)
        if self.relations is None:
            return terms
        return terms + relation_terms(self.weight, self.relations.layer_S, self.relations.layer_T, self.relations.heads)


def task_terms(
    head: str, *, temperature: float, soft_weight: float, transfer: Transfer | None = None
) -> tuple[Term, ...]:
    """Return hard labels + `soft_weight` T^2 soft labels at temperature T (Hinton et al. 2015, section 2) + layers.

    Args:
        head: a kind of task head.
        temperature: T. In a regression it cancels.
        soft_weight: 0 leaves the soft labels out.
        transfer: the layers that are compared, if any.
    """
    terms = [Term(HARD_LOSS, 1.0)]
    if soft_weight:
        terms.append(Term(SOFT_LOSS_OF_HEAD[head], soft_weight * temperature**2, temperature=temperature))
    return (*terms, *(transfer.terms() if transfer is not None else ()))


_NO_TOKEN = -1e9  # a logit whose probability is 0 at any temperature, and finite, as the losses require


class FromTeacher(Method):
    """Learning from labeled examples with hard and soft labels, and from unlabeled ones with soft labels.

    The teacher computes its logits once; they stay in memory, float16, for all learning rates, epochs and seeds.

    Args:
        teacher: one that fits the task (`Teacher.check`).
        unlabeled: texts, and examples whose labels are not read.
        temperature, soft_weight: see `task_terms`.
        protocol: name of the protocol that sets everything else.
        transfer: which layers are compared, or None.
    """

    def __init__(
        self,
        teacher: Teacher,
        unlabeled: UnlabeledText,
        *,
        temperature: float,
        soft_weight: float,
        protocol: str,
        transfer: Transfer | None = None,
    ):
        self.teacher, self.unlabeled, self.protocol = teacher, unlabeled, protocol
        self.soft_weight = soft_weight
        self.extra_examples = len(unlabeled.texts)  # `unlabeled.rest` is counted with the training set of the task
        self.terms = task_terms(teacher.head, temperature=temperature, soft_weight=soft_weight, transfer=transfer)
        self.layer_terms = [term for term in self.terms if term.feature != "logits"]
        self.teacher_in_step = bool(self.layer_terms)
        self._settings = {
            "teacher": teacher.name,
            "teacher_sha256": teacher.sums["weights_sha256"],
            "temperature": temperature,
            "soft_weight": soft_weight,
            "unlabelled": len(unlabeled),
            "unlabelled_sha256": unlabeled.sha256() if len(unlabeled) else None,
            "unlabelled_left_out": unlabeled.left_out,
            "terms": {term.name: term.weight for term in self.terms},
        }
        if transfer is not None:
            self._settings["transfer"] = transfer.settings()
        unnamed = {name: value for name, value in self._settings.items() if name != "teacher"}
        self.hyperparameters = {"distillation": unnamed}
        self._features: tuple[tuple, list] | None = None  # (what they were made from, the features)
        self._layer_teacher: LayerTeacher | None = None

    @property
    def teacher_model(self) -> PreTrainedModel | None:
        """The teacher's model, if anything of it is compared."""
        return self.teacher.checkpoint.model if self.soft_weight or self.layer_terms else None

    def protocol_fields(self) -> dict[str, Any]:
        """Return the protocol's name, by which tables separate such scores from plain ones, and the settings."""
        return {"name": f"distilled-{self.protocol}", "distillation": self._settings}

    def further_examples(self, kind: str) -> list[Example]:
        return [*as_examples(self.unlabeled.texts, kind), *self.unlabeled.rest]

    def features(self, work: Assignment, tokenizer, encoding: dict[str, Any]) -> list[Feature]:
        """Return the features of labeled and unlabeled examples, computed once per task and student."""
        key = (work.checkpoint, work.task.name, tuple(example.key for example in work.train), str(encoding))
        if self._features is None or self._features[0] != key:
            self._features = key, self._encode(work, tokenizer, encoding)
        return self._features[1]

    def _encode(self, work: Assignment, tokenizer, encoding: dict[str, Any]) -> list[Feature]:
        teacher = self.teacher if self.soft_weight else None
        unlabeled = self.further_examples(work.task.kind)
        if teacher:
            say(f"  the teacher reads {len(work.train):,} labeled and {len(unlabeled):,} unlabeled examples")
        options = {"tokenizer": tokenizer, "encoding": encoding, "teacher": teacher}
        features = [
            *student_features(work.task.kind, work.train, **options, labeled=True),
            *student_features(work.task.kind, unlabeled, **options, labeled=False),
        ]
        if not self.layer_terms:
            return features
        # Training renumbers the student's ids; the layers of the teacher read the original ones.
        return [{**feature, "teacher_ids": feature["input_ids"]} for feature in features]

    def learner(self, model, head: str, machine: ComputePlan) -> Learner:
        if self.layer_terms and self._layer_teacher is None:  # its cast weights serve all learning rates and seeds
            options = {"dtype": machine.dtype, "fast": machine.fast}
            self._layer_teacher = LayerTeacher(self.teacher.checkpoint.model, self.layer_terms, **options)
        return StudentLearner(model, head, machine, self.terms, self._layer_teacher)


# ---- the loss of a batch


class StudentBatch(NamedTuple):
    """A `TaskBatch` with soft labels."""

    input_ids: Tensor  # [batch, length]
    attention_mask: Tensor | None  # [batch, length]; None where nothing is padding
    token_type_ids: Tensor | None  # [batch, length]; None where all are of type 0
    targets: Tensor  # as of `TaskBatch`; those of unlabeled inputs are not read
    labeled: Tensor  # [batch], bool
    soft_positions: Tensor  # [batch, length], bool: the positions whose logits have soft labels
    soft_logits: Tensor  # the teacher's logits at these positions, [rows, outputs]
    teacher_inputs: TeacherInputs | None = None  # where layers are compared


class StudentObjective(TaskObjective):
    """A student with the terms of its loss, in the form that `engine.microbatch.Replicas` computes.

    Args:
        model, head, dtype, fast: as for `TaskObjective`.
        terms: the terms on logits: `HARD_LOSS` and one on soft labels, or one of them.
        transfer: the terms on layers, if any.
    """

    def __init__(
        self,
        model: nn.Module,
        head: str,
        *,
        terms: Sequence[Term],
        transfer: LayerTransfer | None = None,
        dtype: torch.dtype = torch.float32,
        fast: bool = True,
    ):
        super().__init__(model, head, dtype=dtype, fast=fast)
        self.terms, self.transfer = tuple(terms), transfer
        if transfer is not None:
            weight = next(model.parameters())
            transfer.to(weight.device, weight.dtype)
            transfer.teacher.to(weight.device)

    def prepare(self) -> dict[str, Tensor]:
        """Return the weights of the model and of the projections."""
        return super().prepare() | (self.transfer.prepared() if self.transfer is not None else {})

    def sources(self) -> dict[str, tuple[nn.Parameter, ...]] | None:
        """Return the parameters behind each prepared weight, those of the projections included."""
        sources = super().sources()
        if sources is None or self.transfer is None:
            return sources
        return sources | {name: (parameter,) for name, parameter in self.transfer.prepared().items()}

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        targets: Tensor,
        labeled: Tensor,
        soft_positions: Tensor,
        soft_logits: Tensor,
        teacher_inputs: TeacherInputs | None = None,
        *,
        prepared: Mapping[str, Tensor] | None = None,
    ) -> TaskOutput:
        """Return the summed loss of a `StudentBatch`: the weighted sum of its terms' sums."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        hard = self.head.loss_positions(mask, targets) & labeled[:, None]
        positions = hard | soft_positions  # whose logits any term reads
        taps = self.transfer.taps if self.transfer is not None else NO_TAPS
        if self.fast and prepared is None:
            prepared = self.cast(self.prepare())
        inputs = (input_ids, attention_mask, token_type_ids)
        logits, student_layers = self.with_taps(*inputs, positions, taps, prepared=prepared)
        sums = []
        for term in self.terms:
            if term.loss != HARD_LOSS:
                sums.append(
                    term.weight * self._soft_loss(term, logits[soft_positions[positions]], soft_logits, soft_positions)
                )
            elif labeled.any():
                loss, _ = self.head.loss(logits[hard[positions]], targets[labeled], hard[labeled])
                sums.append(term.weight * loss)
        if self.transfer is not None:
            sums.append(self.transfer.loss_sum(student_layers, teacher_inputs, attention_mask, prepared))
        total = torch.stack(sums).sum() if sums else logits.sum() * 0
        return TaskOutput(total, len(logits) if self.head.family == "token" else len(labeled))

    def _soft_loss(self, term: Term, student: Tensor, teacher: Tensor, soft_positions: Tensor) -> Tensor:
        """Return the sum of a term over tokens, or documents."""
        share = 1.0
        if self.head.family == "span":  # a softmax over the tokens of a document; the mean of start and end
            student, teacher, share = by_end(student, soft_positions), by_end(teacher, soft_positions), 0.5
        outputs = {"logits": student}, {"logits": teacher}
        return share * evaluate.evaluate([term], *outputs, soft_positions, reduction="sum")[term.name]


def by_end(logits: Tensor, positions: Tensor) -> Tensor:
    """Spread the logits [rows, 2] of positions [batch, length] to [2 * batch, length], start and end in turn."""
    scores = logits.new_full((*positions.shape, 2), _NO_TOKEN)
    scores[positions] = logits
    return scores.transpose(1, 2).flatten(0, 1)


# ---- batches of features


class StudentLearner(Learner):
    """A learner of the features that `student_features` makes.

    The loss of a step is the sum of its terms on logits over all rows divided by their number, which counts rows
    without a hard label: the more unlabeled text, the smaller the share of the hard labels. Terms on layers are means
    over the tokens of the step.

    Args:
        model, head, machine: as for `Learner`.
        terms: of the loss.
        teacher: computes what the terms on layers compare; None = there are no such terms.
    """

    def __init__(
        self, model, head: str, machine: ComputePlan, terms: Sequence[Term], teacher: LayerTeacher | None = None
    ):
        on_layers = [term for term in terms if term.feature != "logits"]
        heads = model.config.num_attention_heads
        self.transfer = LayerTransfer(on_layers, teacher, heads) if teacher is not None else None
        on_logits = [term for term in terms if term.feature == "logits"]
        objective = partial(StudentObjective, terms=on_logits, transfer=self.transfer)
        super().__init__(model, head, machine, objective=objective)

    def rows(self, features: Sequence[Feature]) -> int:
        """Count the tokens, or documents, with a label of either kind."""
        return sum(feature["rows"] for feature in features)

    def objective_inputs(
        self, features: Sequence[Feature], parts: Sequence[tuple[np.ndarray, TaskBatch]]
    ) -> list[StudentBatch]:
        """Add soft labels, and the inputs of the teacher's layers, to micro-batches."""
        factors = None
        if self.transfer is not None:
            lengths = [len(feature["input_ids"]) for feature in features]
            factors = self.transfer.factors(lengths, max(self.rows(features), 1))
        return [self._complete([features[i] for i in chosen], part, factors) for chosen, part in parts]

    def _complete(self, features: Sequence[Feature], part: TaskBatch, factors: Tensor | None) -> StudentBatch:
        soft_positions = torch.zeros_like(part.input_ids, dtype=torch.bool)
        for row, feature in zip(soft_positions, features, strict=True):
            row[feature["soft_positions"]] = True
        labeled = torch.tensor([feature["labeled"] for feature in features], device=self.device)
        soft_logits = torch.from_numpy(
            np.concatenate([feature["soft_logits"] for feature in features]).astype(np.float32)
        )
        inputs = self._teacher_inputs(features, part.input_ids.shape[1], factors) if factors is not None else None
        return StudentBatch(*part, labeled, soft_positions, soft_logits.to(self.device), inputs)

    def _teacher_inputs(self, features: Sequence[Feature], width: int, factors: Tensor) -> TeacherInputs:
        config = self.transfer.teacher.config
        ids = padded([feature["teacher_ids"] for feature in features], width, config.pad_token_id)
        types = [feature.get("token_type_ids") or () for feature in features]
        typed = getattr(config, "type_vocab_size", 0) > 1 and any(map(any, types))
        return TeacherInputs(ids.to(self.device), padded(types, width, 0).to(self.device) if typed else None, factors)
