"""Records of a reproduction -> its tables; nothing else goes in."""

from compact_biomed.console import say
from compact_biomed.files import write_text
from compact_biomed.reproduce.steps import Places


def write_tables(places: Places) -> None:
    """Write what the records give: pretraining.md, scores.*, claims.md in the folder of results."""
    from compact_biomed.report import claims, pretraining_table, render, render_claims
    from compact_biomed.report.records import read_lines, score_lines
    from compact_biomed.report.tables import build_table

    if places.pretraining.is_file():
        write_text(places.results / "pretraining.md", pretraining_table.markdown(read_lines([places.pretraining])))
    lines = score_lines(read_lines([places.evaluation])) if places.evaluation.is_file() else []
    if lines:
        table = build_table(lines)
        for form, render_as in render.FORMATS.items():
            write_text(places.results / f"scores.{form}", render_as(table))
    on_words, on_pieces = claims.judge(lines), claims.judge(lines, on_pieces=True)
    write_text(places.results / "claims.md", render_claims.markdown(on_words, on_pieces))
    say(f"tables: {places.results}")
