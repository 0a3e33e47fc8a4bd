"""Write release folders: a trained model with tokenizer, card, record and checksums, checked against the records."""

import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from compact_biomed.checksums import SUMS, first_change, read_sums, write_sums
from compact_biomed.console import say, size
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_folder, sha256_file, write_json
from compact_biomed.models.cards import CARD
from compact_biomed.models.locate import REGISTRY_MINILM
from compact_biomed.records.lines import RECORD_FILE, Line, read_lines, score_lines
from compact_biomed.report.cards import release_card
from compact_biomed.report.family import FAMILY, TEACHER
from compact_biomed.reproduce.plan import ReproductionPlan
from compact_biomed.reproduce.steps import Training
from compact_biomed.settings import read_json

WEIGHTS = "model.safetensors"
_KINDS = {".safetensors", ".json", ".txt"}  # weights, configuration, tokenizer


def release(plan: ReproductionPlan, folder: Path, only: Collection[str] = ()) -> int:
    """Write one folder per trained model of the family, list their weights in results/, and print what was written.

    Args:
        folder: gets a folder NAME for each model.
        only: names of the models to release instead of the family; controls are allowed.

    Returns:
        Exit status: 1 if a folder could not be written.

    Raises:
        UserError: none of the models is trained.
    """
    trainings = {step.model.name: step for step in plan.steps if isinstance(step, Training) and not step.replicate}
    requested = [step for name, step in trainings.items() if name in (set(only) & trainings.keys() or FAMILY)]
    trained = [step for step in requested if step.here()]
    if not trained:
        names = ", ".join(step.model.name for step in requested) or "no model"
        raise UserError(f"{names}: not trained yet", where=plan.paths.runs, remedy="run the reproduction first")
    lines, failed = _scores(plan.paths.evaluation, trainings), []
    for step in trained:
        name = step.model.name
        try:
            target = write_release(folder / name, step, _card(step, lines))
        except UserError as error:
            say(f"failed: {error}")
            failed.append(name)
        else:
            _list_release(plan.paths.releases, step)
            say(f"{name}: {target}, {size(sum(file.stat().st_size for file in target.iterdir()))}")
    _print_outcome(folder, trained, requested, failed)
    return 1 if failed else 0


def _list_release(path: Path, step: Training) -> None:
    """Put the weights of a release into the list of all released models, in place of those of an earlier one."""
    remedy = "correct or remove it; --release lists what it releases again"
    listed = read_json(path, dict[str, Any], remedy=remedy) if path.is_file() else {}
    record = step.record()
    about = {"recipe": record["hyperparameters"]["recipe"], "seed": record["hyperparameters"]["seed"]}
    about |= {name: record[name] for name in ("parameters", "tokens", "weights_sha256")}
    listed[step.model.name] = about
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, dict(sorted(listed.items())))


def write_release(target: Path, step: Training, card: str) -> Path:
    """Write one release folder completely or not at all; replace an earlier release of the same weights.

    Raises:
        UserError: the weights are not those of the training's record, or `target` has other content.
    """
    weights = step.weights()
    _refuse_other_content(target, weights)
    with atomic_folder(target) as temporary:
        for file in sorted((step.folder / "model").iterdir()):
            if file.suffix in _KINDS:
                shutil.copyfile(file, temporary / file.name)
        if not (temporary / WEIGHTS).is_file() or sha256_file(temporary / WEIGHTS) != weights:
            raise UserError(
                f"not the weights of {step.folder / RECORD_FILE} ({weights[:12]}...)",
                where=step.folder / "model" / WEIGHTS,
                remedy="train the model again",
            )
        shutil.copyfile(step.folder / RECORD_FILE, temporary / RECORD_FILE)
        (temporary / CARD).write_text(card, encoding="utf-8")
        write_sums(temporary)
    return target


def _refuse_other_content(target: Path, weights: str) -> None:
    """Raise a `UserError` if `target` is anything but an unchanged release of these weights."""
    if not target.exists():
        return
    listed = read_sums(target)
    if WEIGHTS not in listed or RECORD_FILE not in listed:
        raise UserError("not a release folder of this project", where=target, remedy="name another folder")
    remedy = "name another folder, or move this one away"
    if listed[WEIGHTS] != weights:
        raise UserError(f"a release of other weights ({listed[WEIGHTS][:12]}...)", where=target, remedy=remedy)
    if first_change(target) is not None:
        raise UserError("this release was changed by hand", where=target, remedy=remedy)


def _scores(records: Path, trainings: Mapping[str, Training]) -> list[Line]:
    """Return the scores of exactly these weights; report how many of other weights under the same names are ignored."""
    lines = score_lines(read_lines([records], missing_ok=True))
    weights = {name: step.weights() for name, step in trainings.items()}
    of_models = [line for line in lines if line.model in weights]
    of_weights = [line for line in of_models if line.record["model"]["weights_sha256"] == weights[line.model]]
    if len(of_weights) < len(of_models):
        say(f"{records}: ignoring {len(of_models) - len(of_weights)} records of other weights than those trained here")
    return of_weights


def _card(step: Training, lines: Sequence[Line]) -> str:
    compared = [line for line in lines if line.model in (step.model.name, TEACHER)]
    derived = any(REGISTRY_MINILM in (training.record()["start_sha256"] or {}) for training in _with_teachers(step))
    return release_card(step.model.name, step.record(), compared, reference=TEACHER, derived=derived)


def _with_teachers(step: Training) -> Iterable[Training]:
    """Yield the training, that of its teacher, and so on."""
    training: Training | None = step
    while training:
        yield training
        training = training.needs


def _print_outcome(
    folder: Path, trained: Sequence[Training], requested: Sequence[Training], failed: Sequence[str]
) -> None:
    if missing := [step.model.name for step in requested if step not in trained]:
        say(f"Not trained yet: {', '.join(missing)}.")
    if failed:
        say(f"Not released because of the errors above: {', '.join(failed)}.")
    done = [step.model.name for step in trained if step.model.name not in failed]
    if done:
        say("\ntransformers and model hubs accept each folder as it is. To check one:")
        say(f"  (cd {folder / done[0]} && sha256sum -c {SUMS})")
