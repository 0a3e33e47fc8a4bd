"""What a run's folder keeps, and what it refuses."""

import os

import pytest

from compact_biomed.errors import UserError
from compact_biomed.training import run_folder


def test_a_measurement_is_made_once_and_again_if_it_is_asked_otherwise(tmp_path):
    made = []

    def measure():
        made.append(len(made))
        return {"loss": float(len(made))}

    path = tmp_path / "before.json"
    settings = {"documents": 256}
    assert (
        run_folder.measured_once(path, measure, settings=settings)
        == run_folder.measured_once(path, measure, settings=settings)
        == {"loss": 1.0}
    )
    assert run_folder.measured_once(path, measure, settings={"documents": 64}) == {"loss": 2.0}
    assert run_folder.measured_once(path, measure, settings={"documents": 64}) == {"loss": 2.0}
    assert made == [0, 1]


def test_a_folder_holds_one_run_and_one_text(tmp_path):
    folder = tmp_path / "run"
    run_folder.open_folder(folder, {"seed": 1})
    run_folder.open_folder(folder, {"seed": 1})
    with pytest.raises(UserError, match="a run with seed 1, not 2"):
        run_folder.open_folder(folder, {"seed": 2})
    run_folder.require_same_text(folder, "abc")
    run_folder.require_same_text(folder, "abc")
    with pytest.raises(UserError, match="has changed since it began"):
        run_folder.require_same_text(folder, "abd")


def test_starting_over_keeps_what_stood_there(tmp_path):
    folder = tmp_path / "run"
    run_folder.open_folder(folder, {"seed": 1})
    run_folder.set_aside(folder)
    run_folder.open_folder(folder, {"seed": 2})
    assert (tmp_path / "run.old-1" / "hyperparameters.json").is_file()
    assert "2" in (folder / "hyperparameters.json").read_text()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="something else than a run"):
        run_folder.open_folder(tmp_path, {"seed": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_logs_go_to_the_run_unless_the_environment_says_otherwise(tmp_path, monkeypatch):
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    with run_folder.logs_in(tmp_path):
        assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(tmp_path)
    assert "TENSORBOARD_LOGGING_DIR" not in os.environ
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "elsewhere")
    with run_folder.logs_in(tmp_path):
        assert os.environ["TENSORBOARD_LOGGING_DIR"] == "elsewhere"


def test_one_training_at_a_time(tmp_path):
    folder = tmp_path / "run"
    with run_folder.sole_training(folder):
        run_folder.open_folder(folder, {"seed": 1})
        for second in (lambda: run_folder.sole_training(folder).__enter__(), lambda: run_folder.set_aside(folder)):
            with pytest.raises(UserError, match="another process is training in this folder"):
                second()
    assert [path.name for path in folder.iterdir()] == ["hyperparameters.json"]
    run_folder.set_aside(folder)
    assert [path.name for path in (tmp_path / "run.old-1").iterdir()] == ["hyperparameters.json"]


def test_a_kill_before_the_first_file_leaves_a_free_folder(tmp_path):
    (tmp_path / ".hyperparameters.json.tmp").write_text("{")
    (tmp_path / ".lock").write_text("")  # of the killed process, which holds it no longer
    with run_folder.sole_training(tmp_path):
        run_folder.open_folder(tmp_path, {"seed": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["hyperparameters.json"]


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path):
    for folder in (tmp_path / "new", tmp_path):
        with pytest.raises(UserError, match="weights"), run_folder.sole_training(folder):
            assert run_folder.open_folder(folder, {"seed": 1})
            run_folder.abandon(folder)
            raise UserError("no weights")
    assert not [*tmp_path.iterdir()]
    with run_folder.sole_training(tmp_path / "new"):
        run_folder.open_folder(tmp_path / "new", {"seed": 1})
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["hyperparameters.json"]
