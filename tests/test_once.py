"""Checks that are made once are left out on the same sources alone."""

import json

import pytest
from helpers import once


class Item:
    """What is asked of a collected test."""

    def __init__(self, nodeid, *words, marked=True):
        self.nodeid = nodeid
        self._marks = [pytest.mark.once(*words).mark] if marked else []

    def get_closest_marker(self, name):
        return self._marks[0] if self._marks else None

    def iter_markers(self, name):
        return iter(self._marks)


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A folder in the place of the repository, with a kernel."""
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "a.cu").write_text("one")
    monkeypatch.setattr(once, "REPOSITORY", tmp_path)
    monkeypatch.setattr(once, "KEPT", tmp_path / "checked.json")
    once.of_sources.cache_clear()
    yield tmp_path
    once.of_sources.cache_clear()


def test_only_on_the_same_sources(sources):
    first, second, plain = Item("a"), Item("b", "NVRTC 13.1"), Item("c", marked=False)
    assert once.passed_before([first, second, plain]) == []
    once.write_down({item.nodeid: once.digest(item) for item in (first, second)})
    assert once.passed_before([first, second, plain]) == [first, second]
    assert once.passed_before([Item("b", "NVRTC 13.2"), Item("d")]) == []
    (sources / "kernels" / "a.cu").write_text("two")
    once.of_sources.cache_clear()
    assert once.passed_before([first, second]) == []


def test_a_new_file_and_a_new_name_count(sources):
    before = once.of_sources()
    (sources / "kernels" / "a.cu").rename(sources / "kernels" / "b.cu")
    once.of_sources.cache_clear()
    renamed = once.of_sources()
    (sources / "kernels" / "c.cuh").write_text("")
    once.of_sources.cache_clear()
    assert len({before, renamed, once.of_sources()}) == 3


def test_names_are_written_in_order(sources):
    once.write_down({"b": "2", "a": "1"})
    assert list(json.loads(once.KEPT.read_text())) == ["a", "b"]
