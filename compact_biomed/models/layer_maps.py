"""Layer maps: the teacher layer that each student layer starts from, or is compared with.

Layers are numbered from 0; state 0 is the output of the embeddings and state k + 1 that of layer k.
"""

from collections.abc import Callable, Sequence

from compact_biomed.errors import UserError


def _distilbert(student: int, teacher: int) -> list[int]:
    # Halves are rounded up; from 12 to 6 layers there are none.
    gaps = max(student - 1, 1)
    return [(2 * i * (teacher - 1) + gaps) // (2 * gaps) for i in range(student)]


_RULES: dict[str, Callable[[int, int], Sequence[int]]] = {
    "even": lambda student, teacher: range(0, 2 * student, 2),
    "odd": lambda student, teacher: range(1, 2 * student, 2),
    "distilbert": _distilbert,
    "spaced": lambda student, teacher: [(i + 1) * teacher // student - 1 for i in range(student)],
    "first": lambda student, teacher: range(student),
    "last": lambda student, teacher: range(teacher - student, teacher),
}
LAYER_MAPS = tuple(_RULES)


def _fits(layers: Sequence[int], teacher_layers: int) -> bool:
    return all(0 <= layer < teacher_layers for layer in layers) and len(set(layers)) == len(layers)


def layer_map(kind: str | Sequence[int], *, student_layers: int, teacher_layers: int) -> tuple[int, ...]:
    """Return the teacher layer of each student layer.

    Args:
        kind: one of

            * "even": 2i (paper: DistilBioBERT);
            * "odd": 2i + 1 (paper: CompactBioBERT);
            * "distilbert": from the first layer to the last in equal steps, rounded. For 12
              to 6 layers that is 0, 2, 4, 7, 9, 11, the list in DistilBERT's own script;
            * "spaced": the last of each of `student_layers` equal blocks (TinyBERT, Jiao et al.
              2020, section 4.1: g(m) = N m / M, rounded down where M does not divide N);
            * "first", "last": that many layers from the bottom or the top;
            * a list: [0, 3, 5], or "0,3,5".

        student_layers, teacher_layers: the depths.

    Returns:
        `student_layers` numbers, each below `teacher_layers`.

    Raises:
        UserError: an unknown kind, or a map that does not fit the depths; the message names those that do.
    """
    if isinstance(kind, str) and kind not in _RULES:
        kind = _parsed(kind)
    if isinstance(kind, str):
        layers, name = tuple(_RULES[kind](student_layers, teacher_layers)), f"layer map {kind!r}"
    else:
        layers, name = tuple(kind), "the layer map"
    if len(layers) != student_layers:
        raise UserError(
            f"{name} lists {len(layers)} teacher layers for a student of {student_layers}",
            remedy="list one teacher layer for each student layer",
        )
    if student_layers < 1 or not _fits(layers, teacher_layers):
        raise UserError(
            f"{name} for a student of {student_layers} must name different teacher layers 0 to "
            f"{teacher_layers - 1} (seen: {', '.join(map(str, layers)) or 'none'})",
            remedy=_remedy(student_layers, teacher_layers),
        )
    return layers


def _parsed(kind: str) -> list[int]:
    try:
        return [int(part) for part in kind.split(",")]
    except ValueError:
        raise UserError(
            f"unknown layer map {kind!r}", remedy=f"use one of {', '.join(LAYER_MAPS)}, or a list such as 0,2,4"
        ) from None


def _remedy(student: int, teacher: int) -> str:
    fitting = [name for name, rule in _RULES.items() if student > 0 and _fits(list(rule(student, teacher)), teacher)]
    if fitting:
        return f"use one of {', '.join(fitting)}, or a list of layers"
    return f"give the student 1 to {teacher} layers"
