"""Fine-tuning after pruning, as `evaluation.finetune.Method` asks for it."""

import copy
from typing import Any

from compact_biomed.compress.pruning.importance import Importance, magnitude, taylor
from compact_biomed.compress.pruning.parts import Removed, clear, numbers
from compact_biomed.compress.pruning.pruning import Pruned, Pruning, prune
from compact_biomed.compress.pruning.source import Source, check_head
from compact_biomed.evaluation.finetune import Assignment, Method, Outcome
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.learner import Learner
from compact_biomed.evaluation.model import TaskModel, longest_input
from compact_biomed.training.machine import Plan

EXAMPLES = 512  # training examples that first-order importance is averaged over


class MaskedLearner(Learner):
    """A learner in which what is gone stays zero: it is cleared after each step.

    Its gradients still count in the norm to which all are clipped.

    Args:
        model, head, machine: as for `Learner`.
        removed: of the model.
    """

    def __init__(self, model, head: str, machine: Plan, removed: Removed):
        super().__init__(model, head, machine)
        self._removed = {name: gone.to(self.device) for name, gone in removed.items()}

    def stepped(self) -> None:
        clear(self.objective.model, self._removed)


class AfterPruning(Method):
    """The fine-tuned model, its head included, is pruned and learns its task again.

    Args:
        source: what is pruned.
        how: what goes.
    """

    def __init__(self, source: Source, how: Pruning):
        self.source, self.how = source, how
        examples = EXAMPLES if how.importance == "taylor" else None
        self._says = {**vars(how), "examples": examples}
        self.science = {"pruning": self._says}
        self._made: tuple[tuple, Pruned] | None = None

    def of_model(self, outcome: Outcome) -> dict[str, Any]:
        """Where the source came from, so that seeds of one pipeline go together, and what was pruned."""
        origin = self.source.record["model"]
        same = ("start", "random_weights", "weights_sha256", "tokenizer_sha256", "config_sha256")
        told = {"source": self.source.folder.name, "source_sha256": self.source.sha256()}
        told |= {"source_score": self.source.record["score"], **self._says, **self._made[1].told}
        told["after"] = numbers(outcome.model)
        return {name: origin[name] for name in same} | {"pruning": told}

    def build(self, work: Assignment, head: str, *, seed: int) -> TaskModel:
        """The pruned model; the seed decides nothing of it."""
        key = tuple(example.key for example in work.train)
        if self._made is None or self._made[0] != key:
            self._made = key, self._pruned(work, head)
        return TaskModel(copy.deepcopy(self._made[1].model), [])

    def learner(self, model, head: str, machine: Plan) -> Learner:
        return MaskedLearner(model, head, machine, self._made[1].removed)

    def _pruned(self, work: Assignment, head: str) -> Pruned:
        checkpoint = self.source.checkpoint()
        check_head(checkpoint, work.task, list(work.labels))

        def importance(model) -> Importance:
            if self.how.importance == "magnitude":
                return magnitude(model)
            length = min(work.task.max_length, longest_input(model.config) or work.task.max_length)
            encoding = {"labels": work.labels, "max_length": length, "level": work.level}
            some = work.train[:: max(len(work.train) // EXAMPLES, 1)][:EXAMPLES]
            return taylor(model, head, KINDS[work.task.kind].encode(some, checkpoint.tokenizer, **encoding))

        return prune(checkpoint.model, self.how, importance)
