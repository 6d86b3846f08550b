"""Damage at random, of a number: the same number makes the same damage."""

import struct

import numpy as np

from bench.fuzz.checksums import made_right, summed

NUMBERS = [0, 1, 7, 8, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 16, (1 << 64) - 1]
LANDMARKS = (b"GCOL", b"TREE", b"SNOD", b"HEAP", b"OHDR", b"\x89HDF", b"fastdesc", b"{", b".h5", b"unit")
TOKENS = (
    b"1e9", b"999999999999", b"-1", b"nan", b"inf", b"1e400", b"'", b'"', b"{", b"[" * 3000, b"\0" * 40, b"\xff", b"=",
    b'Lattice="0 0 0 0 0 0 0 0 0"', b"Properties=species:S:1:pos:R:99999999", b'pbc="T', b"_JSON {", b"\r", b"\n\n",
    b"1" * 5000, b"energy=1 energy=2", b"Xx", b"  ", b"\xef\xbb\xbf", b"2.5d0", b"**********", b"%PBC", b"VEC1 1 0 0",
)  # fmt: skip
OUTSIDE = b"../../outside/"
"""From where a damaged file lies to a folder that nothing may read."""


def damaged(data, number, text=False):
    """Bytes with one to four faults.

    Parameters
    ----------
    data : bytes
    number : int
        Of the damage.
    text : bool
        Lines of text rather than HDF5.
    """
    rng, places = np.random.default_rng(number), []
    if not text and rng.random() < 0.5:
        places = summed(data)
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        if changed:
            (_worse_text if text else _worse)(changed, rng)
    return made_right(changed, places)


def _worse(data, rng):
    at, what = _place(data, rng), rng.integers(20)
    if what < 4:
        data[at] ^= 1 << int(rng.integers(8))
    elif what < 6:
        data[at] = int(rng.integers(256))
    elif what < 12:
        size = int(rng.choice([2, 4, 8]))
        number = NUMBERS[rng.integers(len(NUMBERS))] & ((1 << 8 * size) - 1)
        at -= at % size if rng.random() < 0.7 else 0
        data[at : at + size] = struct.pack("<Q", number)[:size]
    elif what < 15:
        n, other = int(rng.integers(1, 64)), int(rng.integers(len(data)))
        data[at : at + n] = data[other : other + n]
    elif what < 17:
        _larger_number(data, at)
    elif what < 19:
        _other_name(data, at)
    elif rng.random() < 0.3:
        del data[at:]


def _place(data, rng):
    """Where to damage: anywhere, or near a landmark of HDF5."""
    if rng.random() < 0.2:
        return int(rng.integers(len(data)))
    start, mark = int(rng.integers(len(data))), LANDMARKS[rng.integers(len(LANDMARKS))]
    found = data.find(mark, start)
    found = data.find(mark) if found < 0 else found
    return min(max(found, 0) + int(rng.integers(160)), len(data) - 1)


def _larger_number(data, at):
    """The next digits of text become nines: a size in JSON, the number of a shard."""
    while at < len(data) and not 48 <= data[at] < 58:
        at += 1
    while at < len(data) and 48 <= data[at] < 58:
        data[at] = 57
        at += 1


def _other_name(data, at):
    """The next name of a shard leads out of the folder."""
    end = data.find(b".h5\0", at)
    if end < 0:
        return
    start = end
    while start > 0 and (chr(data[start - 1]).isalnum() or data[start - 1] in b"./_"):
        start -= 1
    name = bytes(data[start:end]).rpartition(b"/")[2]
    room = end - start - len(OUTSIDE) - len(name)
    if room >= 0:
        data[start:end] = OUTSIDE + b"/" * room + name


def _worse_text(data, rng):
    lines, what = bytes(data).split(b"\n"), rng.integers(8)
    k, other = (int(x) for x in rng.integers(len(lines), size=2))
    if what == 0:
        del lines[k]
    elif what == 1:
        lines.insert(k, lines[other])
    elif what == 2:
        lines[k : k + 1] = [lines[k][: len(lines[k]) // 2], lines[k][len(lines[k]) // 2 :]]
    elif what == 3:
        del lines[k:]
    elif what == 4:
        at = int(rng.integers(len(data)))
        data[at] = int(rng.integers(256))
        return
    else:    # words of the header as often as others
        if rng.random() < 0.5:
            k -= k % 6
            k += int(rng.integers(2))
        words = lines[min(k, len(lines) - 1)].split(b" ")
        j = int(rng.integers(len(words)))
        token = TOKENS[rng.integers(len(TOKENS))]
        words[j] = token if what < 7 else words[j] + token
        lines[min(k, len(lines) - 1)] = b" ".join(words)
    data[:] = b"\n".join(lines)
