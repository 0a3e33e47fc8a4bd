"""The models by kind, in the order of tables; kinds are told by name, as recipes/reproduce.toml gives them."""

from collections.abc import Sequence

from compact_biomed.report.claims import CONTINUAL, DISTILLED, TEACHER

_GROUPS = (
    ("-start", "Start weights, unadapted"),
    ("-mlm", "The students without a teacher"),
    ("-random", "From random weights"),
)


def groups_of(models: Sequence[str]) -> dict[str, list[str]]:
    """Title -> the models of each kind, in the order of the paper's table; kinds without any are left out."""
    found: dict[str, list[str]] = {"Teacher": [], "Distilled": [], "Continually pretrained": [], "General": []}
    found |= {title: [] for _, title in _GROUPS}
    for model in sorted(models, key=lambda name: _place(name)):
        found[_title(model)].append(model)
    return {title: names for title, names in found.items() if names}


def _title(model: str) -> str:
    if model == TEACHER:
        return "Teacher"
    if model in DISTILLED:
        return "Distilled"
    if model in CONTINUAL:
        return "Continually pretrained"
    return next((title for suffix, title in _GROUPS if model.endswith(suffix)), "General")


def _place(model: str) -> tuple[int, str]:
    order = [*DISTILLED, *CONTINUAL]
    base = model.rpartition("-")[0] or model
    return (order.index(base) if base in order else len(order), model)
