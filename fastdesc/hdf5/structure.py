"""What an HDF5 file is made of, judged before anything is read from it.

A file can point outside itself (external links, raw data in other files, virtual datasets), say that it holds what it
does not, or ask for code (filters are plugins). Ours do none of it, but for the virtual datasets that join the shards
beside a features file. So every object is looked at, and none of its data.
"""

import os
import re
from math import prod

import h5py
from h5py import h5a, h5d, h5l, h5o, h5t, h5z

from fastdesc.hdf5.headers import check_header, check_root
from fastdesc.hdf5.heaps import HEAD, Raw, check_heaps, read_text
from fastdesc.hdf5.tables import check_text_sums

DEEPEST = 32
"""Groups in groups."""
MOST_CHUNK_BYTES = 1 << 28
WIDEST_TEXT = 64
"""Texts in a row."""
TEXT_BYTES = 16
"""Bytes of a text within a chunk: where it lies in which heap, and its length."""
SMALL = 1 << 26
"""Bytes that a dataset may take, as it may as many as the whole file, without its chunks being counted."""
CHECKSUM = 4
FILTERS = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32, 32000, 32015, 32026}
"""Deflate, shuffle, checksum; lzf, zstd, blosc2."""
KINDS = {h5t.INTEGER, h5t.FLOAT, h5t.STRING, h5t.ENUM}
FOLDER = re.compile(r"[^/\\]+\.shards")
SHARD = re.compile(FOLDER.pattern + r"/[0-9]{6,}\.h5")


def check_structure(file, beneath=None):
    """ValueError unless a file holds all it says it holds, itself.

    Parameters
    ----------
    file : h5py.File
        Just opened, after `check_root`.
    beneath : CommittedFile, optional
        Through which HDF5 reads it.

    Returns
    -------
    Raw
        Its bytes, for `read_text`.
    """
    raw = Raw(None, beneath) if beneath is not None else Raw(file.id.get_vfd_handle())
    if h5a.exists(file.id, b"shards"):    # where datasets are virtual, heaps say of what they are made
        check_heaps(raw, raw.size)
    elif _text_varies(file.id):    # written before text in attributes had a fixed length
        check_heaps(raw, HEAD)
    _Walk(raw).group(file.id, "", 0)
    return raw


def _text_varies(item):
    """Whether any text in the attributes of a group is of variable length."""
    kinds = [h5a.open(item, index=k).get_type() for k in range(h5a.get_num_attrs(item))]
    return any(kind.get_class() == h5t.STRING and kind.is_variable_str() for kind in kinds)


class _Walk:
    """A walk over all objects; what is judged in the end is what each claims to hold."""

    def __init__(self, raw):
        self.raw, self.seen, self.most_rows, self.texts = raw, set(), 1, []

    def group(self, group, name, depth):
        if depth > DEEPEST:
            raise ValueError("groups lie in groups without end")
        self.attributes(group, name)
        for key in group:
            path = f"{name}/{key.decode('utf-8', 'replace')}"
            link = group.links.get_info(key)
            if link.type != h5l.TYPE_HARD:
                raise ValueError(f"{path} is a link to another place")
            check_header(self.raw, link.u)
            info = h5o.get_info(group, key)
            if info.addr in self.seen:
                raise ValueError(f"{path} is there under two names")
            self.seen.add(info.addr)
            item = h5o.open(group, key)
            if info.type == h5o.TYPE_GROUP:
                self.group(item, path, depth + 1)
            elif info.type == h5o.TYPE_DATASET:
                self.dataset(item, path)
                self.attributes(item, path)
            else:
                raise ValueError(f"{path} is neither a group nor a dataset")
        if depth == 0:
            self.end()

    def attributes(self, item, name):
        for k in range(h5a.get_num_attrs(item)):
            attribute = h5a.open(item, index=k)
            if attribute.get_type().get_class() not in KINDS:
                raise ValueError(f"an attribute of {name or 'the file'} is of a kind that fastdesc does not write")

    def dataset(self, dataset, name):
        kind = dataset.get_type()
        if kind.get_class() not in KINDS:
            raise ValueError(f"{name} is of a kind that fastdesc does not write")
        made = dataset.get_create_plist()
        if made.get_external_count():
            raise ValueError(f"{name} lies in another file")
        layout = made.get_layout()
        if layout == h5d.VIRTUAL:
            self.virtual(made, name)
            return
        for k in range(made.get_nfilters()):
            if made.get_filter(k)[0] not in FILTERS:
                raise ValueError(f"{name} needs the filter {made.get_filter(k)[0]}, which fastdesc does not use")
        n, shape = dataset.get_space().get_simple_extent_npoints(), dataset.shape
        size = n * kind.get_size()
        text = kind.get_class() == h5t.STRING and kind.is_variable_str()
        item = TEXT_BYTES if text else kind.get_size()
        chunk = item * prod(made.get_chunk()) if layout == h5d.CHUNKED else 0
        if chunk > MOST_CHUNK_BYTES:
            raise ValueError(f"{name} has chunks of {chunk} bytes")
        if chunk and not made.get_nfilters() and dataset.get_storage_size() != chunk * dataset.get_num_chunks():
            # HDF5 would make memory for as much as a chunk is said to have, and leave what it has not as it is.
            raise ValueError(f"{name} has chunks of another size than {chunk} bytes")
        if text:
            if made.get_nfilters() or (chunk and made.get_chunk()[1:] != shape[1:]) or prod(shape[1:]) > WIDEST_TEXT:
                raise ValueError(f"{name} is text of a kind that fastdesc does not write")
            if chunk:
                self.texts.append((name, shape[0]))
                return
        if chunk:
            filters = {made.get_filter(k)[0] for k in range(made.get_nfilters())}
            if filters:
                least = CHECKSUM if h5z.FILTER_FLETCHER32 in filters else 0
                dataset.chunk_iter(lambda stored: _check_chunk(stored, least, self.raw.size, name))
            if size > max(SMALL, self.raw.size) and size > chunk * dataset.get_num_chunks():
                raise ValueError(f"{name} has the shape {shape}, and the file does not hold as much")
        elif size > self.raw.size:
            raise ValueError(f"{name} has the shape {shape}, and the file does not hold as much")
        self.most_rows = max(self.most_rows, shape[0] if shape else 1)

    def virtual(self, made, name):
        for k in range(made.get_virtual_count()):
            if not SHARD.fullmatch(made.get_virtual_filename(k)) or made.get_virtual_dsetname(k) != name[1:]:
                raise ValueError(f"{name} is made of parts of other files than the shards beside it")
            if not made.get_virtual_vspace(k).is_simple():
                raise ValueError(f"{name} is made of parts without an end")

    def end(self):
        """Text where nothing was written takes no place; it has the rows of other datasets."""
        for name, n in self.texts:
            if n > self.most_rows:
                raise ValueError(f"{name} has {n} rows, and the file does not hold as much")


def _check_chunk(chunk, least, size, name):
    """ValueError for a filtered chunk that goes beyond the end, or is too short for a checksum.

    HDF5 makes memory for it as it is said to be; and sums up as many bytes as its size less 4 says.
    """
    if not least <= chunk.size <= size - chunk.byte_offset:
        raise ValueError(f"{name} has a chunk of {chunk.size} bytes at {chunk.byte_offset}, which there cannot be")


def check_beginning(path, beneath=None):
    """RuntimeError unless the root of a file is whole, which HDF5 reads as soon as it opens the file.

    Parameters
    ----------
    path : Path
        Not used where there is `beneath`.
    beneath : CommittedFile or JournaledFile, optional
        Through which HDF5 is going to read it.
    """
    fd = None if beneath is not None else os.open(path, os.O_RDONLY)
    try:
        check_root(Raw(fd, beneath))
    except ValueError as error:    # opening fails with others, for other reasons
        raise RuntimeError(str(error)) from error
    finally:
        if fd is not None:
            os.close(fd)


class CheckedFile(h5py.File):
    """A file, open to read, whose structure was judged; its text is read by `text`.

    Parameters
    ----------
    source : Path, or CommittedFile

    Raises
    ------
    OSError, ValueError, RuntimeError, KeyError
        As HDF5 and `check_structure` do.
    """

    def __init__(self, source, **options):
        beneath = source if hasattr(source, "readinto") else None
        check_beginning(source, beneath)
        super().__init__(source, "r", **options)
        try:
            self.raw = check_structure(self, beneath)
        except BaseException as error:
            self.close()
            if beneath is None and isinstance(error, OSError | ValueError):    # opening failed otherwise
                raise RuntimeError(str(error)) from error
            raise

    def text(self, name, rows=slice(None)):
        """Rows of a dataset of text, by name, compared with their checksums, if they have any; an array of str."""
        found = read_text(self.raw, self[name], rows)
        check_text_sums(self, f"/{name}", rows, found)
        return found
