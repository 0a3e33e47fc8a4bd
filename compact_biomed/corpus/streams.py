"""Read plain or gzipped files block by block or line by line, in bounded memory; errors say where."""

import zlib
from collections.abc import Iterator
from pathlib import Path

from compact_biomed.errors import UserError

# Measured on a MEDLINE file: larger blocks leave the processor's cache and make libxml2 slower.
BLOCK = 1 << 16
MAX_LINE = 64 << 20
_KINDS = {".xml": "xml", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".txt": "text"}
_AGAIN = "download or copy the file again"


def kind_by_name(path: Path | str) -> str | None:
    """Return what a file holds by the ending of its name, before .gz: "xml", "jsonl" or "text"; None: unknown."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return _KINDS.get(suffixes[-1]) if suffixes else None


def read_blocks(path: Path | str) -> Iterator[bytes]:
    """Yield the content of a file in blocks of at most 64 KiB, unpacked if it is gzipped.

    Gzip is recognized by its first two bytes, not by the name. Several members in one file are read as
    one stream, and each member's checksum and length are checked.

    Raises:
        UserError: the file is empty, or is cut off or damaged as a gzip file.
    """
    with open(path, "rb") as stream:
        head = stream.read(2)
        stream.seek(0)
        if not head:
            raise UserError("the file is empty", where=path, remedy=_AGAIN)
        if head == b"\x1f\x8b":
            yield from _unpack(path, stream)
        else:
            while block := stream.read(BLOCK):
                yield block


def _unpack(path: Path | str, stream) -> Iterator[bytes]:
    position = 0  # packed bytes read so far
    member = zlib.decompressobj(wbits=31)  # 31: a gzip header and trailer, both checked by zlib
    started = False
    while packed := stream.read(BLOCK):
        position += len(packed)
        while packed:
            if not started and not packed.strip(b"\0"):
                break  # zero padding after the last member, as tapes and block devices add it
            started = True
            try:
                yield from _bounded(member, packed)
            except zlib.error as error:
                where = f"{path}, near byte {position - len(packed)}"
                raise UserError(f"damaged gzip data: {error}", where=where, remedy=_AGAIN) from None
            packed = b""
            if member.eof:
                packed, member, started = member.unused_data, zlib.decompressobj(wbits=31), False
    if started:
        raise UserError("the gzip file is cut off", where=f"{path}, byte {position}", remedy=_AGAIN)


def _bounded(member, packed: bytes) -> Iterator[bytes]:
    """Unpack block by block: a few kilobytes of packed zeros may hold gigabytes."""
    while True:
        block = member.decompress(packed, BLOCK)
        if block:
            yield block
        packed = member.unconsumed_tail
        if member.eof or (not packed and len(block) < BLOCK):
            return


def read_lines(path: Path | str, *, cr_ends: bool = True) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, text without its end) of a UTF-8 file, plain or gzipped.

    Lines end in LF or CR LF; in a file without LF, in CR. A byte order mark is dropped; the last line needs no end.

    Args:
        cr_ends: whether CR ends a line of a file without LF.

    Raises:
        UserError: not UTF-8, a line of more than 64 MiB, or what `read_blocks` raises.
    """
    number, offset = 0, 0
    for line in _raw_lines(path, cr_ends):
        number += 1
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"not UTF-8 (0x{line[error.start]:02x} at byte {offset + error.start})",
                where=f"{path}:{number}",
                remedy="convert the file to UTF-8",
            ) from None
        offset += len(line)
        if number == 1:
            text = text.removeprefix("\ufeff")
        yield number, text.rstrip("\r\n")


def _raw_lines(path: Path | str, cr_ends: bool) -> Iterator[bytes]:
    rest: list[bytes] = []
    length = 0
    has_lf = False
    for block in read_blocks(path):
        if b"\n" not in block:
            rest.append(block)
            length += len(block)
            if length > MAX_LINE:
                raise UserError(
                    f"a line of more than {MAX_LINE >> 20} MiB", where=path, remedy="write one document per line"
                )
            continue
        has_lf = True
        lines = b"".join((*rest, block)).split(b"\n")
        rest = [lines.pop()]
        length = len(rest[0])
        for line in lines:
            yield line + b"\n"
    last = b"".join(rest)
    if cr_ends and not has_lf and b"\r" in last:
        *lines, last = last.split(b"\r")
        for line in lines:
            yield line + b"\n"
    if last:
        yield last
