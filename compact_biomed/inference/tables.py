"""Predictions as pandas tables. pandas comes with datasets; it is imported only where a table is made."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from compact_biomed.errors import UsageError
from compact_biomed.inference.words import Entity

_DOCUMENT = "document"


def is_frame(value: object) -> bool:
    """Return whether this is a DataFrame. Nobody hands one over before pandas is imported."""
    return "pandas" in sys.modules and isinstance(value, sys.modules["pandas"].DataFrame)


def is_series(value: object) -> bool:
    """Return whether this is a Series."""
    return "pandas" in sys.modules and isinstance(value, sys.modules["pandas"].Series)


def series_like(series: Any, results: Iterable[Any]) -> Any:
    """Return results as a Series with the index of another one."""
    import pandas

    return pandas.Series(list(results), index=series.index, dtype=object)


def to_frame(predictions: Any) -> Any:
    """Return predictions as a DataFrame, one row per entity, label or answer, with the fields as columns.

    Args:
        predictions: what `entities`, `classify` or `answers` returned for one text; or for several, as a list, a Series
            or a dictionary. Of several, the first column, "document", is their position, index or name.

    Raises:
        UsageError: these are no predictions.
    """
    import pandas

    if is_frame(predictions):
        return predictions
    if not isinstance(predictions, Iterable) or isinstance(predictions, str):
        what = f"{type(predictions).__name__} is no list of predictions"
        raise UsageError(what, where="to_frame", remedy="give what entities, classify or answers returned")
    if isinstance(predictions, Mapping) or is_series(predictions):
        documents = list(predictions.items())
    elif all(isinstance(each, list) for each in predictions):
        documents = list(enumerate(predictions))
    else:
        return pandas.DataFrame(list(predictions))
    rows = [{_DOCUMENT: name} | each._asdict() for name, found in documents for each in found]
    return pandas.DataFrame(rows, columns=list(rows[0]) if rows else [_DOCUMENT])


def joined(frame: Any, results: Sequence[list], text: str, row: type) -> Any:
    """Return a table of texts with what was predicted for them in further columns; rows keep their index.

    Entities: one row per entity, with its own text in place of the whole text. Labels and answers: one row per text,
    with the best of them (where there is none, missing values). Columns of the caller keep their names: beside a column
    "label", the prediction is called "predicted_label".

    Args:
        frame: the table of texts.
        results: per row, its entities, labels or answers.
        text: the name of the column of texts.
        row: `Entity`, `Label` or `Answer`.
    """
    import pandas

    if row is Entity:
        kept = frame.drop(columns=text).iloc[[i for i, found in enumerate(results) for _ in found]]
        rows = [entity for found in results for entity in found]
    else:
        kept, rows = frame, [found[0] if found else [None] * len(row._fields) for found in results]
    predicted = pandas.DataFrame(rows, columns=list(row._fields), index=kept.index)
    if row is not Entity and "text" in predicted.columns:  # an answer: there may be none
        predicted = predicted.rename(columns={"text": "answer"}).astype({"start": "Int64", "end": "Int64"})
    names = {name: f"predicted_{name}" for name in predicted.columns if name in kept.columns}
    return pandas.concat([kept, predicted.rename(columns=names)], axis=1)
