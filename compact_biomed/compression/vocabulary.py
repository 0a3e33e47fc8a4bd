"""Cut a vocabulary to the pieces that occur in some texts: in a small model, embeddings are half of the file.

WordPiece takes the longest entry that fits, again and again. Without an entry that a word does not use, the word is
divided as before. So the logits of every text whose pieces were all kept stay the same, bit for bit. A word that needs
an entry that was cut is divided into smaller ones: single characters are always kept, so it does not become unknown.
"""

import copy
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from compact_biomed.compression.to_onnx import SENTENCES, check_inputs, compare, run_torch
from compact_biomed.console import count, say
from compact_biomed.corpus.documents import build_documents
from compact_biomed.corpus.pieces import Pieces
from compact_biomed.corpus.sources import Sources
from compact_biomed.corpus.streams import kind_by_name, read_lines
from compact_biomed.errors import UserError
from compact_biomed.models.checkpoints import Checkpoint, input_names, load_tokenizer

_BATCH = 64  # texts that are tokenized at once
_HELD_BACK = 10  # every tenth batch, neighbors in a file, estimates how well the others cover new text
_COMPARED = 1000  # texts on which both tokenizers must agree


@dataclass(frozen=True)
class Trimmed:
    """What was kept of a vocabulary.

    Args:
        kept: old ids of the entries, ascending; their positions are the new ids.
        of: number of entries before.
        occurring: number of kept entries that occur in the texts, the sentences of `to_onnx` included.
        texts, tokens: numbers of what was read, without those sentences.
        coverage: share of these tokens that are still one entry.
        coverage_of_new: the same share in every tenth batch of texts, with the vocabulary of the other nine; None for
            few texts.
    """

    kept: np.ndarray
    of: int
    occurring: int
    texts: int
    tokens: int
    coverage: float
    coverage_of_new: float | None

    def recorded(self) -> dict[str, Any]:
        """Return what a manifest says about it."""
        about = {name: getattr(self, name) for name in ("of", "occurring", "texts", "tokens")}
        shares = {name: getattr(self, name) for name in ("coverage", "coverage_of_new")}
        return {
            "kept": len(self.kept),
            **about,
            **{name: share if share is None else round(share, 6) for name, share in shares.items()},
        }


def trim(checkpoint: Checkpoint, texts: Sources, *, size: int | None = None) -> tuple[Checkpoint, Trimmed]:
    """Return a checkpoint whose vocabulary is cut to what occurs in texts, and what was kept.

    Kept are the entries that occur in the texts, or in the sentences that every export is checked with; special and
    added tokens; single characters, at the begin and within a word; and entries with a character that has no entry of
    its own.

    Args:
        checkpoint: is not changed.
        texts: files (.txt, .jsonl, .xml and others, which are read line by line; plain or gzipped), folders, and the
            other sources of `corpus.sources.expand_sources`.
        size: keep at most so many entries, the most frequent ones; None = all that occur.

    Raises:
        UserError: not a WordPiece vocabulary, no text, or a `size` below what must be kept.
    """
    description = _described(checkpoint)
    occurrences = _count(checkpoint.tokenizer, texts, rows=checkpoint.model.config.vocab_size)
    required = _required(checkpoint.tokenizer, description["model"]["continuing_subword_prefix"])
    trimmed = _select(occurrences, required, size, where=checkpoint.name)
    tokenizer = _smaller_tokenizer(checkpoint.tokenizer, trimmed.kept)
    smaller = checkpoint._replace(model=_smaller_model(checkpoint.model, trimmed.kept), tokenizer=tokenizer)
    _require_equal(checkpoint, smaller, trimmed.kept, occurrences.sample)
    return smaller, trimmed


def report(trimmed: Trimmed) -> None:
    """Print what was kept, and how much text it covers."""
    say(
        f"Vocabulary: {len(trimmed.kept):,} of {trimmed.of:,} entries kept; {trimmed.occurring:,} of them occur in "
        f"{trimmed.texts:,} texts, the others are single characters and special tokens"
    )
    new = "" if trimmed.coverage_of_new is None else f"; in new texts about {trimmed.coverage_of_new:.2%}"
    say(f"  {trimmed.coverage:.2%} of the {count(trimmed.tokens)} tokens are entries that were kept{new}")


def _described(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the tokenizer as JSON, if its vocabulary can be cut."""
    description = json.loads(checkpoint.tokenizer.backend_tokenizer.to_str())
    kind, splitter = description["model"]["type"], (description["pre_tokenizer"] or {}).get("type")
    if kind == "WordPiece" and splitter == "BertPreTokenizer":
        return description
    what = kind if kind != "WordPiece" else f"{kind} behind {splitter}"
    raise UserError(
        f"only WordPiece vocabularies with BERT's words can be cut, this one is {what}",
        where=checkpoint.name,
        remedy="export it without --trim-vocabulary",
    )


# ---- what occurs


@dataclass(frozen=True)
class _Occurrences:
    """How often each entry occurs: in all texts, in every tenth batch of them, in the sentences of the check."""

    all: np.ndarray
    tenth: np.ndarray
    checked: np.ndarray
    texts: int
    can_estimate: bool
    sample: list[str]


def _count(tokenizer: PreTrainedTokenizerFast, texts: Sources, *, rows: int) -> _Occurrences:
    pieces = Pieces(tokenizer.backend_tokenizer, tokenizer.unk_token_id)

    def counted(batch: Sequence[str]) -> np.ndarray:
        ids = [each for ids in pieces.of_texts(batch) for each in ids]
        return np.bincount(np.array(ids, np.int64), minlength=rows)

    everything, tenth, number, sample = np.zeros(rows, np.int64), np.zeros(rows, np.int64), 0, []
    waiting, batches = iter(read_texts(texts)), 0
    while batch := list(islice(waiting, _BATCH)):
        counts = counted(batch)
        everything += counts
        if batches % _HELD_BACK == 0:
            tenth += counts
        number, batches = number + len(batch), batches + 1
        sample += batch[: max(_COMPARED - len(sample), 0)]
    if not everything.any():
        raise UserError("no text", where=_names(texts), remedy="name files of text like that which the model will read")
    return _Occurrences(everything, tenth, counted(SENTENCES), number, batches >= _HELD_BACK, sample)


def read_texts(sources: Sources) -> Iterator[str]:
    """Yield texts of files and other sources: enough to know which words occur, not where.

    JSON lines are read for all their strings, whatever the fields' names. A file of an unknown kind (tables, tagged
    words) is read line by line.

    Raises:
        UserError: a source that does not exist or is damaged.
    """
    for source in [sources] if isinstance(sources, str | Path) else sources:
        path = Path(source).expanduser()
        kind = kind_by_name(path) if path.is_file() else "corpus"
        if kind in ("corpus", "xml"):
            yield from (document.text for document in build_documents(str(source)).documents())
        else:
            for _, line in read_lines(path):
                yield from _strings(line) if kind == "jsonl" else [line.strip()]


def _strings(line: str) -> Iterator[str]:
    """Yield the strings of a line of JSON; the line itself if it is not JSON, as in a file of one long object."""
    try:
        waiting = [json.loads(line)]
    except (ValueError, RecursionError):
        yield line
        return
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value.encode("utf-8", "replace").decode("utf-8")
        elif isinstance(value, list | dict):
            waiting += value.values() if isinstance(value, dict) else value


def _names(sources: Sources) -> str:
    return str(sources) if isinstance(sources, str | Path) else ", ".join(map(str, sources))


# ---- what is kept


def _required(tokenizer: PreTrainedTokenizerFast, prefix: str) -> np.ndarray:
    """Return the ids of the entries that are kept whatever occurs.

    With the single characters, a word can always be divided further, so it is unknown only if it was before.
    """
    vocabulary = tokenizer.get_vocab()
    alone = {piece for piece in vocabulary if len(piece) == 1}
    within = {piece for piece in vocabulary if piece.startswith(prefix) and len(piece) == len(prefix) + 1}

    def can_be_divided(piece: str) -> bool:
        if piece.startswith(prefix):
            return all(prefix + letter in within for letter in piece[len(prefix) :])
        return piece[:1] in alone and all(prefix + letter in within for letter in piece[1:])

    kept = {number for piece, number in vocabulary.items() if piece in alone | within or not can_be_divided(piece)}
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return np.array(sorted(kept | special), np.int64)


def _select(occurrences: _Occurrences, required: np.ndarray, size: int | None, *, where: str) -> Trimmed:
    rows = len(occurrences.all)
    always = np.zeros(rows, bool)
    always[required] = True
    always |= occurrences.checked > 0

    def chosen(counts: np.ndarray) -> np.ndarray:
        """Return which entries are kept if these are the numbers of occurrences."""
        mask = always | (counts > 0)
        if size is not None and mask.sum() > size:
            frequent = np.argsort(-np.where(always, -1, counts), kind="stable")[: size - always.sum()]
            mask = always.copy()
            mask[frequent] = True
        return mask

    if size is not None and size < always.sum():
        raise UserError(
            f"a size of {size:,} is too small: {always.sum():,} special tokens and single characters are always kept",
            where=where,
            remedy=f"--vocabulary-size {always.sum():,} or more".replace(",", ""),
        )
    mask, tenth = chosen(occurrences.all), occurrences.tenth
    new = tenth[chosen(occurrences.all - tenth)].sum() / tenth.sum() if occurrences.can_estimate else None
    tokens = int(occurrences.all.sum())
    return Trimmed(
        kept=np.flatnonzero(mask),
        of=rows,
        occurring=int((mask & (occurrences.all > 0)).sum()),
        texts=occurrences.texts,
        tokens=tokens,
        coverage=float(occurrences.all[mask].sum() / tokens),
        coverage_of_new=None if new is None else float(new),
    )


# ---- the smaller tokenizer and model


def _smaller_tokenizer(tokenizer: PreTrainedTokenizerFast, kept: np.ndarray) -> PreTrainedTokenizerFast:
    new_id = {int(old): new for new, old in enumerate(kept)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer.save_pretrained(folder)
        (folder / "vocab.txt").unlink(missing_ok=True)  # tokenizer.json says the same
        path = folder / "tokenizer.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = content["model"]["vocab"]
        content["model"]["vocab"] = {piece: new_id[old] for piece, old in vocabulary.items() if old in new_id}
        _renumber(content, new_id)
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        settings = folder / "tokenizer_config.json"
        content = json.loads(settings.read_text(encoding="utf-8"))
        if added := content.get("added_tokens_decoder"):
            content["added_tokens_decoder"] = {str(new_id[int(old)]): token for old, token in added.items()}
        settings.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        smaller = load_tokenizer(name)
    smaller.name_or_path = tokenizer.name_or_path
    return smaller


def _renumber(content: dict[str, Any], new_id: dict[int, int]) -> None:
    """Replace the ids in a tokenizer's JSON outside its vocabulary, in place."""
    for token in content["added_tokens"]:
        token["id"] = new_id[token["id"]]
    if padding := content["padding"]:
        padding["pad_id"] = new_id[padding["pad_id"]]
    frame = content["post_processor"] or {}
    for token in frame.get("special_tokens", {}).values():
        token["ids"] = [new_id[old] for old in token["ids"]]
    for end in ("sep", "cls"):  # of BertProcessing: the token and its id
        if end in frame:
            frame[end][1] = new_id[frame[end][1]]


def _smaller_model(model: PreTrainedModel, kept: np.ndarray) -> PreTrainedModel:
    """Return a model without the rows (in a vocabulary head also the outputs) of all other entries."""
    config, new_id = copy.deepcopy(model.config), {int(old): new for new, old in enumerate(kept)}
    config.vocab_size = len(kept)
    for name, value in config.to_dict().items():
        if name.endswith("_token_id") and isinstance(value, int):
            setattr(config, name, new_id.get(value))
    smaller, rows = type(model)(config), torch.from_numpy(kept)
    shapes, weights = smaller.state_dict(), {}
    for name, weight in model.state_dict().items():
        for dimension, (before, after) in enumerate(zip(weight.shape, shapes[name].shape, strict=True)):
            if before != after:
                weight = weight.index_select(dimension, rows)
        weights[name] = weight
    smaller.load_state_dict(weights)
    return smaller.eval()


def _require_equal(before: Checkpoint, after: Checkpoint, kept: np.ndarray, texts: Sequence[str]) -> None:
    """Raise a `UserError` unless the smaller model reads and answers as the whole one."""
    whole, smaller = (Pieces(each.tokenizer.backend_tokenizer, each.tokenizer.unk_token_id) for each in (before, after))
    old = set(kept.tolist())
    for ids, new in zip(whole.of_texts(texts), smaller.of_texts(texts), strict=True):
        if old.issuperset(ids) and kept[new].tolist() != ids:
            raise _differs("the smaller vocabulary divides a text in another way", before.name)
    inputs = [check_inputs(each.tokenizer, before.model.config, input_names(before.model)) for each in (before, after)]
    logits = [run_torch(before, inputs[0]), run_torch(after, inputs[1])]
    if before.family == "mlm":
        logits[0] = [each[..., kept] for each in logits[0]]
    if compare(inputs[0], *logits).relative > 1e-6:
        raise _differs("the model with the smaller vocabulary has other logits", before.name)


def _differs(what: str, name: str) -> UserError:
    return UserError(what, where=name, remedy="export it without --trim-vocabulary, and report it")
