"""Reading in several processes and ahead of the work: the same batches, few at a time."""

import os
import signal
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from ase.io import write
from helpers.featurizing import Fake, frames, messy, same, table

from fastdesc.errors import FastdescError, FileFormatError, InputError
from fastdesc.features import featurize
from fastdesc.features.stream import AHEAD
from fastdesc.features.writer import FeaturesWriter
from fastdesc.io import parser_processes
from fastdesc.io.frame_batch import FrameBatch
from fastdesc.io.sources import Source, build


def batches_of(path, readers, **keywords):
    source = Source(path)
    return list(parser_processes.batches(source, source.raw_batches(20), readers=readers, **keywords))


def test_reading_by_processes(tmp_path):
    path = tmp_path / "in.extxyz"
    messy(path)
    here, there = batches_of(path, 0, on_error="skip"), batches_of(path, 2, on_error="skip")
    assert len(here) == len(there) > 3
    for a, b in zip(here, there, strict=True):
        assert a.skipped == b.skipped and a.infos == b.infos
        np.testing.assert_array_equal(a.keys(), b.keys())
        np.testing.assert_array_equal(a.forces, b.forces)
    with pytest.raises(FileFormatError, match="nonsense"):
        batches_of(path, 1)


def test_a_parsing_process_that_dies_is_replaced(tmp_path, monkeypatch):
    path = tmp_path / "in.extxyz"
    write(path, frames())
    begin, killed = parser_processes._Worker.begin, []

    def killing(self, raw):
        begin(self, raw)
        if len(killed) < 2:
            killed.append(os.kill(self.process.pid, signal.SIGKILL))

    with monkeypatch.context() as patch:
        patch.setattr(parser_processes._Worker, "begin", killing)
        got = batches_of(path, 1)
    assert len(killed) == 2
    for a, b in zip(got, batches_of(path, 0), strict=True):
        np.testing.assert_array_equal(a.keys(), b.keys())
    monkeypatch.setattr(parser_processes, "SERVE", "import sys; sys.exit(3)")
    with pytest.raises(FastdescError, match=r"died 3 times on one batch \(exit code 3\)"):
        batches_of(path, 1)


def test_readers_follow_the_input(tmp_path, monkeypatch):
    path = tmp_path / "in.extxyz"
    write(path, frames())
    assert parser_processes.default_readers(Source(path), 64) == 0
    monkeypatch.setattr(parser_processes, "WORTH_PROCESSES", 100)
    assert [parser_processes.default_readers(Source(path), n) for n in (2, 4, 16, 64)] == [0, 1, 4, 8]
    assert parser_processes.default_readers(Source(frames()), 64) == 0
    with pytest.raises(InputError, match="readers came as -1"):
        featurize(path, tmp_path / "f.h5", Fake(), readers=-1)
    same(
        table(featurize(path, tmp_path / "f.h5", Fake(), readers=1, chunk_atoms=20)),
        table(featurize(path, tmp_path / "g.h5", Fake(), readers=0, chunk_atoms=20)),
    )


def test_length_is_estimated_while_reading(tmp_path):
    for name in ("in.extxyz", "in.extxyz.gz"):
        path = tmp_path / name
        write(path, frames(60) * 20, format="extxyz")
        source, seen = Source(path), []
        for number, (file, index, _, _) in enumerate(source.raw_frames()):
            assert (file, index) == (0, number)
            seen.append(source.estimate(number + 1))
        assert 600 < seen[700] < 2400 and seen[-1] == 1200
    assert Source([path, path]).estimate(0) is None
    assert build(next(iter(source.raw_batches(8))), [Path("x")]).n_frames >= 1


@pytest.mark.parametrize("slow", ["reader", "compute", "writer"])
def test_few_batches_are_alive_at_a_time(tmp_path, monkeypatch, slow):
    """Whichever stage is slow, the others wait for it: memory does not grow with the input."""
    alive, most, init = weakref.WeakSet(), [], FrameBatch.__init__
    forward, append = Fake.forward, FeaturesWriter.append

    def counted(self, *args):
        init(self, *args)
        alive.add(self)
        most.append(len(alive))
        time.sleep(0.01 * (slow == "reader"))

    def computing(*args):
        time.sleep(0.01 * (slow == "compute"))
        return forward(*args)

    def writing(*args):
        time.sleep(0.01 * (slow == "writer"))
        return append(*args)

    monkeypatch.setattr(FrameBatch, "__init__", counted)
    monkeypatch.setattr(Fake, "forward", computing)
    monkeypatch.setattr(FeaturesWriter, "append", writing)
    write(tmp_path / "in.extxyz", frames() * 6)
    featurize(tmp_path / "in.extxyz", tmp_path / "f.h5", Fake(), chunk_atoms=4)
    assert len(most) == 60 and max(most) <= 2 * AHEAD + 5
