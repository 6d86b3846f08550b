"""Checksums within a file of ours, made right again after damage, so that what lies behind them is reached, too.

HDF5 sums up object headers of version 2 and the lists of virtual datasets by Jenkins' lookup3; journals have a CRC.
"""

import struct
import zlib
from functools import lru_cache

MASK = 0xFFFFFFFF
JOURNAL = b"fastdesc journal"
NODES = {    # of groups with many members: sizes that each can have
    b"FRHP": [146], b"BTHD": [38], b"BTLF": [10 + n * record for n in range(1, 40) for record in (11, 15)],
}  # fmt: skip


def lookup3(data):
    """Jenkins' hashlittle of bytes, from 0."""
    a = b = c = (0xDEADBEEF + len(data)) & MASK
    whole = max(0, (len(data) - 1) // 12 * 12)
    for x, y, z in struct.iter_unpack("<III", data[:whole]):
        a, b, c = (a + x) & MASK, (b + y) & MASK, (c + z) & MASK
        a = (a - c & MASK) ^ _turned(c, 4); c = (c + b) & MASK
        b = (b - a & MASK) ^ _turned(a, 6); a = (a + c) & MASK
        c = (c - b & MASK) ^ _turned(b, 8); b = (b + a) & MASK
        a = (a - c & MASK) ^ _turned(c, 16); c = (c + b) & MASK
        b = (b - a & MASK) ^ _turned(a, 19); a = (a + c) & MASK
        c = (c - b & MASK) ^ _turned(b, 4); b = (b + a) & MASK
    if not data:
        return c
    x, y, z = struct.unpack("<III", data[whole:].ljust(12, b"\0"))
    a, b, c = (a + x) & MASK, (b + y) & MASK, (c + z) & MASK
    c = (c ^ b) - _turned(b, 14) & MASK
    a = (a ^ c) - _turned(c, 11) & MASK
    b = (b ^ a) - _turned(a, 25) & MASK
    c = (c ^ b) - _turned(b, 16) & MASK
    a = (a ^ c) - _turned(c, 4) & MASK
    b = (b ^ a) - _turned(a, 14) & MASK
    return (c ^ b) - _turned(b, 24) & MASK


def _turned(x, n):
    return (x << n | x >> 32 - n) & MASK


@lru_cache(maxsize=32)
def summed(data):
    """Places in a sound file whose last four bytes are a checksum of the rest: [(first, last)]."""
    if data.startswith(JOURNAL):
        return [(0, len(data))]
    found = [(at, at + size) for mark, sizes in NODES.items() for at in _all(data, mark) for size in sizes]
    for at in _all(data, b"OHDR\x02"):
        flags = data[at + 5]
        head = at + 6 + (16 if flags & 32 else 0) + (4 if flags & 16 else 0)
        size = int.from_bytes(data[head : head + (1 << (flags & 3))], "little")
        found.append((at, head + (1 << (flags & 3)) + size + 4))
    for at in _all(data, b"GCOL\x01"):
        place, end = at + 16, at + int.from_bytes(data[at + 8 : at + 16], "little")
        while place + 16 <= end and data[place : place + 2] != b"\0\0":
            size = int.from_bytes(data[place + 8 : place + 16], "little")
            found.append((place + 16, place + 16 + size))
            place += 16 + (size + 7) // 8 * 8
    return [(a, b) for a, b in found if b - a > 4 and _sum(data[a : b - 4], False) == data[b - 4 : b]]


def made_right(data, places):
    """Damaged bytes with the checksums of these places made right."""
    data = bytearray(data)
    for a, b in places:
        if b <= len(data):
            data[b - 4 : b] = _sum(bytes(data[a : b - 4]), data.startswith(JOURNAL))
    return bytes(data)


def _sum(data, journal):
    return struct.pack("<I", zlib.crc32(data) if journal or data.startswith(JOURNAL) else lookup3(data))


def _all(data, mark):
    at = data.find(mark)
    while at >= 0:
        yield at
        at = data.find(mark, at + 1)
