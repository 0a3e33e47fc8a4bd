"""The shapes of a run's models: their configurations, as far as they are known before anything is fetched or built."""

from compact_biomed.models import RANDOM, checkpoints
from compact_biomed.models.architectures import ARCHITECTURES, SCALE_OF_PRESET
from compact_biomed.models.positions import require_positions
from compact_biomed.models.students import depth_changed
from compact_biomed.training.hyperparameters import DistillationHyperparameters, Hyperparameters
from compact_biomed.training.recipe import FROM_TEACHER, SLICED


def local_config(name: str):
    """Return the configuration of a checkpoint that is a local folder; None for any other, and where none is named."""
    return checkpoints.local_config(name) if name else None


def local_start(start: str):
    """Return the same of start weights. A folder that is called as a keyword, such as ./random, is not meant by it."""
    return None if start in (RANDOM, FROM_TEACHER) else local_config(start)


def architecture_config(hyperparameters: Hyperparameters, vocab_size: int):
    """Return the configuration of the model at its preset's scale."""
    return ARCHITECTURES[hyperparameters.model][SCALE_OF_PRESET[hyperparameters.preset]].config(vocab_size)


def stand_in_teacher(hyperparameters: Hyperparameters, vocab_size: int):
    """Return the configuration that stands for a teacher which is not on this machine yet."""
    return ARCHITECTURES["biobert"][SCALE_OF_PRESET[hyperparameters.preset]].config(vocab_size)


def local_source(hyperparameters: Hyperparameters, teacher: str):
    """Return the configuration of the local checkpoint that the start is sliced out of; None if there is none."""
    if not hyperparameters.start.startswith(SLICED):
        return None
    name = hyperparameters.start.removeprefix(SLICED)
    return local_config(teacher if name == FROM_TEACHER else name)


def sliced_config(hyperparameters: Hyperparameters, source):
    """Return the configuration of a slice of a model with the configuration `source`."""
    if (depth := hyperparameters.student_layers) is not None:
        return depth_changed(source, depth)
    return architecture_config(hyperparameters, source.vocab_size)


def expected_config(hyperparameters: Hyperparameters, vocab_size: int):
    """Return the configuration that the model will have, as far as it is known before anything is fetched.

    It is that of a local checkpoint which is loaded whole, or from whose teacher the student is cut; else the recipe's,
    or, without a recipe, that of a student of BioBERT at the preset's scale.
    """
    if (source := local_source(hyperparameters, hyperparameters.teacher)) is not None:
        return sliced_config(hyperparameters, source)
    if isinstance(hyperparameters, DistillationHyperparameters):
        if (teacher := local_config(hyperparameters.teacher)) is not None:
            vocab_size = teacher.vocab_size
            if hyperparameters.student_layers is not None:
                return depth_changed(teacher, hyperparameters.student_layers)
    if hyperparameters.layers_from is None and (own := local_start(hyperparameters.start)) is not None:
        return own
    if hyperparameters.model in ARCHITECTURES:
        return architecture_config(hyperparameters, vocab_size)
    teacher = stand_in_teacher(hyperparameters, vocab_size)
    return depth_changed(teacher, hyperparameters.student_layers or teacher.num_hidden_layers)


def check_length(hyperparameters: Hyperparameters, teacher: str | None = None) -> None:
    """Raise a `UserError` if documents may be longer than the model or its teacher reads.

    A model that is not on this machine yet counts as one of the preset's architecture.

    Args:
        teacher: checkpoint of a student's teacher, if there is one.
    """
    length = hyperparameters.max_length
    require_positions(expected_config(hyperparameters, 1), length, where=hyperparameters.start)
    if teacher and (config := local_config(teacher)) is not None:
        require_positions(config, length, where=teacher)
