"""Going on with a features file: the frames that are in it are compared, the ones that were skipped are tried again."""

from dataclasses import replace

import numpy as np

from fastdesc.errors import InputError
from fastdesc.io.parser_processes import batches

ADVICE = "choose another name or do not resume"


def new_batches(source, writer, chunk_atoms, on_error, readers, usable):
    """Return an iterator over the batches that are not in the file yet.

    Before that, what the file holds is compared with the input, unless its files are untouched. A frame that was
    skipped and can be used now takes its place: the file is taken back to there.

    Parameters
    ----------
    source : Source
    writer : FeaturesWriter
    usable : callable
        Takes a batch and returns that of the frames the descriptor accepts.

    Raises
    ------
    InputError
        When a frame is another one than before, has other labels, or is missing.
    """
    done = writer.done
    untouched = writer.check_input(source)
    if not done or untouched:
        return batches(source, source.raw_batches(chunk_atoms, done, done), on_error, readers)
    found = batches(source, source.raw_batches(chunk_atoms, 0, done), "skip", readers)
    earlier, seen = Earlier(writer), 0
    try:
        while seen < done:
            batch = next(found, None)
            if batch is None:
                raise InputError(
                    f"{writer.path} holds {done} frames and the input only {seen}; resuming adds frames and drops none"
                )
            mended = earlier.compare(batch, seen, usable)
            if mended is not None:
                found.close()
                writer.take_back(mended)
                return batches(source, source.raw_batches(chunk_atoms, mended, mended), on_error, readers)
            seen += batch.n_seen
    except BaseException:
        found.close()
        raise
    return found if on_error == "skip" else _refusing(found)


def _refusing(found):
    """Batches, up to the first with a frame that cannot be used."""
    for batch in found:
        if batch.skipped:
            raise InputError(batch.skipped[0].reason)
        yield batch


class Earlier:
    """What a file holds of the frames of its input.

    Parameters
    ----------
    writer : FeaturesWriter
    """

    def __init__(self, writer):
        self.path, self.file = writer.path, writer.file
        self.number = self.file["number"][...]

    def compare(self, batch, first, usable):
        """Judge the frames of a batch, whose first one has the number `first`.

        Returns
        -------
        int or None
            Number of the first frame that was skipped and can be used now.
        """
        a, b = np.searchsorted(self.number, (first, first + batch.n_seen)).tolist()
        theirs = self.number[a:b]
        known = np.isin(batch.number, theirs)
        mended = None
        if not known.all():
            new = usable(replace(batch.take(np.flatnonzero(~known)), skipped=[])).number
            mended = int(new[0]) if len(new) else None
        # From that frame on everything is made again, so nothing after it needs to be as it was.
        last = first + batch.n_seen if mended is None else mended
        ours = batch.take(np.flatnonzero(known & (batch.number < last)))
        b = a + int(np.searchsorted(theirs, last))
        gone = np.setdiff1d(self.number[a:b], ours.number)
        if len(gone):
            reasons = [x.reason for x in batch.skipped if x.number == gone[0]]
            why = f" ({reasons[0]})" if reasons else ""
            raise InputError(f"frame {gone[0]} is in {self.path} and cannot be used any more{why}; {ADVICE}")
        different = ours.keys() != self.file["keys"][a:b]
        if different.any():
            raise InputError(
                f"frame {ours.number[different][0]} of the input is not the one in {self.path}; resuming needs the "
                "same frames in the same order, with new ones at the end"
            )
        self._compare_labels(ours, a, b)
        return mended

    def _compare_labels(self, ours, a, b):
        if a == b:
            return
        atoms = slice(int(self.file["offsets"][a]), int(self.file["offsets"][b]))
        frame_of_atom = ours.structures.frame_of_atom
        for name, rows in (("energies", slice(a, b)), ("forces", atoms), ("stress", slice(a, b))):
            mine, theirs = getattr(ours, name), self.file[name][rows]
            same = ((mine == theirs) | (np.isnan(mine) & np.isnan(theirs))).reshape(len(mine), -1).all(1)
            if not same.all():
                k = int(np.flatnonzero(~same)[0])
                frame = int(ours.number[frame_of_atom[k] if name == "forces" else k])
                what = {"energies": "energy", "stress": "stress", "forces": "forces"}[name]
                verb = "are not those" if name == "forces" else "is not the one"
                raise InputError(f"the {what} of frame {frame} {verb} in {self.path}; {ADVICE}")
