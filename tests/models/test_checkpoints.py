"""Checkpoints: what is rejected, which files are asked for, and that files copied by hand are used."""

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

from compact_biomed.corpus import hub
from compact_biomed.corpus.smoke import smoke_tokenizer_folder
from compact_biomed.errors import UserError
from compact_biomed.models import locate
from compact_biomed.models.checkpoints import (
    check_vocabulary,
    load_masked_lm,
    load_tokenizer,
    load_with_new_head,
    weights_sha256,
)
from compact_biomed.models.locate import find_checkpoint, local_folder, offline_folder

HUB_NAME = "google/mobilebert-uncased"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(smoke_tokenizer_folder())
    sizes = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(AutoConfig.for_model("bert", vocab_size=len(tokenizer), **sizes))
    model.save_pretrained(tmp_path / "checkpoint")
    tokenizer.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def refusal(name: object) -> str:
    with pytest.raises(UserError) as caught:
        load_masked_lm(str(name))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unreachable_hub_says_what_to_bring_where() -> None:
    for attempt in (load_masked_lm, load_tokenizer):
        with pytest.raises(UserError) as caught:
            attempt(HUB_NAME)
        message = str(caught.value)
        assert "\n" not in message
        for words in (HUB_NAME, "config.json", "model.safetensors", "tokenizer", str(offline_folder(HUB_NAME))):
            assert words in message, words


def test_files_copied_there_are_used(checkpoint: Path) -> None:
    folder = offline_folder(HUB_NAME)
    shutil.copytree(checkpoint, folder)
    try:
        assert find_checkpoint(HUB_NAME) == str(folder)
        assert load_masked_lm(HUB_NAME).config.hidden_size == 8
        assert len(load_tokenizer(HUB_NAME)) == 1205
        assert weights_sha256(HUB_NAME) == weights_sha256(str(checkpoint)) is not None
    finally:
        shutil.rmtree(folder)


def test_weights_are_loaded_in_float32_whatever_they_were_saved_in(checkpoint: Path, tmp_path: Path) -> None:
    half = AutoModelForMaskedLM.from_pretrained(checkpoint).to(torch.bfloat16)
    half.save_pretrained(tmp_path / "half")
    assert {p.dtype for p in load_masked_lm(str(tmp_path / "half")).parameters()} == {torch.float32}


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "absent"])
def test_damaged_weights_are_one_line(checkpoint: Path, damage: str) -> None:
    file = checkpoint / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes({"truncated": content[: len(content) // 2], "garbage": b"\xff" * 100}.get(damage, b""))
    if damage == "absent":
        file.unlink()
    message = refusal(checkpoint)
    assert str(checkpoint) in message
    assert "model.safetensors" in message


def test_a_pickle_is_refused_and_not_opened(checkpoint: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    (checkpoint / "model.safetensors").unlink()
    torch.save({"weight": Trap()}, checkpoint / "pytorch_model.bin")
    assert "no pickles are read" in refusal(checkpoint)
    assert not (tmp_path / "executed").exists()


def test_code_beside_a_model_is_not_run(checkpoint: Path, tmp_path: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForMaskedLM": "mine.Model"}}
    (checkpoint / "config.json").write_text(json.dumps(config))
    (checkpoint / "mine.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'executed')!r}).touch()")
    refusal(checkpoint)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("config", ["{", "[]", ""])
def test_a_broken_config_is_one_line(checkpoint: Path, config: str) -> None:
    (checkpoint / "config.json").write_text(config)
    assert str(checkpoint) in refusal(checkpoint)


def test_names_that_can_be_no_checkpoint(tmp_path: Path) -> None:
    assert "registry:all-minilm-l6-v2" in refusal("registry:bert")
    assert "no such folder" in refusal(tmp_path / "absent")
    assert "no such folder" in refusal("a/b/c")
    assert "neither config.json nor tokenizer.json" in refusal(tmp_path)


@pytest.mark.parametrize(
    "architecture", ["BertForTokenClassification", "BertForSequenceClassification", "BertForQuestionAnswering"]
)
def test_a_checkpoint_fine_tuned_for_a_task_is_no_masked_lm(checkpoint: Path, architecture: str, capsys) -> None:
    """Pretraining refuses it; fine-tuning gives its encoder a new head, and says so once."""
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"architectures": [architecture]}))
    for head in ("unused", "wanted", "required"):
        with pytest.raises(UserError, match=rf"fine-tuned for a task already \({architecture}\).*record\.json"):
            load_masked_lm(str(checkpoint), head=head)
    for seed in (1, 2):
        load_with_new_head(str(checkpoint), "token", ["O", "B"], seed=seed)
    assert capsys.readouterr().err.count("its encoder gets a new head") == 1


def test_a_vocabulary_that_does_not_fit_stops(checkpoint: Path) -> None:
    tokenizer, config = AutoTokenizer.from_pretrained(checkpoint), AutoConfig.from_pretrained(checkpoint)
    check_vocabulary(tokenizer, config, where="start")
    for size in (1204, 1206, 30_522):
        config.vocab_size = size
        with pytest.raises(UserError, match="1,205 entries"):
            check_vocabulary(tokenizer, config, where="start")


def test_a_tokenizer_that_lost_its_vocabulary_stops(checkpoint: Path, tmp_path: Path) -> None:
    """transformers makes a tokenizer of five entries of it, to which every word is [UNK]."""
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "tokenizer_config.json"):
        shutil.copy(checkpoint / name, bare / name)
    with pytest.raises(UserError):
        check_vocabulary(load_tokenizer(str(bare)), AutoConfig.from_pretrained(bare), where="start")


@pytest.mark.parametrize("name", ["./toad", "toad", "../pond/toad"])
def test_a_local_folder_takes_precedence_over_files_copied_by_hand(
    checkpoint: Path, tmp_path: Path, monkeypatch, name
) -> None:
    shutil.copytree(checkpoint, tmp_path / "pond" / "toad")
    shutil.copytree(checkpoint, offline_folder("toad"))
    monkeypatch.chdir(tmp_path / "pond")
    try:
        assert Path(find_checkpoint(name)).resolve() == tmp_path / "pond" / "toad"
        monkeypatch.chdir(tmp_path)
        assert find_checkpoint("toad") == str(offline_folder("toad"))
        with pytest.raises(UserError, match="no such folder"):
            find_checkpoint("./toad")
    finally:
        shutil.rmtree(offline_folder("toad"))


@pytest.mark.parametrize("stated", [None, {}, {"do_lower_case": False}, {"do_lower_case": True}])
def test_a_cased_vocabulary_is_not_lower_cased_without_a_word(tmp_path: Path, capsys, stated: dict | None) -> None:
    """BERT's tokenizer lower-cases by default, so that no entry with a capital letter is ever used."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{x}" for x in letters),
        "Fever",
        "Frog",
        "Kin",
    ]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": len(words)}))
    if stated is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(stated))
    if not stated:
        with pytest.raises(UserError, match="do_lower_case") as caught:
            load_tokenizer(str(tmp_path))
        assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
        return
    pieces = load_tokenizer(str(tmp_path)).tokenize("Fever")
    assert (pieces == ["Fever"]) is not stated["do_lower_case"]
    assert ("capital letters" in capsys.readouterr().err) is stated["do_lower_case"]


def test_an_uncased_vocabulary_needs_no_statement(tmp_path: Path, capsys) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", "fever"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": len(words)}))
    assert load_tokenizer(str(tmp_path)).tokenize("Fever") == ["fever"]
    assert not capsys.readouterr().err


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_git_lfs_pointer_is_named(checkpoint: Path, file: str) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (checkpoint / file).write_text(pointer)
    for attempt in (load_masked_lm, load_tokenizer):
        with pytest.raises(UserError, match="Git LFS pointer") as caught:
            attempt(str(checkpoint))
        assert str(checkpoint / file) in str(caught.value) and "lfs pull" in str(caught.value)


def test_a_pickle_alone_is_named_with_a_conversion_that_works(checkpoint: Path, monkeypatch) -> None:
    expected = load_masked_lm(str(checkpoint)).state_dict()
    (checkpoint / "model.safetensors").unlink()
    torch.save(expected, checkpoint / "pytorch_model.bin")
    message = refusal(checkpoint)
    with pytest.raises(UserError, match=r"pytorch_model\.bin only"):
        local_folder(str(checkpoint))
    monkeypatch.chdir(checkpoint)
    exec(message.split('python -c "')[1].split('"')[0], {})
    converted = load_masked_lm(str(checkpoint)).state_dict()
    assert all(torch.equal(converted[name], tensor) for name, tensor in expected.items())


def test_a_mistyped_folder_is_refused_at_once(checkpoint: Path, monkeypatch) -> None:
    monkeypatch.chdir(checkpoint.parent.parent)
    folder = checkpoint.parent.name
    (checkpoint.parent / "file").touch()
    wrong = ("elsewhere/", "two words", "./x", "~/no/x", "a/b/c", "runs/x", "kept/x-seed1", "x-seed12", "x-int8")
    wrong += ("a/checkpoint-40", "a/x.safetensors", f"{folder}/another")
    for name in wrong:
        with pytest.raises(UserError) as caught:
            locate.check_name(name)
        assert str(caught.value) == f"{name}: no such folder (give a checkpoint folder or a hub name owner/model)"
        assert refusal(name) == str(caught.value)
    assert refusal(f"{folder}/chekpoint") == f"{folder}/chekpoint: no such folder (did you mean {folder}/checkpoint?)"
    assert "a file, not a checkpoint folder" in refusal(f"{folder}/file")
    elsewhere = (HUB_NAME, "bert-base-uncased", "owner/x-int8", "registry:all-minilm-l6-v2", "recipe:x")
    for name in (*elsewhere, str(checkpoint)):
        locate.check_name(name)
    begun = time.monotonic()
    assert "no such folder, and the model hub cannot be reached" in refusal("chekpoint")
    assert time.monotonic() - begun < 5


def test_a_hub_that_answers_is_asked(monkeypatch) -> None:
    monkeypatch.setattr(hub, "is_reachable", lambda: True)
    assert locate.for_transformers(HUB_NAME) == (HUB_NAME, {})
    monkeypatch.setattr(hub, "is_reachable", lambda: False)
    assert locate.for_transformers(HUB_NAME) == (HUB_NAME, {"local_files_only": True})
