"""A recipe of distillation: one student of the paper, its teacher, and its settings at each scale."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from compact_biomed.training.recipe import MINI, PUBLISHED, SMOKE_SETTINGS, ContinualRecipe
from compact_biomed.training.settings import FROM_TEACHER, MADE_BY_RECIPE, DistillationScience, Preset, Science

# Published scripts of distillation: the three share all but warm-up and weight decay.
PUBLISHED_DISTILLATION = {
    **PUBLISHED,
    "start": FROM_TEACHER,
    "teacher": "dmis-lab/biobert-base-cased-v1.2",
    "max_steps": 100_000,
    "learning_rate": 5e-4,
}
MINI_DISTILLATION = {**MINI, "start": FROM_TEACHER, "learning_rate": 5e-4}


@dataclass(frozen=True)
class DistillationRecipe(ContinualRecipe):
    """Distillation of one student.

    Args:
        teacher: the recipe that makes the teacher of all scales but paper, where it comes from the hub;
            None: the user names one.
        loss: its terms (`objectives.published_terms`).
    """

    teacher: ContinualRecipe | None = None
    loss: str = "distilbiobert"

    science_type: ClassVar[type[Science]] = DistillationScience
    task: ClassVar[str] = "distillation"
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {**SMOKE_SETTINGS, "start": FROM_TEACHER, "decoder_bias": False},
        "quick": MINI_DISTILLATION,
        "mini": MINI_DISTILLATION,
        "paper": PUBLISHED_DISTILLATION,
    }

    def _divide(self, settings: dict[str, Any], preset: str) -> Preset:
        own = {"loss": self.loss, "tokenizer": FROM_TEACHER}
        if self.teacher is not None and preset != "paper":
            own["teacher"] = f"{MADE_BY_RECIPE}{self.teacher.name}"
        return super()._divide({**settings, **own}, preset)
