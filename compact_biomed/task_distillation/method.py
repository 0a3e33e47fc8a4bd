"""Learning from a teacher, as `evaluation.finetune.Method` asks for it."""

from dataclasses import asdict
from typing import Any

from compact_biomed.console import say
from compact_biomed.evaluation.finetune import Assignment, Method
from compact_biomed.evaluation.learner import Learner
from compact_biomed.objectives.textbrewer_terms import read_terms
from compact_biomed.task_distillation.learner import TaughtLearner
from compact_biomed.task_distillation.soft_labels import taught_features
from compact_biomed.task_distillation.teacher import Teacher
from compact_biomed.task_distillation.terms import HARD_LOSS, Transfer, task_config
from compact_biomed.task_distillation.text import Unlabelled, as_examples
from compact_biomed.task_distillation.transfer import LayerTeacher


class FromTeacher(Method):
    """Labelled examples with hard and soft labels, unlabelled ones with soft labels.

    The teacher is computed once; its logits, float16, stay in memory for all learning rates, epochs and seeds.

    Args:
        teacher: fits the task (`Teacher.check`).
        unlabelled: text.
        temperature, soft_weight: see `terms.task_config`.
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
        self.further = len(unlabelled.texts)  # the rest of the task's own is counted with its training set
        matches = transfer.matches() if transfer is not None else ()
        config = task_config(teacher.head, temperature=temperature, soft_weight=soft_weight, matches=matches)
        self.terms = read_terms(config, hard=HARD_LOSS)
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
        self.science = {"distillation": {name: value for name, value in self._told.items() if name != "teacher"}}
        self._made: tuple[tuple, list] | None = None
        self._layers: LayerTeacher | None = None

    def about(self) -> dict[str, Any]:
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
