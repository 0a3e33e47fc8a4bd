"""`export`: the ONNX model says what the PyTorch model says, and runs without this package."""
# ruff: noqa: RUF001

import functools
import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from tiny_checkpoints import AUTO_CLASSES, build_tokenizer, make_checkpoint

from compact_biomed import cli
from compact_biomed.compression import export, to_onnx
from compact_biomed.compression.manifest import write_manifest
from compact_biomed.errors import UserError, from_os_error
from compact_biomed.inference.model import load

TEXT = "the kinase of Müller–frogs and fevers in the µg of é frogs."


@pytest.fixture(scope="module")
def each_graph_once() -> Iterator[None]:
    """torch's exporter takes seconds: what it wrote for a checkpoint serves the next export of it."""
    right, known = to_onnx.write_onnx, {}

    def write_onnx(checkpoint, path: Path, example) -> str:
        if checkpoint.name not in known:
            exporter = right(checkpoint, path, example)
            known[checkpoint.name] = path.read_bytes(), exporter
        path.write_bytes(known[checkpoint.name][0])
        return known[checkpoint.name][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_onnx, "write_onnx", write_onnx)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, each_graph_once):
    """made(head, model_type, int8): a checkpoint and its export, each made once."""

    @functools.cache
    def checkpoint(head: str, model_type: str) -> Path:
        # Each architecture is traced with two layers; for BERT's other heads one is enough.
        options = {} if head == "token" else {"num_hidden_layers": 1}
        return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), head, model_type, **options)

    @functools.cache
    def make(head: str, model_type: str = "bert", int8: bool = False) -> tuple[Path, Path]:
        source, output = checkpoint(head, model_type), tmp_path_factory.mktemp("export") / "onnx"
        result = export.export(source, output, int8=int8)
        assert result.path == output and result.size == (output / "model.onnx").stat().st_size
        assert result.manifest == json.loads((output / "manifest.json").read_text())
        assert result.difference.largest == result.manifest["difference"]["largest"]
        return source, output

    return make


def both(checkpoint: Path, exported: Path, head: str, ids: torch.Tensor, mask: torch.Tensor):
    """Logits of transformers' own model, and of onnxruntime."""
    import transformers

    model = getattr(transformers, AUTO_CLASSES[head]).from_pretrained(checkpoint).eval()
    with torch.no_grad():
        output = model(input_ids=ids, attention_mask=mask)
    expected = torch.stack([output.start_logits, output.end_logits], -1) if head == "span" else output.logits
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    session = onnxruntime.InferenceSession(exported / "model.onnx", providers=["CPUExecutionProvider"])
    feed = {each.name: given[each.name].numpy() for each in session.get_inputs()}
    return expected.numpy(), session.run(None, feed)[0]


@pytest.mark.parametrize(
    ("head", "model_type"),
    [
        ("mlm", "bert"),
        ("token", "bert"),
        ("sequence", "bert"),
        ("span", "bert"),
        ("token", "distilbert"),
        ("token", "mobilebert"),
    ],
)
def test_the_same_logits_at_any_batch_and_length(made, head: str, model_type: str) -> None:
    checkpoint, exported = made(head, model_type)
    generator = torch.Generator().manual_seed(0)
    for rows, length in ((1, 3), (1, 64), (3, 17), (7, 33)):
        ids = torch.randint(5, 60, (rows, length), generator=generator)
        mask = torch.ones_like(ids)
        mask[rows // 2, length - length // 3 :] = 0
        expected, found = both(checkpoint, exported, head, ids, mask)
        np.testing.assert_allclose(found, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("head", "model_type"), [("token", "bert"), ("sequence", "bert"), ("span", "bert"), ("token", "mobilebert")]
)
def test_its_vectors_are_those_of_the_encoder(made, head: str, model_type: str) -> None:
    checkpoint, exported = made(head, model_type)
    texts = [TEXT, "fevers", TEXT * 9]
    expected, model = load(checkpoint, precision="fp32").embed(texts), load(exported)
    np.testing.assert_allclose(model.embed(texts), expected, atol=1e-5)
    if (head, model_type) in (("token", "bert"), ("sequence", "bert")):
        _, smaller = made(head, int8=True)
        assert 0 < np.abs(load(smaller).embed(texts) - expected).max() < 0.2 * np.abs(expected).max()


def test_the_folder_is_whole_and_says_what_is_in_it(made) -> None:
    _, exported = made("token")
    about = json.loads((exported / "manifest.json").read_text())
    files = {file.name for file in exported.iterdir()} - {"manifest.json", "SHA256SUMS"}
    assert {"model.onnx", "tokenizer.json", "config.json", "README.md", "run.py"} <= files == set(about["sha256"])
    for name, value in about["sha256"].items():
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == value
    assert about["labels"] == ["B-Disease", "B-Gene", "I-Disease", "I-Gene", "O"] and about["max_length"] == 64
    assert str(Path(__file__).parents[2]).encode() not in (exported / "model.onnx").read_bytes()  # in no stack trace
    assert about["exporter"] == "torch.export" and about["difference"]["relative"] < 1e-4


def test_it_has_its_own_precision_and_is_used_as_it_was_written(made, tmp_path, capsys) -> None:
    folder = str(shutil.copytree(made("token")[1], tmp_path / "exported"))
    assert cli.main(["predict", "--model", folder, "--precision", "bf16", __file__]) == 2
    assert "the model is an export in fp32 (leave it out)" in capsys.readouterr().err
    (tmp_path / "exported" / "tokenizer_config.json").write_text("{}")
    assert cli.main(["predict", "--model", folder, __file__]) == 1
    assert "tokenizer_config.json: not the file that was exported" in capsys.readouterr().err


ALONE = """
import runpy, sys
for name in ("compact_biomed", "torch", "transformers", "onnx"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_alone(folder: Path, *arguments: str) -> list[list[str]]:
    """What run.py prints where neither this package nor torch nor transformers can be imported."""
    command = [sys.executable, "-c", ALONE, str(folder / "run.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONIOENCODING": "utf-8"})
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_it_runs_without_this_package(made) -> None:
    _, exported = made("token")
    entities = load(exported).entities(TEXT)
    assert entities and run_alone(exported, TEXT) == [[str(e.start), str(e.end), e.label, e.text] for e in entities]
    _, exported = made("sequence")
    labels = load(exported).classify(TEXT)
    assert run_alone(exported, TEXT) == [[each.label, f"{each.score:.4f}"] for each in labels]
    _, exported = made("span")
    best = load(exported).answers("of what?", TEXT)[0]
    assert run_alone(exported, "of what?", TEXT) == [[str(best.start), str(best.end), best.text]]
    _, exported = made("mlm")
    (words,) = run_alone(exported, "the [MASK] of frogs")
    assert len(words) == 5 and all(word in build_tokenizer().get_vocab() for word in words)


def test_alone_each_answer_is_one_line_of_fields(made) -> None:
    _, exported = made("token")
    text = TEXT.replace(" ", "\n\t")
    found = [[str(e.start), str(e.end), e.label, " ".join(e.text.split())] for e in load(exported).entities(text)]
    assert found and run_alone(exported, text) == found


@pytest.mark.parametrize(("head", "arguments"), [("token", ()), ("token", ("a", "b")), ("span", ("what?",))])
def test_alone_it_says_what_it_needs(made, head: str, arguments: tuple[str, ...]) -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        run_alone(made(head)[1], *arguments)
    assert "python run.py" in error.value.stderr and "Traceback" not in error.value.stderr


@pytest.mark.parametrize("head", ["token", "mlm"])
def test_int8_is_near_and_smaller(made, head: str) -> None:
    _, whole = made(head)
    _, exported = made(head, int8=True)
    about = json.loads((exported / "manifest.json").read_text())
    assert about["precision"] == "int8" and about["difference"]["relative"] < to_onnx.TOLERANCE["int8"]
    assert (exported / "model.onnx").stat().st_size < (whole / "model.onnx").stat().st_size
    assert {file.name for file in exported.iterdir()} == {file.name for file in whole.iterdir()}


def test_int8_does_not_depend_on_the_company(made) -> None:
    _, exported = made("token", int8=True)
    one, two = (load(exported, window=32, threads=n) for n in (1, 2))
    text = TEXT * 5
    assert one.entities(text) == two.entities(text)
    two.entities("frogs " * 300)
    assert one.entities(text) == two.entities(text)


def test_exported_and_plain_predict_alike(made) -> None:
    checkpoint, exported = made("token")
    plain = load(checkpoint, window=32, precision="fp32").entities(TEXT * 6)
    onnx = load(exported, window=32).entities(TEXT * 6)
    assert [e[:3] for e in plain] == [e[:3] for e in onnx]
    np.testing.assert_allclose([e.score for e in plain], [e.score for e in onnx], atol=1e-5)


def test_a_wrong_export_is_refused_and_leaves_nothing(made, tmp_path, monkeypatch) -> None:
    checkpoint, _ = made("token")
    kept = tmp_path / "out"
    kept.mkdir()
    (kept / "manifest.json").write_text("before")  # an earlier export
    right = to_onnx.run_onnx
    monkeypatch.setattr(export, "run_onnx", lambda *args: [logits + 0.1 for logits in right(*args)])
    with pytest.raises(UserError, match="is allowed, and nothing was written"):
        export.export(str(checkpoint), kept)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out"]
    assert (kept / "manifest.json").read_text() == "before"


def signed(folder: Path) -> Path:
    """The folder, with a manifest that vouches for its files as they are now."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").unlink()
    for made in ("format", "sha256", "manifest_sha256"):
        del manifest[made]
    write_manifest(folder, manifest)
    return folder


@pytest.mark.parametrize("int8", [False, True])
def test_an_export_with_a_weight_that_is_no_number_is_refused(made, tmp_path, int8: bool) -> None:
    import onnx

    folder = shutil.copytree(made("token", int8=int8)[1], tmp_path / "copy")
    model = onnx.load(folder / "model.onnx")
    tensor = next(t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.raw_data) > 4)
    tensor.raw_data = np.full(len(tensor.raw_data) // 4, np.nan, np.float32).tobytes()
    onnx.save(model, folder / "model.onnx")
    with pytest.raises(UserError, match=re.escape(f"numbers in {tensor.name} are not finite")):
        load(signed(folder))
    with pytest.raises(subprocess.CalledProcessError) as error:
        run_alone(folder, TEXT)
    assert error.value.returncode == 1 and not error.value.stdout
    assert "not finite" in error.value.stderr and error.value.stderr.count("\n") == 1


@pytest.fixture
def copy(made, tmp_path) -> Path:
    return shutil.copytree(made("token")[1], tmp_path / "copy")


@pytest.mark.parametrize("name", ["model.onnx", "run.py", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_file_that_was_changed_or_removed_is_refused(copy: Path, name: str) -> None:
    with (copy / name).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(UserError, match=f"{name}: not the file that was exported"):
        load(copy)
    (copy / name).unlink()
    with pytest.raises(UserError, match=f"{name}: not the file that was exported"):
        load(copy)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_alone_it_refuses_files_that_were_changed(copy: Path, name: str) -> None:
    with (copy / name).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(subprocess.CalledProcessError) as error:
        run_alone(copy, TEXT)
    said = error.value.stderr
    assert error.value.returncode == 1 and f"{name}: not the file that was exported" in said and said.count("\n") == 1


@pytest.mark.parametrize("name", ["added_tokens.json", "vocab.txt", "chat_template.jinja", "model.onnx.data", "folder"])
def test_a_file_that_was_added_is_refused(copy: Path, name: str) -> None:
    (copy / name).mkdir() if name == "folder" else (copy / name).write_text("{}")
    with pytest.raises(UserError, match=f"{name}: not part of the export"):
        load(copy)


def test_what_is_neither_read_nor_run_may_change(copy: Path) -> None:
    for name in ("README.md", "SHA256SUMS"):
        (copy / name).write_text("mine")
    (copy / ".hidden").write_text("")
    (copy / "__pycache__").mkdir()
    assert load(copy).entities(TEXT)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("labels", ["O", "B-Gene", "I-Gene", "B-Disease", "I-Disease"], "it was changed"),  # other names, same outputs
        ("max_length", 8, "it was changed"),
        ("labels", "O", "labels: must be a list of strings, not 'O'"),
        ("inputs", ["input_ids", "else"], "unknown inputs ['input_ids', 'else']"),
        ("max_length", "64", "max_length: must be a whole number of at least 1, not '64'"),
        ("precision", 8, "precision: must be a string, not 8"),
        ("precision", "fp8", "unknown precision 'fp8'"),
        ("sha256", [], "sha256: must be a table, not []"),
        ("sha256", {"model.onnx": 3}, "sha256.model.onnx: must be a string, not 3"),
        ("problem_type", 3, "problem_type: must be a string or null, not 3"),
        ("manifest_sha256", None, "it was changed"),
    ],
)
def test_a_manifest_that_was_changed_is_refused(copy: Path, name: str, value: object, message: str) -> None:
    path = copy / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(UserError, match=rf"manifest\.json: .*{re.escape(message)} \(export the model again\)"):
        load(copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("[]", "must be a table, not []"),
        ("3", "must be a table, not 3"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON: nested too deep"),
        ("{}", "not the manifest of an export: format None"),
        ('{"format": []}', "not the manifest of an export: format []"),
    ],
)
def test_what_is_no_manifest_is_one_line(copy: Path, text: str, message: str) -> None:
    (copy / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=rf"manifest\.json:.* {re.escape(message)}.* \(export the model again\)"):
        load(copy)


def test_every_damage_is_one_line_that_names_the_file(copy: Path) -> None:
    """200 seeded faults: a bit changed, the file cut, doubled, emptied, replaced by another or by a folder."""
    chance, manifest = random.Random(0), (copy / "manifest.json").read_bytes()
    files = sorted(path for path in copy.iterdir() if path.is_file() and path.name not in ("README.md", "SHA256SUMS"))
    for number in range(200):
        path = chance.choice(files)
        whole = path.read_bytes()
        place = chance.randrange(len(whole))
        changed = bytes([whole[place] ^ (1 << chance.randrange(8))])
        damaged = chance.choice(
            [whole[:place] + changed + whole[place + 1 :], whole[:place], whole * 2, b"", b"\0" * 9, b"null", None]
        )
        path.unlink()
        path.mkdir() if damaged is None else path.write_bytes(damaged)
        try:
            load(copy)
        except UserError as error:
            said = str(error)
        except OSError as error:
            said = str(from_os_error(error))
        else:  # white space of the manifest, which means the same
            assert path.name == "manifest.json" and json.loads(damaged) == json.loads(manifest), number
            said = path.name
        assert path.name in said and "\n" not in said, (number, said)
        path.rmdir() if damaged is None else path.unlink()
        path.write_bytes(whole)


def test_exports_of_earlier_versions_are_read(copy: Path) -> None:
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text()) | {"format": "compact-biomed-onnx-1"}
    path.write_text(json.dumps({key: value for key, value in manifest.items() if key != "manifest_sha256"}))
    assert load(copy).entities(TEXT)


def test_what_cannot_be_exported_is_one_line(tmp_path, capsys) -> None:
    from transformers import AutoModel

    headless = make_checkpoint(tmp_path / "m", "token")
    AutoModel.from_pretrained(headless).save_pretrained(headless)
    assert cli.main(["export", "--model", str(headless), "--output", str(tmp_path / "o")]) == 1
    assert "no head that can be used (architecture: BertModel)" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
    whole = make_checkpoint(tmp_path / "n", "token")
    assert cli.main(["export", "--model", str(whole), "--output", str(whole)]) == 1
    assert "the checkpoint itself" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["folder", "file"])
def test_what_is_no_export_is_not_replaced(tmp_path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    kept = [tmp_path / "folder" / "notes.txt", tmp_path / "file"]
    for path in kept:
        path.write_text("mine")
    checkpoint = make_checkpoint(tmp_path / "checkpoint", "token")
    with pytest.raises(UserError, match="something else than an export"):
        export.export(str(checkpoint), tmp_path / name)
    assert all(path.read_text() == "mine" for path in kept)
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file", "checkpoint"}
