"""`compact-biomed distill`: a teacher kept by evaluate, its students, their records, and bad input."""

import inspect
import json
import shutil
from pathlib import Path

import pytest
from small_runs import make_checkpoint, make_ner_set

from compact_biomed import cli
from compact_biomed.benchmarks.own import OwnData
from compact_biomed.cli import distill as distill_verb
from compact_biomed.compression.distillation.compress import compress_for_task
from compact_biomed.errors import UserError
from compact_biomed.records.lines import read_lines, score_lines
from compact_biomed.report.measured import measure

FAST = ("--precision", "fp32", "--replicas", "1")
QUICK = ("--learning-rate", "0.01", "--epochs", "3", *FAST)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a set, a teacher for it (kept/big-fevers-seed1) and unlabeled sentences."""
    folder = tmp_path_factory.mktemp("distill")
    make_ner_set(folder / "fevers", n=12)
    make_checkpoint(folder / "big", num_hidden_layers=4)
    records = ["--records", str(folder / "teacher.jsonl"), "--save", str(folder / "kept")]
    flags = ["--model", str(folder / "big"), "--ner-dir", str(folder / "fevers"), *records, *QUICK]
    assert cli.main(["evaluate", *flags]) == 0
    (folder / "text.txt").write_text("old frogs of the mild fever\n\nno fever binds frogs\n")
    (folder / "text.jsonl").write_text('{"text": "a mild fever, of old"}\n')
    return folder


def distill(place: Path, *flags: str) -> int:
    given = ["--ner-dir", str(place / "fevers"), "--teacher", str(place / "kept" / "big-fevers-seed1"), *flags]
    return cli.main(["distill", *given])


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_processes_open_the_teacher_for_themselves(place: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    flags = ["--student", "2", "--unlabeled", str(place / "text.txt"), "--transfer", "hidden", "--seeds", "1,2", *QUICK]
    assert distill(place, *flags, "--records", str(one)) == 0
    assert distill(place, *flags, "--records", str(two), "--jobs", "2") == 0
    runs = [{record["run"]: (record["score"], record["protocol"]) for record in read(path)} for path in (one, two)]
    assert runs[0] == runs[1] and len(runs[0]) == 2


def test_a_student_cut_out_of_the_teacher(place: Path, tmp_path: Path, capsys) -> None:
    records, text = tmp_path / "r.jsonl", [str(place / "text.txt"), str(place / "text.jsonl")]
    flags = ["--student", "2", "--unlabeled", *text, "--records", str(records), "--save", str(tmp_path / "kept")]
    assert distill(place, *flags, "--dry-run", *QUICK) == 0
    said = capsys.readouterr().err
    assert "fevers     15    4     6" in said and "nothing was written" in said  # unlabeled text is trained on, too
    assert "before it learns" not in said and not list(tmp_path.iterdir())
    assert distill(place, *flags, "--temperature", "3", "--seeds", "1,2", *QUICK) == 0
    said = capsys.readouterr().err
    assert "12 labeled and 3 unlabeled" in said and said.count("the teacher reads") == 1  # once for both seeds
    first, second = read(records)
    assert (first["seed"], second["seed"]) == (1, 2)
    assert first["model"]["name"] == "big-fevers-seed1-2-layers"
    told = first["protocol"]["distillation"]
    assert first["protocol"]["name"] == "distilled-standard"
    assert (told["temperature"], told["soft_weight"], told["unlabelled"]) == (3.0, 1.0, 3)
    assert told["terms"] == {"task_loss": 1.0, "soft_kl": 9.0}
    assert len(told["teacher_sha256"]) == len(told["unlabelled_sha256"]) == 64
    folder = tmp_path / "kept" / "big-fevers-seed1-2-layers-fevers-seed1"
    assert json.loads((folder / "record.json").read_text())["run"] == first["run"]
    assert "compact-biomed distill`, teacher big-fevers-seed1" in (folder / "README.md").read_text()
    # The same command makes nothing again; another temperature is another run.
    assert distill(place, *flags, "--temperature", "3", "--seeds", "1,2", *QUICK) == 0
    assert len(read(records)) == 2
    assert distill(place, *flags[:-1], str(tmp_path / "other"), "--temperature", "4", *QUICK) == 0
    assert len(read(records)) == 3
    # The student before it learned is a checkpoint; fine-tuning on labels alone starts from it too.
    start = said.split("before it learns: ")[1].splitlines()[0]
    control = ["--model", start, "--ner-dir", str(place / "fevers"), "--records", str(tmp_path / "c.jsonl"), *QUICK]
    assert cli.main(["evaluate", *control]) == 0
    (plain,) = read(tmp_path / "c.jsonl")
    assert plain["model"]["weights_sha256"] == first["model"]["weights_sha256"]
    # Tables show each way of fine-tuning in a row of its own.
    measured = measure(score_lines(read_lines([tmp_path / "c.jsonl", records])))
    name = "big-fevers-seed1-2-layers"
    rows = {each.model: each.how for each in measured if each.column.metric == "f1"}
    assert list(rows) == [f"{name} (temperature {t})" for t in (3, 4)] + [plain["model"]["name"]]
    assert "distilled from big-fevers-seed1" in rows[f"{name} (temperature 3)"]


def test_without_soft_labels_and_text_it_is_plain_fine_tuning_to_the_bit(place: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    small = make_checkpoint(tmp_path / "small", seed=3)
    flags = [*QUICK, "--save", str(tmp_path / "plain"), "--records", str(tmp_path / "p.jsonl")]
    assert cli.main(["evaluate", "--model", str(small), "--ner-dir", str(place / "fevers"), *flags]) == 0
    flags = [*QUICK, "--save", str(tmp_path / "taught"), "--records", str(tmp_path / "t.jsonl"), "--soft-weight", "0"]
    assert distill(place, "--student", str(small), *flags) == 0
    name = "small-fevers-seed1"
    plain, taught = (load_file(tmp_path / kind / name / "model.safetensors") for kind in ("plain", "taught"))
    assert plain.keys() == taught.keys() and all((plain[key] == taught[key]).all() for key in plain)


def test_each_flag_is_a_parameter_with_the_same_default() -> None:
    parameters = inspect.signature(compress_for_task).parameters
    flags = vars(distill_verb.parser_of("p").parse_args(["--teacher", "t", "--student", "2"]))
    assert flags.keys() == (parameters.keys() - {"own"}) | OwnData.__annotations__.keys()
    assert all(flags[name] is None for name in OwnData.__annotations__)
    for name in flags.keys() & parameters.keys() - {"teacher", "student"}:
        flag, default = flags[name], parameters[name].default
        assert str(flag) == str(default) or list(flag) == list(default), name


def test_from_python(place: Path, tmp_path: Path, capsys) -> None:
    given = {"ner_dir": place / "fevers", "unlabeled": place / "text.txt", "transfer": "hidden", "seeds": (1, 2)}
    given |= {"records": tmp_path / "r.jsonl", "save": tmp_path / "kept", "precision": "fp32", "replicas": 1}
    given |= {"learning_rate": 0.01, "epochs": 1, "max_train_examples": 8}
    teacher = place / "kept" / "big-fevers-seed1"
    result = compress_for_task(teacher, 2, **given)
    assert result.name == "big-fevers-seed1-2-layers" and not result.failed and not result.remaining
    assert result.scores == {record["seed"]: record["score"] for record in read(tmp_path / "r.jsonl")}
    assert result.scores.keys() == {1, 2} and result.mean == sum(result.scores.values()) / 2
    assert [folder.name for folder in result.saved] == [f"{result.name}-fevers-seed{seed}" for seed in (1, 2)]
    again = compress_for_task(teacher, 2, **given)
    runs = [[record["run"] for record in records] for records in (result.records, again.records)]
    assert runs[0] == runs[1] == [record["run"] for record in read(tmp_path / "r.jsonl")]
    with pytest.raises(UserError, match="must be finite and above 0"):
        compress_for_task(teacher, 2, **given, temperature=-1.0)
    with pytest.raises(UserError, match="no transfer 'hiden'"):
        compress_for_task(teacher, 2, **given | {"transfer": "hiden"})
    with pytest.raises(UserError, match="no protocol 'own'"):
        compress_for_task(teacher, 2, **given, protocol="own")


def test_layer_transfer_to_a_narrower_student(place: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    narrow = make_checkpoint(tmp_path / "narrow", hidden_size=8, intermediate_size=16)
    records, kept = tmp_path / "r.jsonl", tmp_path / "kept"
    flags = ["--student", str(narrow), "--records", str(records), "--save", str(kept)]
    flags += ["--unlabeled", str(place / "text.txt"), "--soft-weight", "0", *QUICK]
    layers = ["--layer-map", "even", "--transfer-weight", "2"]
    assert distill(place, *flags, "--transfer", "hidden", "attention", *layers) == 0
    (record,) = read(records)
    told = record["protocol"]["distillation"]
    transfer = {"of": ["attention", "hidden"], "layers": [0, 2], "widths": [8, 16], "weight": 2.0}
    assert told["transfer"] == transfer and told["unlabelled"] == 2
    assert told["terms"] == {"task_loss": 1.0} | dict.fromkeys(
        ("attention_kl_0_0", "attention_kl_1_2", "hidden_cosine_1_1", "hidden_cosine_2_3"), 2.0
    )
    column = measure(score_lines(read_lines([records])))[0].how
    assert "attention and hidden transfer (layers 0 2; weight 2)" in column
    with safe_open(kept / "narrow-fevers-seed1" / "model.safetensors", "pt") as weights:
        assert all(name.startswith(("bert.", "classifier.")) for name in weights.keys())
    again = [*flags, "--save", str(tmp_path / "other"), "--transfer", "hidden"]
    assert distill(place, *again) == 0 and len(read(records)) == 2  # another transfer is another run


def test_relations_with_a_student_of_other_width_heads_and_depth(place: Path, tmp_path: Path) -> None:
    """The teacher has 4 layers of width 16 and 2 heads."""
    sizes = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 5}
    student, records = make_checkpoint(tmp_path / "other", **sizes), tmp_path / "r.jsonl"
    flags = ["--student", str(student), "--records", str(records), *QUICK, "--transfer", "relations"]
    assert distill(place, *flags) == 0
    layer = ["--relation-layer", "upper-middle", "--relation-heads", "4", "--transfer-weight", "2"]
    assert distill(place, *flags, *layer) == 0
    default, chosen = (record["protocol"]["distillation"] for record in read(records))
    relations = {"heads": 8, "layer_S": 4, "layer_T": 3}  # as many heads as divide 24 and 16
    transfer = {"of": ["relations"], "layers": [], "widths": [24, 16], "weight": 1.0, "relations": relations}
    assert default["transfer"] == transfer
    assert {name for name in default["terms"] if "relation" in name} == {
        f"{vectors}_relation_kl_4_3" for vectors in ("query", "key", "value")
    }
    assert chosen["transfer"]["relations"] == {"heads": 4, "layer_S": 4, "layer_T": 2}
    assert chosen["terms"]["key_relation_kl_4_2"] == 2.0
    rows = {each.model for each in measure(score_lines(read_lines([records])))}
    assert rows == {
        "other (relations transfer (4 relation heads of layers 4 and 2; weight 2))",
        "other (relations transfer (8 relation heads of layers 4 and 3; weight 1))",
    }


def test_layers_that_cannot_be_compared(place: Path, tmp_path: Path, capsys) -> None:
    def refused(student: Path, *flags: str, status: int = 1) -> str:
        assert distill(place, "--student", str(student), "--records", str(tmp_path / "r"), *flags) == status
        return capsys.readouterr().err.splitlines()[-1]

    heads = make_checkpoint(tmp_path / "heads", num_attention_heads=4)
    assert "maps of 4 heads cannot be compared with maps of 2" in refused(heads, "--transfer", "attention")
    three = refused(heads, "--transfer", "relations", "--relation-heads", "3")
    assert "--transfer relations: query_relation_kl" in three and "1, 2, 4, 8, 16" in three
    assert "no queries 4 in a teacher of 4" in refused(heads, "--transfer", "relations", "--relation-layer", "4")
    deep = make_checkpoint(tmp_path / "deep", num_hidden_layers=5)
    assert "error: --layer-map: layer map 'spaced'" in refused(deep, "--transfer", "hidden", status=2)
    unknown = refused(deep, "--transfer", "hidden", "--layer-map", "evn", status=2)
    assert "--layer-map: unknown layer map 'evn'" in unknown
    long = make_checkpoint(tmp_path / "long", max_position_embeddings=128)
    assert "the teacher reads at most 64 tokens, the student 128" in refused(long, "--transfer", "hidden")
    other = make_checkpoint(tmp_path / "other")
    content = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(content.replace('"fever"', '"fewer"'))
    assert "different vocabularies" in refused(other, "--transfer", "hidden")


def test_what_the_training_leaves_is_read_without_its_labels(place: Path, tmp_path: Path, capsys) -> None:
    flags = ["--student", "2", "--unlabeled", "task", "--max-train-examples", "5", "--records", str(tmp_path / "r")]
    assert distill(place, *flags, *QUICK) == 0
    assert "5 labeled and 7 unlabeled" in capsys.readouterr().err
    (record,) = read(tmp_path / "r")
    assert record["protocol"]["distillation"]["unlabelled"] == 7


def test_the_standard_protocol_searches_on_dev(place: Path, tmp_path: Path) -> None:
    flags = ["--student", "1", "--records", str(tmp_path / "r"), "--epochs", "1", *FAST]
    assert distill(place, *flags) == 0
    *searched, final = read(tmp_path / "r")
    assert [each["record"] for each in searched] == ["search"] * 3
    assert final["search"]["tried"] == [{"learning_rate": s["learning_rate"], "dev": s["dev"]} for s in searched]


@pytest.mark.parametrize(
    ("flags", "said", "status"),
    [
        (("--student", "9"), "--student 9", 2),
        (("--student", "0"), "--student: 0 layers", 2),
        (("--student", "2", "--soft-weight", "-1"), "not below 0", 2),
        (("--student", "2", "--soft-weight", "0", "--temperature", "2"), "--temperature has no effect", 2),
        (("--student", "2", "--unlabeled", "no.txt"), "no.txt: no such file", 1),
        (("--student", "2", "--unlabelled", "no.txt"), "no.txt: no such file", 1),  # the former spelling
        (("--student", "2", "--unlabeled", "task"), "every training example is labeled", 2),
        (("--student", "2", "--fold", "1"), "no folds", 2),
        (("--student", "2", "--layer-map", "even"), "no effect without --transfer", 2),
        (("--student", "2", "--transfer", "none", "hidden"), "excludes the others", 2),
        (("--student", "2", "--transfer", "hidden", "--relation-heads", "2"), "no effect without --transfer relat", 2),
        (("--student", "2", "--relation-layer", "0"), "--relation-layer has no effect without --transfer relations", 2),
        (("--student", "2", "--transfer", "relations", "--layer-map", "odd"), "no effect with relations alone", 2),
        (("--student", "2", "--transfer", "relations", "--relation-layer", "first"), "must be a number from 0", 2),
        (("--student", "2", "--transfer", "hidden", "--soft-weight", "0", "--temperature", "2"), "has no effect", 2),
        (("--student", "2", "--task", "GAD"), "one task at a time", 2),
        (("--student", "2", "--temperatur", "2"), "did you mean --temperature?", 2),
        (("--student", "no/such/folder"), "no such folder", 1),
    ],
)
def test_what_cannot_be_done_is_one_line(
    place: Path, flags, said: str, status: int, capsys, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert distill(place, *flags) == status
    error = capsys.readouterr().err
    assert said in error and error.startswith("error: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_and_what_is_missing(capsys) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["distill", "--help"])
    own = capsys.readouterr().out
    assert "--soft-weight" in own
    # The former spelling is the same verb; without a task it distills before fine-tuning.
    assert cli.main(["train", "distill", "--task", "GAD", "--help"]) == 0
    assert capsys.readouterr().out == own
    assert cli.main(["train", "distill", "--help"]) == 0
    assert "--student-layers" in capsys.readouterr().out
    for former in (["train", "distill"], ["distill"]):
        with pytest.raises(SystemExit, match="2"):
            cli.main([*former, "--task", "GAD", "--student", "2"])
        assert "the following arguments are required: --teacher" in capsys.readouterr().err


def test_a_teacher_of_other_labels(place: Path, tmp_path: Path, capsys) -> None:
    other = shutil.copytree(place / "kept" / "big-fevers-seed1", tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["id2label"]["0"], config["label2id"] = "B-Gene", {"B-Gene": 0, "I": 1, "O": 2}
    (other / "config.json").write_text(json.dumps(config))
    assert distill(place, "--student", "2", "--teacher", str(other)) == 1
    assert "labels (B-Gene, I, O) are not those of fevers (B, I, O)" in capsys.readouterr().err
    assert distill(place, "--student", "2", "--teacher", str(place / "big")) == 1
    assert "no head that can be used" in capsys.readouterr().err
    assert distill(place, "--student", "2", "--protocol", "published") == 1
    assert "first piece of each word" in capsys.readouterr().err
