"""The code on docs/python.md runs, from top to bottom, on tiny models."""

import re
from pathlib import Path

import pytest
from small_runs import make_ner_set

PAGE = Path(__file__).parents[1] / "docs" / "python.md"


def test_the_page_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_ner_set(tmp_path / "fevers", n=12)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["mine"].finished and names["student"].finished
    assert 0 <= names["teacher"].scores["fevers"] <= 100 and set(names["small"].scores) == {1}
    assert names["again"]["task"]["name"] == "fevers" and names["other"]["trained_on"]["name"] == "fevers"
    assert names["exported"].size > 0 and Path("small-int8/model.onnx").is_file()
    text = "the mild fever of old frogs"
    assert all(text[each.start : each.end] == each.text for each in names["model"].entities(text))
    assert names["found"] == [names["model"].entities(text) for text in names["texts"]]
    assert len(names["table"]) == len(names["rows"]) == sum(map(len, names["found"]))
    assert sorted(path.name for path in Path("annotated").iterdir()) == ["a.ann", "a.txt"]
    assert names["vectors"].shape[0] == 3 and set(names["rows"].columns[:1]) <= {"year"}
