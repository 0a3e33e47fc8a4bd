"""By which protocol each score was made, in words, so that models fine-tuned in different ways can share a table.

A student and its teacher rarely learned alike: one was distilled, the other trained for more epochs. Their scores on
the same test examples compare, as long as the table says what differs. A model that was fine-tuned in several ways
gets a row, with a name of its own, for each of them.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from compact_biomed.errors import UserError
from compact_biomed.evaluation.protocols import changes_in_words
from compact_biomed.records.lines import RERUN, Line

Way = tuple[tuple[str, str], ...]
"""How a model was fine-tuned: (part, that part in words). Parts that it lacks are left out."""

_OF_PROTOCOL = ("learning_rates", "batch_sizes", "choose_epochs", "train_on_dev", "patience")
_CHOSEN = ("learning_rate", "epochs", "stop_after", "max_length")  # on the dev set, or by what a model can read
# Parts of a way, those first that say most. Names with a colon are many parts.
_NAME, _CHANGE, _TEACHER, _EXAMPLES, _LEVEL, _RULE = "name", "change:", "teacher:", "examples:", "level", "rule:"
_ELSEWHERE = "elsewhere"  # the task that a model was fine-tuned on, where it is scored on another one
_NOT_IN_TEXT = (_EXAMPLES, _RULE)  # unless they tell one protocol from another
_ORDER = (_ELSEWHERE, _NAME, _CHANGE, _TEACHER, _EXAMPLES, _LEVEL, _RULE)


def way_of(record: Mapping[str, Any]) -> Way:
    """Return how a model was fine-tuned. Folds have training examples of their own, which are no part of it."""
    protocol, task = record["protocol"], record["task"]
    parts = {_NAME: protocol["name"], _LEVEL: f"labels {protocol['level']}"}
    if trained_on := record.get("trained_on"):
        fold = f", fold {trained_on['fold']}" if trained_on.get("fold") else ""
        parts[_ELSEWHERE] = f"fine-tuned on {trained_on['name']}{fold}"
    parts |= {_CHANGE + name: text for name, text in _changes(protocol).items()}
    if distilled := protocol.get("distillation"):
        parts |= {_TEACHER + name: text for name, text in _taught(distilled).items()}
    if task["fold"] is None:
        sums = task["data_sha256"]
        parts |= {_EXAMPLES + part: f"{part} examples {sums[part][:12]}" for part in ("train", "dev") if part in sums}
    parts |= {_RULE + name: text for name, text in _rules(record).items()}
    return tuple(sorted(((name, text) for name, text in parts.items() if text), key=lambda part: _rank(part[0])))


def protocol_of(record: Mapping[str, Any], telling: Iterable[str] = ()) -> str:
    """Return the protocol by which a record was made, with the changes to it.

    Args:
        telling: parts of `way_of` by which it must be told from others; those that the text lacks are added.
    """
    protocol = record["protocol"]
    taught = _taught(protocol["distillation"]) if protocol.get("distillation") else {}
    distilled = f"; distilled from {', '.join(text for text in taught.values() if text)}" if taught else ""
    changes = _changes(protocol)
    changed = f"; in place of the protocol's: {', '.join(changes.values())}" if changes else ""
    more = "".join(f"; {text}" for name, text in way_of(record) if name in telling and name.startswith(_NOT_IN_TEXT))
    elsewhere = dict(way_of(record)).get(_ELSEWHERE)
    on = f"; {elsewhere}, not on this task" if elsewhere else ""
    return f"protocol {protocol['name']}, labels {protocol['level']}{distilled}{changed}{on}{more}"


def _changes(protocol: Mapping[str, Any]) -> dict[str, str]:
    return {name: changes_in_words({name: value}) for name, value in sorted(protocol["overrides"].items())}


def _taught(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return teacher and settings of a distillation in words; those that are not used are empty."""
    which = settings["teacher_sha256"][:12]
    return {
        "of": f"{settings['teacher']} ({which})" if which else settings["teacher"],
        "temperature": f"temperature {settings['temperature']:g}",
        "weight": f"soft weight {settings['soft_weight']:g}",
        "unlabeled": f"{settings['unlabelled']:,} unlabeled texts",
        "transfer": _transferred(settings.get("transfer")),
    }


def _transferred(transfer: Mapping[str, Any] | None) -> str:
    """Return the layers whose states or relations were distilled too, in words; empty if there are none."""
    if not transfer:
        return ""
    compared = [f"layers {' '.join(map(str, transfer['layers']))}"] if transfer["layers"] else []
    if relations := transfer.get("relations"):
        compared += ["{heads} relation heads of layers {layer_S} and {layer_T}".format(**relations)]
    return f"{' and '.join(transfer['of'])} transfer ({'; '.join(compared)}; weight {transfer['weight']:g})"


def _rules(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that a protocol fixes, without those that it chooses per run."""
    protocol, settings = record["protocol"], record.get("settings", {})
    fixed = {name: protocol[name] for name in _OF_PROTOCOL if name in protocol}
    chosen = {*_CHOSEN, "batch_size"} if "batch_sizes" in protocol else _CHOSEN
    fixed |= {name: value for name, value in settings.items() if name not in chosen}
    return {name: f"{name.replace('_', ' ')} {value}" for name, value in fixed.items()}


# ---- What tells ways apart


def telling_parts(groups: Iterable[Collection[Way]], always: Sequence[str] = ()) -> list[str]:
    """Return the fewest parts, in order, that tell apart the ways within each group.

    Args:
        groups: such as the ways behind one column of a table.
        always: parts to return in any case, or the beginnings of their names.
    """
    groups = [sorted(set(group)) for group in groups]
    names = sorted({name for group in groups for way in group for name, _ in way}, key=_rank)
    telling = [name for name in names if name.startswith(tuple(always))] if always else []
    for name in names:
        if name not in telling and any(_count(group, [*telling, name]) > _count(group, telling) for group in groups):
            telling.append(name)
    return sorted(telling, key=_rank)


def label(way: Way, telling: Collection[str]) -> str:
    """Return the parts of a way that tell it from others, in words."""
    return ", ".join(text for name, text in way if name in telling)


def _count(group: Iterable[Way], names: Collection[str]) -> int:
    return len({label(way, names) for way in group})


def _rank(name: str) -> tuple[int, str]:
    return next(rank for rank, start in enumerate(_ORDER) if name.startswith(start)), name


MIXED = (
    "These models were fine-tuned in different ways (see protocol): a difference between two of them is one of model "
    "and protocol together."
)


def protocols_by_model(ways: Mapping[tuple[str, Hashable], Way]) -> dict[str, str]:
    """Return model -> its protocols in few words: the name, the user's changes, and what else tells it apart.

    Args:
        ways: (model, column of a table) -> how the model was fine-tuned.

    Returns:
        Empty if on each column all models were fine-tuned alike.
    """
    by_column: dict[Hashable, set[Way]] = {}
    for (_, column), way in ways.items():
        by_column.setdefault(column, set()).add(way)
    if not any(len(group) > 1 for group in by_column.values()):
        return {}
    telling = telling_parts(by_column.values(), always=(_NAME, _CHANGE, _ELSEWHERE))
    labels: dict[str, set[str]] = {}
    for (model, _), way in ways.items():
        labels.setdefault(model, set()).add(label(way, telling))
    return {model: "; ".join(sorted(texts)) for model, texts in labels.items()}


def told_apart(lines: Sequence[Line]) -> list[Line]:
    """Return the records with other names for a model that was fine-tuned in several ways on one task.

    The one that learned from labels alone keeps the model's name; of several of these, the one by the plain `standard`
    protocol. The others are called "NAME (what differs)". Records that were named so before are returned as they are.

    Raises:
        UserError: of two records of a model on one task, one lacks the checksum of some examples, so that nobody can
            tell whether they were fine-tuned alike.
    """
    lines = _taught_seed_by_seed(lines)
    groups: dict[str, dict[tuple[str, str], set[Way]]] = {}
    first: dict[tuple[str, str], Line] = {}
    ways = [way_of(line.record) for line in lines]
    for line, way in zip(lines, ways, strict=True):
        groups.setdefault(line.model, {}).setdefault((line.task, line.record["split"]), set()).add(way)
        other = first.setdefault((line.model, line.task), line)
        if lacking := set(line.record["task"]["data_sha256"]) ^ set(other.record["task"]["data_sha256"]):
            what = (
                f"{line.model} on {line.task}: one of two records has no checksum of the {sorted(lacking)[0]} examples"
            )
            raise UserError(what, where=f"{other.where} and {line.where}", remedy=RERUN)
    names = {model: _names(model, list(by_task.values())) for model, by_task in groups.items()}
    named = [names[line.model].get(way, line.model) for line, way in zip(lines, ways, strict=True)]
    return [renamed(line, name) for line, name in zip(lines, named, strict=True)]


def _names(model: str, groups: Sequence[Collection[Way]]) -> dict[Way, str]:
    """Return way -> name of its row; empty if there is only one way on each task."""
    telling = telling_parts(groups)
    if not telling:
        return {}
    labels = {way: label(way, telling) for group in groups for way in group}
    untaught = {way: text for way, text in labels.items() if not _has(way, _TEACHER)}
    plain = {way: text for way, text in untaught.items() if dict(way)[_NAME] == "standard" and not _has(way, _CHANGE)}
    bare = next((set(some.values()) for some in (untaught, plain) if len(set(some.values())) == 1), {""})
    return {way: model if text in bare else f"{model} ({text})" for way, text in labels.items()}


def _has(way: Way, part: str) -> bool:
    return any(name.startswith(part) for name, _ in way)


def renamed(line: Line, name: str) -> Line:
    """Return a record of scores with another name of its model, for tables."""
    if name == line.model:
        return line
    return replace(line, record=line.record | {"model": line.record["model"] | {"name": name}})


def _taught_seed_by_seed(lines: Sequence[Line]) -> list[Line]:
    """Return the records with one teacher for all seeds of a model whose seeds each had the teacher of the same seed.

    Such a model was fine-tuned in one way, although the records name as many teachers as it has seeds.
    """
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.model, line.task), []).append(line)
    paired = {
        key for key, of in groups.items() if len({each.record["seed"] for each in of}) > 1 and all(map(_is_paired, of))
    }
    return [_of_all_seeds(line) if (line.model, line.task) in paired else line for line in lines]


def _is_paired(line: Line) -> bool:
    taught = line.record["protocol"].get("distillation") or {}
    return str(taught.get("teacher", "")).endswith(_of_seed(line))


def _of_all_seeds(line: Line) -> Line:
    protocol = line.record["protocol"]
    taught = protocol["distillation"]
    one = taught | {
        "teacher": f"{taught['teacher'].removesuffix(_of_seed(line))} of the same seed",
        "teacher_sha256": "",
    }
    return replace(line, record=line.record | {"protocol": protocol | {"distillation": one}})


def _of_seed(line: Line) -> str:
    return f"-seed{line.record['seed']}"
