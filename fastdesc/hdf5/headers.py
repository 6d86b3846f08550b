"""Headers of the objects of an HDF5 file, looked at before HDF5 reads them.

A header (HDF5 File Format Specification, IV.A) says how long it is and where it goes on, and a group where the names of
its members are; HDF5 makes memory for as much as they say. The list of the parts of a virtual dataset lies in a heap,
and HDF5 writes beyond its own memory where a part is of a shape that it did not expect. All are followed here first,
byte by byte.
"""

import struct

from fastdesc.hdf5.heaps import heap_object

MOST = 1 << 24
"""Bytes of a piece of a header; those of ours have some hundred."""
PIECES = 1000
LAYOUT, CONTINUED, SYMBOLS = 8, 16, 17    # kinds of messages
VIRTUAL = 3
UNDEFINED = (1 << 64) - 1
NO_SELECTION, POINTS, BLOCKS, ALL = range(4)
DEEPEST = 32    # axes
FARTHEST = 1 << 48    # rows


def check_root(raw):
    """ValueError unless a file begins as ours do, and the header of its root, and what extends it, are whole."""
    head = raw.read(0, 96)
    if head[:8] != b"\x89HDF\r\n\x1a\n":
        raise ValueError("it does not begin with the signature of HDF5")
    version = head[8] if len(head) > 8 else 0
    if version > 3 or len(head) < 96:
        raise ValueError(f"it is of version {version}")
    sizes, others, root = ((13, (48,), 64), (13, (52,), 68), (9, (20,), 36), (9, (20,), 36))[version]
    if head[sizes : sizes + 2] != b"\x08\x08":
        raise ValueError("its addresses are not of the usual kind")
    # What lies elsewhere besides: of old versions the driver, of new ones an extension. Files of ours have none.
    if any(_number(head, at, 8) != UNDEFINED for at in others):
        raise ValueError("it needs a driver or an extension that fastdesc does not use")
    check_header(raw, _number(head, root, 8))


def check_header(raw, at):
    """ValueError unless the header of an object is whole, and the parts of a virtual dataset can be read.

    Parameters
    ----------
    raw : Raw
    at : int
        Where in the file.
    """
    for kind, data in _messages(raw, at):
        if kind == LAYOUT and len(data) >= 2 and data[0] == 4 and data[1] == VIRTUAL:
            if len(data) < 14:
                raise ValueError(f"the layout of the object at byte {at} is cut short")
            heap, index = _number(data, 2, 8), _number(data, 10, 4)
            if heap != UNDEFINED:
                check_parts(heap_object(raw, heap, index))
        elif kind == SYMBOLS:
            _check_names(raw, _number(data, 8, 8))


def _check_names(raw, at):
    """ValueError unless the names of a group are where they are said to be."""
    head = raw.read(at, 32)
    if head[:4] != b"HEAP":
        raise ValueError(f"there are no names at byte {at}")
    size, place = _number(head, 8, 8), _number(head, 24, 8)
    if size > min(MOST, raw.size - place):
        raise ValueError(f"the names at byte {at} are said to have {size} bytes")


def _messages(raw, at):
    """Yield the kind and the bytes of each message in a header."""
    head = raw.read(at, 48)
    if head[:4] == b"OHDR":
        flags = head[5]
        start = 6 + 16 * (flags >> 5 & 1) + 4 * (flags >> 4 & 1)
        width = 1 << (flags & 3)
        pieces, envelope = [(at + start + width, _number(head, start, width))], (4, 4)
        message = struct.Struct("<BHB" + "H" * (flags >> 2 & 1))
    elif len(head) >= 16 and head[0] == 1:
        pieces, envelope, message = [(at + 16, _number(head, 8, 4))], (0, 0), struct.Struct("<HHB3x")
    else:
        raise ValueError(f"there is no object at byte {at}")
    for k, (offset, size) in enumerate(pieces):    # grows on the way
        if size > min(MOST, raw.size - offset) or k > PIECES:
            raise ValueError(f"the header of the object at byte {at} is said to have {size} bytes at {offset}")
        data = raw.read(offset, size)
        place, end = (envelope[0], size - envelope[1]) if k else (0, size)
        while place + message.size <= end:
            kind, length, *_ = message.unpack_from(data, place)
            place += message.size
            if length > end - place:
                raise ValueError(f"a part of the header of the object at byte {at} goes beyond its end")
            body = data[place : place + length]
            if kind == CONTINUED and length >= 16:
                pieces.append(struct.unpack_from("<QQ", body))
            yield kind, body
            place += length


def check_parts(block):
    """ValueError unless the list of the parts of a virtual dataset is one that HDF5 can read."""
    n, at = _number(block, 1, 8), 9
    if block[0] != 0:
        raise ValueError("the parts of a virtual dataset are listed in a way that fastdesc does not know")
    for _ in range(n):
        for _ in range(2):    # names of the file and of its dataset
            at = block.find(b"\0", at) + 1
            if at == 0:
                raise ValueError("the list of the parts of a virtual dataset is cut short")
        for _ in range(2):    # rows there and here
            at = _selection_end(block, at)
    if at + 4 != len(block):
        raise ValueError("the list of the parts of a virtual dataset does not end where it should")


def _selection_end(block, at):
    """Where a selection of rows ends; ValueError for one of another shape than h5py writes."""
    kind, version = _number(block, at, 4), _number(block, at + 4, 4)
    if kind == ALL and version == 1:
        return at + 16
    if kind != BLOCKS or version not in (1, 2, 3):
        raise ValueError("a part of a virtual dataset is chosen in a way that fastdesc does not use")
    at += 8
    if version == 1:    # one block, from its first to its last corner
        rank, blocks, width = _number(block, at + 8, 4), _number(block, at + 12, 4), 4
        if blocks != 1 or not 1 <= rank <= DEEPEST:
            raise ValueError("a part of a virtual dataset is not one block")
        first, last = _row(block, at + 16, rank, width), _row(block, at + 16 + rank * width, rank, width)
        sound = all(a <= b for a, b in zip(first, last, strict=True))
        at += 16 + 2 * rank * width
    else:    # start, stride, count and block of each axis
        flags = block[at]
        width, start = (8, at + 5) if version == 2 else (block[at + 1], at + 2)
        rank = _number(block, start, 4)
        if flags != 1 or width not in (2, 4, 8) or not 1 <= rank <= DEEPEST:
            raise ValueError("a part of a virtual dataset is not one block")
        values = _row(block, start + 4, 4 * rank, width)
        sound = all(
            max(a, stride, count, size) < FARTHEST and min(stride, count, size) > 0 and (count == 1 or size <= stride)
            for a, stride, count, size in zip(*[iter(values)] * 4, strict=True)
        )
        at = start + 4 + 4 * rank * width
    if not sound:
        raise ValueError("a part of a virtual dataset has rows that there cannot be")
    return at


def _row(data, at, n, width):
    return [_number(data, at + k * width, width) for k in range(n)]


def _number(data, at, width):
    if at + width > len(data):
        raise ValueError("it is cut short")
    return int.from_bytes(data[at : at + width], "little")
