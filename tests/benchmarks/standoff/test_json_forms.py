"""The format of an object by its keys: what is text with entities, and what is a row of a table."""

import json
from pathlib import Path
from typing import Any

import pytest

from compact_biomed.benchmarks.readers.own_formats import detect_format
from compact_biomed.benchmarks.standoff.detect import json_form


@pytest.mark.parametrize(
    ("value", "form", "of_file"),
    [
        (["A fever.", {"entities": [[2, 7, "D"]]}], "doccano", "doccano"),
        ({"text": "A fever.", "label": [[2, 7, "D"]]}, "doccano", "doccano"),
        ({"text": "A fever.", "entities": [{"start": 2, "end": 7, "label": "D"}]}, "doccano", "doccano"),
        ({"text": "A fever.", "spans": []}, "prodigy", "prodigy"),
        ({"passages": [], "text": "A fever.", "label": "a"}, "bioc-json", "bioc-json"),
        ({"data": {"text": "A fever."}}, "label-studio", "label-studio"),
        ({"tokens": ["fever"], "ner_tags": ["B-D"]}, "tokens", "tokens"),
        ({"text": "A fever.", "label": ["a", "b"]}, "doccano", "jsonl"),  # labels, where doccano has spans
        ({"text": "A fever.", "label": "a"}, None, "jsonl"),
        ({"data": [{"text": "A fever.", "label": "a"}]}, None, "json"),
        ({"data": [{"title": "Fevers", "paragraphs": []}]}, None, "squad"),
        (["a", "b"], None, None),
    ],
)
def test_the_keys_of_an_object_tell_its_format(tmp_path: Path, value: Any, form: str | None, of_file: str) -> None:
    assert json_form(value) == form
    if of_file:
        (tmp_path / "a.jsonl").write_text(json.dumps(value) + "\n")
        assert detect_format(tmp_path / "a.jsonl") == of_file
