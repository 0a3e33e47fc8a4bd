"""What is published of a model's folder: the files that a user of the model needs, and none with text of a data set."""

import json
import re
import shlex
import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compact_biomed.checksums import SUMS, read_sums, require_unchanged, unlisted, write_sums
from compact_biomed.compression.manifest import MANIFEST, is_exported, read_manifest, write_manifest
from compact_biomed.errors import UserError, no_folder
from compact_biomed.evaluation.cards import license_words
from compact_biomed.models.cards import CARD, read_front_matter, with_fields
from compact_biomed.records.lines import RECORD_FILE

# Weights, configuration, tokenizer, card, record, program, checksums.
_PUBLISHED = (
    *(r"model.*\.(safetensors|onnx|safetensors\.index\.json)", r".*config\.json", r"LICENSE.*"),
    *(r"tokenizer\.json", r"special_tokens_map\.json", r"added_tokens\.json", r"vocab\.(txt|json)", r"merges\.txt"),
    *(re.escape(name) for name in (CARD, RECORD_FILE, MANIFEST, "run.py", "loss.png")),
)
_OF_TEXT = (".jsonl", ".json", ".txt", ".tsv", ".csv", ".ann", ".gz")
_OF_PIECES = ("tokenizer.json", "vocab.json", "special_tokens_map.json", "added_tokens.json")  # where a / is no path
_NAMES = ("labels", "id2label", "label2id", "thresholds", "analysis")  # of classes, likewise
# Within other text: /home/me/data/x.tsv and ../x.tsv, not http://
_PATH = re.compile(r"(?<![\w./:])(?:~?/(?:[^\s/'\",:]+/)+|(?:\.\./)+(?:[^\s/'\",:]+/)*)([^\s/'\",:]+)/?")


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

    Paths of this machine become names of files, the card gets the fields, and the checksums are those of the copies.

    Args:
        fields: of the card's front matter to set: license, language.
    """
    changed = []
    for name in contents.published:
        shutil.copyfile(contents.folder / name, target / name)
    paths = {name: _shorten_paths(target / name) for name in contents.published if name.endswith((".json", CARD))}
    if found := [name for name, number in paths.items() if number]:
        number = sum(paths.values())
        counted = "1 path of this machine" if number == 1 else f"{number} paths of this machine"
        changed.append(f"{counted} shortened to the last part, in {' and '.join(found)}")
    if fields:
        card = (target / CARD).read_text(encoding="utf-8") if CARD in contents.published else "---\n{}\n---\n"
        if "license" in fields:
            before, now = (license_words(each) for each in (license_of(contents.folder), fields["license"]))
            for head in ("## License\n\n", "License: "):
                card = card.replace(head + before, head + now)
        (target / CARD).write_text(with_fields(card, fields), encoding="utf-8")
        changed.append(f"{' and '.join(fields)} written to {CARD}")
    if MANIFEST in contents.published:
        manifest = json.loads((target / MANIFEST).read_text(encoding="utf-8-sig"))
        (target / MANIFEST).unlink()
        made_anew = ("format", "sha256", "manifest_sha256")
        write_manifest(target, {name: value for name, value in manifest.items() if name not in made_anew})
    write_sums(target)
    return changed


def license_of(folder: Path) -> str | None:
    """Return the license that the card in a folder states."""
    return read_front_matter(folder).get("license")


def _shorten_paths(path: Path) -> int:
    """Replace paths of this machine in a file of JSON, or a card, by their last part; return how many there were."""
    if path.name in _OF_PIECES:
        return 0
    text = path.read_text(encoding="utf-8-sig")
    if path.name == CARD:
        shorter, number = _PATH.subn(r"\1", text)
    else:
        value, number = without_paths(json.loads(text))
        shorter = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    if number:
        path.write_text(shorter, encoding="utf-8")
    return number


def without_paths(value: Any, *, is_command: bool = False) -> tuple[Any, int]:
    """Return a JSON value in which paths that begin with /, ~ or .. are their last part, and how many there were.

    Args:
        is_command: whether it is a command line, whose arguments may be paths.
    """
    if isinstance(value, dict):
        parts = {
            key: (each, 0) if key in _NAMES else without_paths(each, is_command=key == "command")
            for key, each in value.items()
        }
        return {key: each for key, (each, _) in parts.items()}, sum(number for _, number in parts.values())
    if isinstance(value, list):
        items = [without_paths(each) for each in value]
        return [each for each, _ in items], sum(number for _, number in items)
    if not isinstance(value, str):
        return value, 0
    if is_command:
        with suppress(ValueError):  # a quote without an end
            words, number = without_paths(shlex.split(value))
            return (shlex.join(words), number) if number else (value, 0)
    flag, _, rest = value.rpartition("=") if value.startswith("-") else ("", "", value)
    if rest.startswith(("/", "~/", "../")) and (name := rest.rstrip("/").rpartition("/")[2]):
        return (f"{flag}={name}" if flag else name), 1
    return _PATH.subn(r"\1", value)
