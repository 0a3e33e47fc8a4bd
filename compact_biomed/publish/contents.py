"""What is published of a model's folder: the files that a user of the model needs, and none with text of a data set."""

import json
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compact_biomed.checksums import SUMS, read_sums, require_unchanged, unlisted, write_sums
from compact_biomed.compression.manifest import MANIFEST, is_exported, read_manifest, write_manifest
from compact_biomed.errors import UserError, no_folder
from compact_biomed.evaluation.cards import NO_LICENSE
from compact_biomed.evaluation.saved import RECORD
from compact_biomed.models.cards import CARD, read_front_matter, with_fields

# Weights, configuration, tokenizer, card, record, program, checksums.
_PUBLISHED = (
    *(r"model.*\.(safetensors|onnx|safetensors\.index\.json)", r".*config\.json", r"LICENSE.*"),
    *(r"tokenizer\.json", r"special_tokens_map\.json", r"added_tokens\.json", r"vocab\.(txt|json)", r"merges\.txt"),
    *(re.escape(name) for name in (CARD, RECORD, MANIFEST, "run.py", "loss.png")),
)
_OF_TEXT = (".jsonl", ".json", ".txt", ".tsv", ".csv", ".ann", ".gz")
_PATH = re.compile(r"(?<![\w./:])~?/(?:[^\s/'\",:]+/)+([^\s/'\",:]+)/?")  # /home/me/data/x.tsv, not http://


@dataclass(frozen=True)
class Contents:
    """The files of a model's folder.

    Args:
        folder: the folder.
        published: name -> bytes.
        left_out: name -> why.
        checked: whether the folder has checksums, all of which fit.
    """

    folder: Path
    published: dict[str, int]
    left_out: dict[str, str]
    checked: bool

    @property
    def size(self) -> int:
        """Bytes of all that is published."""
        return sum(self.published.values())


def contents_of(folder: Path, include: Collection[str] = ()) -> Contents:
    """Return what is to be published of a folder, after a check of its checksums.

    Args:
        include: names of files to publish in addition.

    Raises:
        UserError: not a model's folder, a file was changed since it was written (the card may be), or a name of
            `include` is not there.
    """
    if not folder.is_dir():
        raise no_folder(folder, "name one of evaluate --save, distill --save, export or a release")
    if not (folder / "config.json").is_file():
        raise UserError("no config.json, so no model", where=folder, remedy="name the folder of a model")
    checked, added = bool(read_sums(folder)), unlisted(folder)
    if is_exported(folder):
        read_manifest(folder)
    if checked:
        require_unchanged(folder, may_change=(CARD, *added))
    if absent := [name for name in include if Path(name).name != name or not (folder / name).is_file()]:
        raise UserError("no such file in this folder", where=f"{folder}: {absent[0]}", remedy="correct --include")
    published, left_out = {}, {}
    for entry in sorted(folder.iterdir()):
        if entry.name == SUMS:  # written anew
            continue
        if entry.is_dir() or entry.name.startswith("."):
            left_out[entry.name] = "a folder" if entry.is_dir() else "a hidden file"
        elif checked and entry.name in added and entry.name not in include and not entry.name.startswith("LICENSE"):
            left_out[entry.name] = "added since the folder was written"
        elif entry.name in include or any(re.fullmatch(pattern, entry.name) for pattern in _PUBLISHED):
            published[entry.name] = entry.stat().st_size
        else:
            left_out[entry.name] = "may hold text of a data set" if entry.suffix in _OF_TEXT else "not part of a model"
    return Contents(folder, published, left_out, checked)


def stage(contents: Contents, target: Path, fields: Mapping[str, Any]) -> list[str]:
    """Copy what is published to an empty folder, ready for others; return what was changed, in words.

    Paths of this machine in `record.json` and `manifest.json` become names of files, the card gets the fields, and the
    checksums are those of the copies.

    Args:
        fields: of the card's front matter to set: license, language.
    """
    changed = []
    for name in contents.published:
        shutil.copyfile(contents.folder / name, target / name)
    paths = sum(_without_paths(target / name) for name in (RECORD, MANIFEST) if name in contents.published)
    if paths:
        changed.append(f"{paths} paths of this machine shortened to the names of files in {RECORD}")
    if fields:
        card = (target / CARD).read_text(encoding="utf-8") if CARD in contents.published else "---\n{}\n---\n"
        if "license" in fields:
            card = card.replace(NO_LICENSE, f"{fields['license']}.")
        (target / CARD).write_text(with_fields(card, fields), encoding="utf-8")
        changed.append(f"{' and '.join(fields)} written to {CARD}")
    if MANIFEST in contents.published:
        manifest = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
        (target / MANIFEST).unlink()
        made_anew = ("format", "sha256", "manifest_sha256")
        write_manifest(target, {name: value for name, value in manifest.items() if name not in made_anew})
    write_sums(target)
    return changed


def license_of(folder: Path) -> str | None:
    """Return the license that the card in a folder states."""
    return read_front_matter(folder).get("license")


def _without_paths(path: Path) -> int:
    """Replace absolute paths within the strings of a JSON file by their last part; return how many there were."""
    text = path.read_text(encoding="utf-8")
    shorter, number = _PATH.subn(r"\1", text)
    if number:
        path.write_text(shorter, encoding="utf-8")
    return number
