"""Where a result comes from."""

import sys
from pathlib import Path

from compact_biomed.records.provenance import code_revision, command_line, origin


def test_the_revision_is_known_in_a_repository() -> None:
    revision = code_revision()
    assert revision["revision"] is None or len(revision["revision"]) == 40
    assert revision["clean"] in (True, False, None)


def test_the_command_can_be_given_again_and_names_no_folder_of_this_machine(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "recipes" / "x.py"), "--note", "two words"])
    assert command_line() == "python recipes/x.py --note 'two words'"
    monkeypatch.setattr(sys, "argv", ["/somewhere/else/recipes/x.py", "--seed", "1"])
    assert command_line() == "python x.py --seed 1"
    own = Path(__file__).parents[2] / "recipes" / "ablations" / "temperature.py"
    monkeypatch.setattr(sys, "argv", [str(own), "--seeds", "1"])
    assert command_line() == "compact-biomed recipe ablations/temperature --seeds 1"
    monkeypatch.setattr(sys, "argv", ["/somewhere/else/compact_biomed/__main__.py", "tables"])
    assert command_line() == "python -m compact_biomed tables"
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/compact-biomed", "tables"])
    assert command_line() == "compact-biomed tables"


def test_an_origin_has_all_that_traces_a_number() -> None:
    provenance = origin()
    assert provenance.keys() == {"revision", "clean", "versions", "command", "date"}
    assert provenance["versions"]["torch"] and provenance["date"].endswith("+00:00")
