"""Release folders: a trained model with tokenizer, card, record and checksums, checked against the records."""

import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from compact_biomed.console import say, size
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_folder, sha256_file
from compact_biomed.records import Line, read_lines, score_lines
from compact_biomed.report.cards import MINILM, release_card
from compact_biomed.report.family import FAMILY, TEACHER
from compact_biomed.reproduce.plan import Plan, Training

SUMS = "SHA256SUMS"
WEIGHTS = "model.safetensors"
RECORD = "record.json"
CARD = "README.md"
_KINDS = {".safetensors", ".json", ".txt"}  # weights, configuration, tokenizer


def release(plan: Plan, folder: Path, only: Collection[str] = ()) -> int:
    """Make a folder for each trained model of the family, or of those that are named; tell.

    Args:
        folder: gets a folder NAME for each model.
        only: names; a control too.

    Returns:
        Exit status: 1 if one could not be made.

    Raises:
        UserError: none of the models is trained.
    """
    trainings = {step.model.name: step for step in plan.steps if isinstance(step, Training)}
    wanted = [step for name, step in trainings.items() if name in (set(only) & trainings.keys() or FAMILY)]
    trained = [step for step in wanted if step.done()]
    if not trained:
        names = ", ".join(step.model.name for step in wanted) or "no model"
        raise UserError(f"{names}: not trained yet", where=plan.places.runs, remedy="run the reproduction first")
    lines, failed = _scores(plan.places.evaluation, trainings), []
    for step in trained:
        name = step.model.name
        try:
            made = write_release(folder / name, step, _card(step, trainings, lines))
        except UserError as error:
            say(f"failed: {error}")
            failed.append(name)
        else:
            say(f"{name}: {made}, {size(sum(each.stat().st_size for each in made.iterdir()))}")
    _tell(folder, trained, wanted, failed)
    return 1 if failed else 0


def write_release(target: Path, step: Training, card: str) -> Path:
    """Write one release folder, whole or not at all; a former release of the same weights is replaced.

    Raises:
        UserError: the weights are not those of the training's record, or something else stands there.
    """
    weights = step.weights()
    _refuse_other_content(target, weights)
    with atomic_folder(target) as temporary:
        for file in sorted((step.folder / "model").iterdir()):
            if file.suffix in _KINDS:
                shutil.copyfile(file, temporary / file.name)
        if not (temporary / WEIGHTS).is_file() or sha256_file(temporary / WEIGHTS) != weights:
            raise UserError(
                f"not the weights of {step.folder / RECORD} ({weights[:12]}...)",
                where=step.folder / "model" / WEIGHTS, remedy="train the model again",
            )  # fmt: skip
        shutil.copyfile(step.folder / RECORD, temporary / RECORD)
        (temporary / CARD).write_text(card, encoding="utf-8")
        sums = "".join(f"{sha256_file(file)}  {file.name}\n" for file in sorted(temporary.iterdir()))
        (temporary / SUMS).write_text(sums, encoding="utf-8")
    return target


def _refuse_other_content(target: Path, weights: str) -> None:
    """Raise a `UserError` if anything but an untouched release of these weights stands there."""
    if not target.exists():
        return
    listed = _listed(target / SUMS)
    if WEIGHTS not in listed or RECORD not in listed:
        raise UserError("this is no release folder of ours", where=target, remedy="name another folder")
    if listed[WEIGHTS] != weights:
        raise UserError(
            f"a release of other weights ({listed[WEIGHTS][:12]}...) stands here", where=target,
            remedy="name another folder, or move it away",
        )  # fmt: skip
    there = {str(file.relative_to(target)): file for file in target.rglob("*") if file.is_file()}
    del there[SUMS]
    if there.keys() != listed.keys() or any(sha256_file(there[name]) != digest for name, digest in listed.items()):
        raise UserError(
            "this release was changed by hand since it was made", where=target,
            remedy="name another folder, or move it away",
        )  # fmt: skip


def _listed(sums: Path) -> dict[str, str]:
    """Name -> digest of a file as sha256sum writes it; nothing if it is none."""
    if not sums.is_file():
        return {}
    pairs = (line.partition("  ") for line in sums.read_text(encoding="utf-8", errors="replace").splitlines())
    return {name: digest for digest, _, name in pairs}


def _scores(records: Path, trainings: Mapping[str, Training]) -> list[Line]:
    """The scores of these very weights; those of others under the same names are left out, and counted."""
    found = score_lines(read_lines([records], missing_ok=True))
    weights = {name: step.weights() for name, step in trainings.items()}
    own = [line for line in found if line.model in weights]
    these = [line for line in own if line.record["model"]["weights_sha256"] == weights[line.model]]
    if len(these) < len(own):
        say(f"{records}: {len(own) - len(these)} records are of other weights than those trained here, and left out")
    return these


def _card(step: Training, trainings: Mapping[str, Training], lines: Sequence[Line]) -> str:
    mine = [line for line in lines if line.model in (step.model.name, TEACHER)]
    derived = any(MINILM in (each.record()["start_sha256"] or {}) for each in _ancestors(step))
    return release_card(step.model.name, step.record(), mine, reference=TEACHER, derived=derived)


def _ancestors(step: Training) -> Iterable[Training]:
    """The training itself, its teacher's, and so on."""
    each: Training | None = step
    while each:
        yield each
        each = each.needs


def _tell(folder: Path, trained: Sequence[Training], wanted: Sequence[Training], failed: Sequence[str]) -> None:
    if missing := [step.model.name for step in wanted if step not in trained]:
        say(f"Not trained yet: {', '.join(missing)}.")
    if failed:
        say(f"{len(failed)} could not be released, as said above: {', '.join(failed)}.")
    done = [step.model.name for step in trained if step.model.name not in failed]
    if done:
        say(f"\nNext: (cd {folder / done[0]} && sha256sum -c {SUMS}); transformers and hubs take each folder as it is.")
