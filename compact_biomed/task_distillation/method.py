"""Learning from a teacher, as `evaluation.finetune.Method` asks for it."""

from typing import Any

from compact_biomed.console import say
from compact_biomed.evaluation.finetune import Assignment, Method
from compact_biomed.evaluation.learner import Learner
from compact_biomed.objectives.textbrewer_terms import read_terms
from compact_biomed.task_distillation.learner import TaughtLearner
from compact_biomed.task_distillation.soft_labels import taught_features
from compact_biomed.task_distillation.teacher import Teacher
from compact_biomed.task_distillation.terms import HARD_LOSS, task_config
from compact_biomed.task_distillation.text import Unlabelled, as_examples


class FromTeacher(Method):
    """Labelled examples with hard and soft labels, unlabelled ones with soft labels.

    The teacher is computed once; its logits, float16, stay in memory for all learning rates, epochs and seeds.

    Args:
        teacher: fits the task (`Teacher.check`).
        unlabelled: text.
        temperature, soft_weight: see `terms.task_config`.
        protocol: name of the protocol that says the rest.
    """

    def __init__(
        self, teacher: Teacher, unlabelled: Unlabelled, *, temperature: float, soft_weight: float, protocol: str
    ):
        self.teacher, self.unlabelled, self.protocol = teacher, unlabelled, protocol
        self.soft_weight = soft_weight
        self.further = len(unlabelled.texts)  # the rest of the task's own is counted with its training set
        self._terms = read_terms(
            task_config(teacher.head, temperature=temperature, soft_weight=soft_weight), hard=HARD_LOSS
        )
        self._told = {
            "teacher": teacher.name,
            "teacher_sha256": teacher.sums["weights_sha256"],
            "temperature": temperature,
            "soft_weight": soft_weight,
            "unlabelled": len(unlabelled),
            "unlabelled_sha256": unlabelled.sha256() if len(unlabelled) else None,
            "unlabelled_left_out": unlabelled.left_out,
            "terms": {term.name: term.weight for term in self._terms},
        }
        self.science = {"distillation": {name: value for name, value in self._told.items() if name != "teacher"}}
        self._made: tuple[tuple, list] | None = None

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
        return [
            *taught_features(work.task.kind, work.train, **given, labelled=True),
            *taught_features(work.task.kind, unlabelled, **given, labelled=False),
        ]

    def learner(self, model, head: str, machine) -> Learner:
        return TaughtLearner(model, head, machine, self._terms)
