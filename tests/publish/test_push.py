"""Cards that hubs can read, checksums in every kept folder, and `push`, which leaves texts of data sets here."""

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard
from score_records import record as score_record
from tiny_checkpoints import make_checkpoint

from compact_biomed import cli
from compact_biomed.compression import to_onnx
from compact_biomed.compression.export import export
from compact_biomed.corpus import hub
from compact_biomed.errors import UsageError, UserError
from compact_biomed.evaluation.api import finetune
from compact_biomed.evaluation.saved import save_model
from compact_biomed.inference.engines import open_engine
from compact_biomed.models.cards import MINILM_ON_HUB, base_model_of, read_front_matter, with_fields
from compact_biomed.models.checkpoints import load_with_head
from compact_biomed.publish import push as pushing
from compact_biomed.publish.contents import without_paths
from compact_biomed.publish.push import push

PRIVATE = "/home/someone/sets/fevers/train.tsv"


def kept_record(kind: str, start: str) -> dict:
    """A record as `evaluate --save` writes it beside the weights, of a set of one's own."""
    record = score_record("tiny: small", "fevers", 3, 81.237)
    record["model"]["start"] = start
    record["task"] |= {"kind": kind, "files": {"train": PRIVATE, "format": "columns"}}
    record["settings"] = {"learning_rate": 1e-4, "max_length": 64}
    record["from"] = {
        "command": f"compact-biomed evaluate --ner-dir={PRIVATE} --save '~/my sets/kept' --data ../sets/x"
    }
    return record


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """kept(head): a folder as `evaluate --save` writes it."""

    @cache
    def make(head: str, kind: str = "ner", start: str = "registry:all-minilm-l6-v2") -> Path:
        root = tmp_path_factory.mktemp("kept")
        checkpoint = load_with_head(str(make_checkpoint(root / "start", head, num_hidden_layers=1)))
        outcome = SimpleNamespace(model=checkpoint.model, tokenizer=checkpoint.tokenizer)
        save_model(root / "kept", outcome, kept_record(kind, start), errors=[{"sentence": "the old fever"}])
        return root / "kept"

    return make


@pytest.fixture(scope="module")
def exported(kept) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_onnx, "EXPORTERS", {"TorchScript": False})  # the faster one
        return export(kept("token"), kept("token").with_name("onnx"), int8=True, license="cc0-1.0").path


def sums_fit(folder: Path) -> bool:
    done = subprocess.run(["sha256sum", "--strict", "--quiet", "-c", "SHA256SUMS"], cwd=folder, capture_output=True)
    return done.returncode == 0


def test_the_card_of_a_saved_model_is_read_by_hubs(kept) -> None:
    text = (kept("token") / "README.md").read_text()
    data = ModelCard(text).data  # raises where the front matter is not what hubs accept
    assert (data.library_name, data.pipeline_tag, data.license) == ("transformers", "token-classification", None)
    assert (data.base_model, data.datasets, data.tags) == (MINILM_ON_HUB, ["fevers"], ["compact-biomed", "ner"])
    assert data.model_name == "tiny: small" and data.language is None  # of a set of one's own it is not known
    scores = {each.metric_type: each for each in data.eval_results}
    assert scores["f1"].metric_value == 81.24 and scores.keys() == {"f1", "precision"}
    assert (scores["f1"].dataset_name, scores["f1"].dataset_split) == ("fevers", "test")
    assert 'aggregation_strategy="first"' in text and "run.py" in text and "load(" in text
    assert "Not stated." in text
    assert sums_fit(kept("token")) and "errors.jsonl" in (kept("token") / "SHA256SUMS").read_text()


@pytest.mark.parametrize(
    ("head", "kind", "tag"),
    [("sequence", "multilabel", "text-classification"), ("span", "qa", "question-answering")],
)
def test_other_kinds_say_how_they_are_used(kept, head: str, kind: str, tag: str) -> None:
    text = (kept(head, kind, "OWNER/encoder") / "README.md").read_text()
    data = ModelCard(text).data
    assert (data.pipeline_tag, data.base_model) == (tag, "OWNER/encoder")
    assert ("top_k=None" in text) == (kind == "multilabel") and "{" not in text.split("## Use")[1].split("```")[0]


def test_a_checkpoint_in_a_folder_derives_from_what_its_card_says(kept, tmp_path: Path) -> None:
    assert base_model_of(kept("token")) == MINILM_ON_HUB
    assert base_model_of(tmp_path) is None and base_model_of(tmp_path / "none") is None
    (tmp_path / "README.md").write_text("---\n[not: yaml\n---\n")
    assert read_front_matter(tmp_path) == {}
    with pytest.raises(UserError, match="front matter cannot be read"):
        with_fields((tmp_path / "README.md").read_text(), {"license": "mit"})


def test_the_card_of_an_export_has_license_and_scores(exported: Path) -> None:
    text = (exported / "README.md").read_text()
    data = ModelCard(text).data
    assert (data.library_name, data.license, data.base_model) == ("onnx", "cc0-1.0", MINILM_ON_HUB)
    assert data.tags == ["compact-biomed", "ner", "onnx", "int8"] and data.pipeline_tag == "token-classification"
    assert data.eval_results[0].metric_name == "f1, percent, before the export"
    assert "| f1 | 81.24 |" in text and "License: cc0-1.0" in text and sums_fit(exported)


def test_a_mirror_gets_what_is_needed_and_no_text_or_path(kept, exported, tmp_path: Path, capsys) -> None:
    mirror = tmp_path / "mirror" / "tiny"
    command = ["push", str(kept("token")), "--repo", str(mirror)]
    assert cli.main([*command, "--dry-run"]) == 0
    listed = capsys.readouterr().err
    assert "model.safetensors" in listed and "KiB" in listed and "left out: errors.jsonl (may hold text" in listed
    assert "license: not stated" in listed and not mirror.parent.exists()
    assert cli.main([*command, "--license", "mit", "--language", "en"]) == 0
    told = capsys.readouterr().err
    assert "4 paths of this machine shortened to the last part, in record.json" in told
    assert {file.name for file in mirror.iterdir()} == {
        *("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"),
        *("README.md", "record.json", "SHA256SUMS"),
    }
    assert sums_fit(mirror) and "someone" not in "".join(file.read_text() for file in mirror.glob("*.json"))
    text = (mirror / "README.md").read_text()
    assert ModelCard(text).data.license == "mit" and ModelCard(text).data.language == ["en"]
    assert ModelCard(text).data.eval_results and "Not stated" not in text and "mit." in text
    record = json.loads((mirror / "record.json").read_text())
    assert record["task"]["files"]["train"] == "train.tsv"
    assert record["from"]["command"] == "compact-biomed evaluate --ner-dir=train.tsv --save kept --data x"
    assert load_with_head(str(mirror)).family == "token"
    pushed = push(exported, mirror.with_name("int8"))  # of an export, the manifest vouches for the copy
    assert open_engine(mirror.with_name("int8")).precision == "int8" and "run.py" in pushed.files
    assert sums_fit(mirror.with_name("int8"))


def test_an_unchanged_copy_is_replaced_and_nothing_else(kept, tmp_path: Path) -> None:
    mirror = tmp_path / "tiny"
    push(kept("token"), mirror)
    push(kept("token"), mirror, include=["errors.jsonl"])
    assert (mirror / "errors.jsonl").is_file() and sums_fit(mirror)
    with pytest.raises(UserError, match=r"tiny/errors\.jsonl: no such file in this folder"):
        push(kept("token"), mirror, include=[str(mirror / "errors.jsonl")])
    (mirror / "notes.md").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.md: changed since it was published"):
        push(kept("token"), mirror)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else than a published model"):
        push(kept("token"), tmp_path / "other")
    with pytest.raises(UserError, match="the model's own folder"):
        push(kept("token"), kept("token"))


def test_checksums_are_checked_first(kept, tmp_path: Path) -> None:
    folder = shutil.copytree(kept("token"), tmp_path / "copy")
    (folder / "README.md").write_text("---\nlicense: mit\n---\nMy card.\n")  # the card is for the user to edit
    (folder / "LICENSE").write_text("mine")
    (folder / "weights.bin").write_text("mine")
    assert push(folder, tmp_path / "m", dry_run=True).left_out == {
        "errors.jsonl": "may hold text of a data set",
        "weights.bin": "added since the folder was written",
    }
    for name, harm, message in (
        ("config.json", lambda path: path.write_text("{}"), "not the file that SHA256SUMS lists"),
        ("tokenizer.json", Path.unlink, "missing"),
    ):
        harm(folder / name)
        with pytest.raises(UserError, match=rf"{name}: {message}"):
            push(folder, tmp_path / "m")
        shutil.copyfile(kept("token") / name, folder / name)
    for folder, repo, message in (
        (tmp_path / "none", "a/b", "no such folder"),
        (tmp_path, "a/b", "no config.json"),
        (kept("token"), "name", "neither OWNER/NAME nor a folder"),
        (kept("token"), "a/b/c", "neither OWNER/NAME nor a folder"),
    ):
        with pytest.raises(UserError, match=message):
            push(folder, repo, dry_run=True)
    assert not (tmp_path / "m").exists()


def test_a_hub_gets_one_commit_in_a_private_repository(kept, monkeypatch, capsys) -> None:
    calls = []

    class Hub:
        endpoint = "https://hub"

        def create_repo(self, repo: str, **options) -> None:
            calls.append((repo, options))

        def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
            calls.append((repo_id, sorted(path.name for path in Path(folder_path).iterdir())))

    monkeypatch.setattr(pushing, "HfApi", Hub)
    monkeypatch.setattr(hub, "is_reachable", lambda: True)
    assert push(kept("token"), "OWNER/tiny").where == "https://hub/OWNER/tiny"
    assert calls[0] == ("OWNER/tiny", {"private": True, "exist_ok": True})
    assert "errors.jsonl" not in calls[1][1] and {"README.md", "SHA256SUMS", "model.safetensors"} <= set(calls[1][1])
    monkeypatch.setattr(Hub, "create_repo", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("no route")))
    assert cli.main(["push", str(kept("token")), "--repo", "OWNER/tiny"]) == 1
    assert "OWNER/tiny: nothing was published: the hub cannot be reached (check" in capsys.readouterr().err
    monkeypatch.setattr(hub, "is_reachable", lambda: False)
    assert cli.main(["push", str(kept("token")), "--repo", "OWNER/tiny"]) == 1
    assert "OWNER/tiny: nothing was published: the hub cannot be reached (check" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "shortened", "number"),
    [
        ("/home/me/my sets/train.tsv", "train.tsv", 1),
        ("~/sets/", "sets", 1),
        ("../../me/model", "model", 1),
        ("teacher /home/me/kept/big, seed 1", "teacher big, seed 1", 1),
        ({"a": ["/a/b", 3, None], "b": {"c": "../x"}}, {"a": ["b", 3, None], "b": {"c": "x"}}, 2),
        ({"command": "x --data '/home/my sets/a' b"}, {"command": "x --data a b"}, 1),
        ({"command": "x --data '/a/b"}, {"command": "x --data 'b"}, 1),
        ({"id2label": {"0": "/home/x"}, "labels": ["~/x"]}, {"id2label": {"0": "/home/x"}, "labels": ["~/x"]}, 0),
        *((text, text, 0) for text in ("https://hub/OWNER/x", "runs/a/model", "hub:A/b", "and/or", "3 / 4", "/", "~")),
    ],
)
def test_paths_become_their_last_part(value: object, shortened: object, number: int) -> None:
    assert without_paths(value) == (shortened, number)


def test_the_license_of_a_kept_model_is_that_of_its_export_and_of_its_copy(kept, tmp_path: Path, monkeypatch) -> None:
    checkpoint = load_with_head(str(kept("token")))
    outcome = SimpleNamespace(model=checkpoint.model, tokenizer=checkpoint.tokenizer)
    save_model(tmp_path / "kept", outcome, kept_record("ner", "registry:all-minilm-l6-v2"), license="mit")
    card = (tmp_path / "kept" / "README.md").read_text()
    assert ModelCard(card).data.license == "mit" and "## License\n\nmit.\n" in card
    monkeypatch.setattr(to_onnx, "EXPORTERS", {"TorchScript": False})
    export(tmp_path / "kept", tmp_path / "onnx")
    assert "License: mit.\n" in (tmp_path / "onnx" / "README.md").read_text()
    for folder in ("kept", "onnx"):
        push(tmp_path / folder, tmp_path / "same" / folder)
        push(tmp_path / folder, tmp_path / "other" / folder, license="cc0-1.0")
        before, after = ((tmp_path / name / folder / "README.md").read_text() for name in ("same", "other"))
        assert [ModelCard(text).data.license for text in (before, after)] == ["mit", "cc0-1.0"]
        assert "mit." not in after.replace("limit", "") and "cc0-1.0.\n" in after
    with pytest.raises(UsageError, match="'MIT License' is no identifier of a license"):
        push(tmp_path / "kept", tmp_path / "x", license="MIT License")
    for save, license, message in ((None, "mit", "no model is saved"), (tmp_path / "s", "a b", "no identifier")):
        with pytest.raises(UsageError, match=message):
            finetune(str(kept("token")), "HoC", records=tmp_path / "r.jsonl", save=save, license=license)
