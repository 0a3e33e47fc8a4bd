"""A release is complete, checked against the records, opens elsewhere, and replaces nothing else."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from score_records import record as score_record
from score_records import with_counts, write
from small_plan import TEXT, declared, paths_in
from tiny_checkpoints import make_checkpoint

from compact_biomed.compression import export
from compact_biomed.errors import UserError
from compact_biomed.files import sha256_file
from compact_biomed.reproduce import plan, release
from compact_biomed.reproduce.plan import ReproductionPlan

NAMED = TEXT.replace("Teacher", "BioMiniLM").replace("Student", "DistilBioBERT")
MODELS = ("BioMiniLM", "DistilBioBERT")


@pytest.fixture(autouse=True)
def no_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMPACT_BIOMED_DATA", raising=False)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("tiny") / "model", "mlm")


@pytest.fixture
def trained_plan(tmp_path: Path, checkpoint: Path) -> ReproductionPlan:
    """A plan whose teacher and student are trained, whose third model is not."""
    for name in MODELS:
        folder = tmp_path / "runs" / name
        shutil.copytree(checkpoint, folder / "model")
        weights = folder / "model" / "model.safetensors"
        if name == "DistilBioBERT":  # other weights: the metadata of safetensors is free
            content = weights.read_bytes()
            weights.write_bytes(content.replace(b'{"format":"pt"}', b'{"format":"PT"}'))
        (folder / "model" / "README.md").write_text("the card of the run")
        (folder / "record.json").write_text(json.dumps(training_record(name, tmp_path / "runs")))
    return plan.make_plan(declared(tmp_path, NAMED), paths_in(tmp_path))


def training_record(name: str, runs: Path) -> dict:
    row = {"loss": 2.0, "accuracy": 0.25, "documents": 10}
    taught = name == "DistilBioBERT"
    science = {"preset": "mini", "max_steps": 4, "batch_size": 2, "seed": 1, "start": "random", "recipe": "r"}
    start = {"registry:all-minilm-l6-v2": "ab" * 32}
    if taught:
        digest = sha256_file(runs / "BioMiniLM" / "model" / "model.safetensors")
        science |= {"start": "teacher", "teacher": "runs/BioMiniLM/model", "teacher_sha256": digest, "loss": "distil"}
        start = {"teacher": digest}
    found = {"documents": 7, "n_words": 13, "shortest_text": 8, "benchmarks": {"GAD": {"documents": 7}}}
    corpus = {"decontamination": found, "train": {"documents": 30, "tokens": 4_000}}
    corpus["sources"] = [{"name": name, "sha256": "cd" * 32} for name in ("registry:a.xml.gz", "/home/me/b.jsonl")]
    return {
        "kind": "distillation" if taught else "pretraining",
        "hyperparameters": science,
        "corpus": corpus,
        "start_sha256": start,
        "speed": {"device": "a processor"},
        "parameters": 12_345,
        "tokens": 618_155,
        "heldout": {"unigram": row, "before": row, "after": row},
        "from": {
            "revision": "0123abcd" * 5,
            "clean": True,
            "versions": {"compact-biomed": "0"},
            "command": "python recipes/r.py",
            "date": "2026-11-22T10:00:00+00:00",
        },
        "weights_sha256": sha256_file(runs / name / "model" / "model.safetensors"),
    }


def scores(trained_plan: ReproductionPlan, hits: dict[str, float]) -> None:
    """Records of three seeds a model on one task, by the weights that are there."""
    folder = trained_plan.paths.evaluation.parent
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for name, hit in hits.items():
        weights = json.loads((trained_plan.paths.runs / name / "record.json").read_text())["weights_sha256"]
        for seed in (1, 2, 3):
            found = np.random.default_rng(seed).binomial(1, hit, 200)
            rows = np.stack([found, np.zeros(200, int), 1 - found], 1)
            f1 = 200 * found.sum() / (found.sum() + 200)
            each = score_record(name, "GAD", seed, float(f1), weights_sha256=weights)
            records.append(with_counts(folder, each, ("tp", "fp", "fn"), rows))
    write(trained_plan.paths.evaluation, *records)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_release_is_checked_by_sha256sum_and_opened_by_transformers(
    trained_plan: ReproductionPlan, tmp_path: Path, capsys
) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    out = tmp_path / "out"
    assert release.release(trained_plan, out) == 0
    stderr = capsys.readouterr().err
    assert (
        names(out) == list(MODELS) and str(out / "BioMiniLM") in stderr and "KiB" in stderr and "sha256sum -c" in stderr
    )
    for name in MODELS:
        folder = out / name
        done = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        listed = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
        assert listed == set(names(folder)) - {"SHA256SUMS"}
        assert {"README.md", "config.json", "model.safetensors", "record.json", "tokenizer.json"} <= listed
    _, info = AutoModelForMaskedLM.from_pretrained(out / "BioMiniLM", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert AutoTokenizer.from_pretrained(out / "BioMiniLM").mask_token == "[MASK]"


def test_a_released_model_is_exported(trained_plan: ReproductionPlan, tmp_path: Path, capsys) -> None:
    assert release.release(trained_plan, tmp_path / "out") == 0
    exported = export.export(tmp_path / "out" / "BioMiniLM", tmp_path / "onnx").path
    assert (exported / "model.onnx").is_file() and not (exported / "record.json").exists()
    assert "compact-biomed score" not in capsys.readouterr().err  # its record is that of a training


def test_the_card_has_scores_origin_and_limits(trained_plan: ReproductionPlan, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    scores(trained_plan, {"BioMiniLM": 0.8, "DistilBioBERT": 0.6})
    assert release.release(trained_plan, tmp_path / "out") == 0
    text = (tmp_path / "out" / "DistilBioBERT" / "README.md").read_text()
    data = ModelCard(text).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "transformers", "fill-mask")
    assert data.base_model == "sentence-transformers/all-MiniLM-L6-v2" and data.language == ["en"]
    (result,) = data.eval_results  # model-index, as model hubs read it
    assert (result.dataset_name, result.metric_type, result.dataset_split) == ("GAD", "f1", "test")
    assert f"| {result.metric_value:.2f} ± " in text and "3 seeds" in result.metric_name
    (row,) = [line for line in text.splitlines() if line.startswith("| GAD, f1 |")]
    assert row.count("(3)") == 2 and " ± " in row and " % (" in row and " to " in row
    assert "Of the scores of BioMiniLM it retains " in text
    teacher = training_record("DistilBioBERT", tmp_path / "runs")["hyperparameters"]["teacher_sha256"]
    training = ("618,155 tokens", f"sha256 {teacher}", "commit 0123abcd", "registry:a.xml.gz (sha256 cdcd")
    limits = ("GAD 7.", "Not intended for decisions about patients", "Apache 2.0")
    for fact in (*training, *limits):
        assert fact in text
    assert ", b.jsonl (sha256 cdcd" in text and "/home/me" not in text
    own = (tmp_path / "out" / "BioMiniLM" / "README.md").read_text()
    assert "| task, metric | BioMiniLM |\n" in own and "distilled from" not in own


def test_scores_of_other_weights_are_ignored(trained_plan: ReproductionPlan, tmp_path: Path, capsys) -> None:
    scores(trained_plan, {"DistilBioBERT": 0.6})
    lines = trained_plan.paths.evaluation.read_text()
    weights = json.loads(lines.splitlines()[0])["model"]["weights_sha256"]
    trained_plan.paths.evaluation.write_text(lines.replace(weights, "0" * 64))
    assert release.release(trained_plan, tmp_path / "out") == 0
    assert "ignoring 3 records of other weights" in capsys.readouterr().err
    assert "Not measured on any benchmark" in (tmp_path / "out" / "DistilBioBERT" / "README.md").read_text()


def test_weights_that_are_not_the_records_are_refused_and_the_others_released(
    trained_plan: ReproductionPlan, tmp_path: Path, capsys
) -> None:
    with (tmp_path / "runs" / "BioMiniLM" / "model" / "model.safetensors").open("ab") as stream:
        stream.write(b"\0")
    assert release.release(trained_plan, tmp_path / "out") == 1
    stderr = capsys.readouterr().err
    assert (
        "model.safetensors: not the weights of" in stderr
        and "Not released because of the errors above: BioMiniLM" in stderr
    )
    assert names(tmp_path / "out") == ["DistilBioBERT"]


def test_a_release_of_the_same_weights_is_made_anew(trained_plan: ReproductionPlan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert release.release(trained_plan, out) == 0
    before = (out / "DistilBioBERT" / "README.md").read_text()
    scores(trained_plan, {"BioMiniLM": 0.8, "DistilBioBERT": 0.6})
    assert release.release(trained_plan, out) == 0
    assert (out / "DistilBioBERT" / "README.md").read_text() != before


def test_released_weights_are_listed_in_the_results(trained_plan: ReproductionPlan, tmp_path: Path) -> None:
    assert release.release(trained_plan, tmp_path / "one", ["BioMiniLM"]) == 0
    assert release.release(trained_plan, tmp_path / "two", ["DistilBioBERT"]) == 0
    listed = json.loads(trained_plan.paths.releases.read_text())
    assert list(listed) == list(MODELS)
    for name, folder in zip(MODELS, ("one", "two"), strict=True):
        assert listed[name]["weights_sha256"] == sha256_file(tmp_path / folder / name / "model.safetensors")
        assert (listed[name]["seed"], listed[name]["tokens"]) == (1, 618_155)


def list_other_weights(folder: Path) -> None:
    sums = folder / "SHA256SUMS"
    sums.write_text(sums.read_text().replace(sha256_file(folder / "model.safetensors"), "0" * 64))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: (folder / "SHA256SUMS").unlink(), "not a release folder of this project"),
        (lambda folder: (folder / "notes.txt").write_text("mine"), "changed by hand"),
        (lambda folder: (folder / "README.md").write_text("mine"), "changed by hand"),
        (lambda folder: (folder / "config.json").unlink(), "changed by hand"),
        (list_other_weights, "a release of other weights (000000000000...)"),
    ],
)
def test_what_is_not_ours_is_not_replaced(
    trained_plan: ReproductionPlan, tmp_path: Path, harm, message: str, capsys
) -> None:
    out = tmp_path / "out"
    assert release.release(trained_plan, out, ["BioMiniLM"]) == 0
    harm(out / "BioMiniLM")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert release.release(trained_plan, out, ["BioMiniLM"]) == 1
    assert message in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_full_disk_leaves_nothing_half(
    trained_plan: ReproductionPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(release.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        release.release(trained_plan, tmp_path / "out")
    assert names(tmp_path / "out") == []


def test_nothing_trained(tmp_path: Path) -> None:
    empty = plan.make_plan(declared(tmp_path, NAMED), paths_in(tmp_path))
    with pytest.raises(UserError, match="BioMiniLM, DistilBioBERT: not trained yet"):
        release.release(empty, tmp_path / "out")
    with pytest.raises(UserError, match="Alone: not trained yet"):  # a control, by its name
        release.release(empty, tmp_path / "out", ["Alone"])
