"""Push a model's folder to a hub, or copy it to a local mirror: what `compact-biomed push` does."""

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from compact_biomed.checksums import first_change, read_sums
from compact_biomed.console import say, size
from compact_biomed.corpus import hub
from compact_biomed.errors import UsageError, UserError
from compact_biomed.files import atomic_folder, require_writable_at
from compact_biomed.models.cards import check_license
from compact_biomed.models.locate import is_hub_name
from compact_biomed.publish.contents import Contents, contents_of, license_of, stage


@dataclass(frozen=True)
class Pushed:
    """What was published, or would be.

    Args:
        where: address on the hub, or the folder.
        files: name -> bytes.
        left_out: name -> why.
    """

    where: str
    files: dict[str, int]
    left_out: dict[str, str]


def push(
    folder: str | Path,
    repo: str | Path,
    *,
    dry_run: bool = False,
    license: str | None = None,
    language: str | Sequence[str] | None = None,
    include: Sequence[str] = (),
    public: bool = False,
) -> Pushed:
    """Publish a folder that evaluate, distill, export or a release wrote.

    Its checksums are checked first. Files that may hold text of a data set (`errors.jsonl`) are left out unless they
    are named by `include`.

    Args:
        repo: OWNER/NAME on the hub, or a path with `/`, `./` or `~` at the start: a folder to write, which may be an
            unchanged earlier copy.
        dry_run: check and list, write nothing.
        license: of the weights, an identifier such as "apache-2.0"; default: what the card states.
        language: of the texts, such as "en"; default: what the card states.
        include: names of files to publish in addition.
        public: make a new repository on the hub public; default: private.

    Raises:
        UsageError: `repo` is neither.
        UserError: files that were changed, a target with something else, or a hub that cannot be reached or refuses.
    """
    source, contents = Path(folder), contents_of(Path(folder), include)
    mirror = _mirror(repo)
    languages = [language] if isinstance(language, str) else list(language or ())
    if license is not None:
        check_license(license)
    if wrong := [each for each in languages if not re.fullmatch(r"[a-z]{2,3}(-\w+)*", each)]:
        raise UsageError(f"{wrong[0]!r} is no code of a language", where="--language", remedy="write en, de, pt-br ...")
    fields = {"license": license, "language": languages}
    fields = {name: value for name, value in fields.items() if value}
    where = str(mirror) if mirror else f"{HfApi().endpoint}/{repo}"
    _report(contents, where, license or license_of(source))
    result = Pushed(where, contents.published, contents.left_out)
    if mirror:
        _require_replaceable(mirror, source)
        require_writable_at(mirror)
    if dry_run:
        say("\nDry run: nothing was written. The same command without --dry-run publishes it.")
        return result
    if mirror:
        with atomic_folder(mirror) as temporary:
            changed = stage(contents, temporary, fields)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            changed = stage(contents, Path(temporary), fields)
            _upload(temporary, str(repo), public=public)
    for line in changed:
        say(f"  {line}")
    say(f"\nPublished: {where}")
    say(f"Next: compact-biomed predict --model {mirror or repo} FILE")
    return result


def _mirror(repo: str | Path) -> Path | None:
    """Return the folder that is meant; None for a name on the hub."""
    text = os.fspath(repo)
    if isinstance(repo, Path) or text.startswith(("/", "./", "../", "~")):
        return Path(text).expanduser()
    if is_hub_name(text) and "/" in text:
        return None
    raise UsageError("neither OWNER/NAME nor a folder", where=f"--repo {text}", remedy=f"write ./{text} for a folder")


def _require_replaceable(mirror: Path, source: Path) -> None:
    """Raise a `UserError` if the target holds anything but an earlier copy as it was published."""
    if mirror.resolve() == source.resolve():
        raise UserError("this is the model's own folder", where=mirror, remedy="name another one with --repo")
    if not mirror.exists() or (mirror.is_dir() and not any(mirror.iterdir())):
        return
    if not mirror.is_dir() or not read_sums(mirror):
        raise UserError("holds something else than a published model", where=mirror, remedy="name another folder")
    if (name := first_change(mirror)) is not None:
        remedy = "move it away, or name another folder"
        raise UserError("changed since it was published", where=mirror / name, remedy=remedy)


def _report(contents: Contents, where: str, license: str | None) -> None:
    say(f"{contents.folder} to {where}")
    width = max(map(len, contents.published))
    for name, n_bytes in contents.published.items():
        say(f"  {name:<{width}} {size(n_bytes):>10}")
    say(f"  {'in all':<{width}} {size(contents.size):>10}")
    for name, reason in contents.left_out.items():
        asked = "" if reason == "a folder" else f"; --include {name} adds it"
        say(f"  left out: {name} ({reason}{asked})")
    say(f"  checksums: {'as listed in SHA256SUMS' if contents.checked else 'none in this folder, written anew'}")
    say(f"  license: {license or 'not stated; state it by --license ID, such as apache-2.0'}")


def _upload(folder: str, repo: str, *, public: bool) -> None:
    """Upload a folder as one commit; make the repository if there is none."""
    api = HfApi()
    if not hub.is_reachable():
        raise _failed(repo, hub.UNREACHABLE)
    try:
        api.create_repo(repo, private=not public, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload by compact-biomed push")
    except Exception as error:  # hub clients have several error classes
        reason = hub.reason_of(error)
        if reason is None and not isinstance(error, HfHubHTTPError | OSError | ValueError):
            raise
        raise _failed(repo, reason or (str(error).strip() or type(error).__name__).splitlines()[0]) from error


def _failed(repo: str, reason: str) -> UserError:
    remedy = "check the name, the network, and that your token may write there, or push to a folder: --repo ./FOLDER"
    return UserError(f"nothing was published: {reason}", where=repo, remedy=remedy)
