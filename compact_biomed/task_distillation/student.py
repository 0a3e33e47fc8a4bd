"""A student cut out of its teacher, as a checkpoint of its own: plain fine-tuning can start from it too."""

from pathlib import Path
from typing import TYPE_CHECKING

from compact_biomed.errors import UserError
from compact_biomed.files import atomic_folder, cache_folder
from compact_biomed.models.layer_maps import layer_map
from compact_biomed.models.student import copy_parts, depth_changed

if TYPE_CHECKING:
    from compact_biomed.task_distillation.teacher import Teacher


def cut_out(teacher: "Teacher", layers: int) -> Path:
    """The folder of an encoder with `layers` layers of the teacher's, its embeddings and its pooler.

    The layers are the last ones of equal blocks ("spaced" in `models.layer_maps`). The folder lies in the cache, named
    by the teacher's weights, and is made once.

    Raises:
        UserError: as many layers cannot be cut out of this teacher.
    """
    folder = cache_folder() / "students" / f"{teacher.name}-{layers}-layers-{teacher.sums['weights_sha256'][:12]}"
    if folder.is_dir():
        return folder
    given = teacher.checkpoint.model
    try:
        chosen = layer_map("spaced", student_layers=layers, teacher_layers=given.config.num_hidden_layers)
        student = type(given)(depth_changed(given.config, layers))
        copy_parts(student, given, layers=chosen, head=False)
    except UserError as error:
        raise UserError(error.what, where=f"--student {layers}", remedy="name a checkpoint in its place") from error
    if getattr(given.base_model, "pooler", None) is not None:
        student.base_model.pooler.load_state_dict(given.base_model.pooler.state_dict())
    with atomic_folder(folder) as temporary:
        student.base_model.save_pretrained(temporary)
        teacher.tokenizer.save_pretrained(temporary)
    return folder
