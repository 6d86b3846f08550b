"""Numbers from text: those of float to the last bit, or None."""

import numpy as np
import pytest

from fastdesc.io.extxyz_numbers import read_table, skip_lines, unpacked

PLAIN = np.array([False])
WORDS = ("0", "-0", "+7", "5.", ".5", "-.5", "1e5", "1E-5", "-2.5e+07", "000123.4500", "9007199254740992", "1e22",
         "1e-22", "123456789012345678e-20", "0.1", "3.141592653589793", "4.35", "0.000001",
         "72057594037927936e-17")  # fmt: skip
LEFT = ("nan", "inf", "-inf", "1_000", "1e23", "1e-23", "0.1234567890123456789", "9007199254740993", "1e", "1e+", "-",
        "1.2.3", "0x10", "1d5", "--1", "1e1234", "T", "Cu")  # fmt: skip


def numbers(lines, is_name=PLAIN):
    found = read_table("".join(lines), len(lines), is_name)
    return None if found is None else found.numbers


@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_what_float_says(word):
    found = numbers([word + "\n"])
    if found is not None:    # what it declines it may decline, but for the usual
        np.testing.assert_array_equal(found, [[float(word)]])
        assert np.signbit(found[0, 0]) == np.signbit(float(word))
    else:
        assert abs(int(word.split("e")[0].replace(".", ""))) > 2**53


@pytest.mark.parametrize("word", LEFT)
def test_what_one_operation_cannot_round_is_left(word):
    assert numbers([word + "\n"]) is None


@pytest.mark.parametrize("form", ["%.8f", "%16.8f", "%.6e", "%g", "%.15g", "%d", "%+.3f"])
def test_numbers_of_every_usual_form(form):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2000, 3)) * 10.0 ** rng.integers(-6, 6, (2000, 3))
    lines = [" ".join(form % x for x in row) + "\n" for row in values]
    wanted = np.array([[float(word) for word in line.split()] for line in lines])
    found = numbers(lines, np.zeros(3, bool))
    if form == "%.15g":    # some have mantissas above 2^53
        lines = [line for line in lines if numbers([line], np.zeros(3, bool)) is not None]
        assert len(lines) > 1000
        wanted = np.array([[float(word) for word in line.split()] for line in lines])
        found = numbers(lines, np.zeros(3, bool))
    np.testing.assert_array_equal(found, wanted)


def test_words_stand_where_they_stand_and_further_columns_are_passed_over():
    lines = ["  Cu\t1 2.5 left 3\n", "O 4 5 right -6 further 7 nan\r\n", "H 7 8 here 9"]
    found = read_table("".join(lines), 3, np.array([True, False, False, True, False]))
    assert found.words(0) == ["Cu", "O", "H"] and found.words(1) == ["left", "right", "here"]
    assert list(unpacked(found.packed(0))) == found.words(0) and found.packed(1) is None, "right is too long"
    np.testing.assert_array_equal(found.numbers, [[1, 2.5, 3], [4, 5, -6], [7, 8, 9]])


@pytest.mark.parametrize("line", ["3\n", "\n", "3 ", "Cu 3\n", "3x 4\n"])
def test_lines_that_do_not_fit_are_left_to_who_can_explain(line):
    assert read_table("1 2\n" + line, 2, np.zeros(2, bool)) is None


def test_only_ascii_is_read():
    assert read_table("Cu 1\nÜ 2\n", 2, np.array([True, False])) is None


def test_no_lines_at_all():
    found = read_table("", 0, np.array([True, False]))
    assert found.words(0) == [] and found.numbers.shape == (0, 1)


@pytest.mark.parametrize("seed", range(5))
def test_lines_are_passed_over(seed):
    """Any number of lines, from anywhere in the text; and how many are left where it ends."""
    rng = np.random.default_rng(seed)
    text = b"".join(b"x" * int(k) + b"\n" for k in rng.integers(0, [3, 200][seed % 2], 60)) + b"no end"
    data, ends = np.frombuffer(bytearray(text), np.uint8), np.flatnonzero(np.frombuffer(text, np.uint8) == 10) + 1
    for _ in range(200):
        at, n = int(rng.integers(0, len(text) + 1)), int(rng.integers(0, 70))
        after = ends[ends > at]
        want = (at, 0) if n == 0 else (after[n - 1], 0) if n <= len(after) else (len(text), n - len(after))
        assert skip_lines(data, at, n) == want
