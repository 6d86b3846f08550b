"""Lines of words and decimal numbers, read as Python's float reads them, some ten times quicker.

A decimal number m 10^e with a whole m <= 2^53 and |e| <= 22 is the quotient or product of two float64 without error, so
one operation rounds it as it should be (Clinger, How to read floating point numbers accurately, PLDI 1990). What is
written otherwise is left to float.
"""

import numpy as np

from fastdesc.backend.jit import inner, kernel

MOST = 22
POWERS = np.array([float(10**k) for k in range(MOST + 1)])
MOST_DIGITS = 18    # fit into 64 bits
EXACT = 2**53
LETTERS = 4    # of a packed word
STRIDE = 64
TAB, NEWLINE, RETURN, SPACE, PLUS, MINUS, POINT, ZERO, NINE, E, e = b"\t\n\r +-.09Ee"


class Table:
    """Words and numbers of lines that have the same columns.

    Attributes
    ----------
    numbers : (n_lines, n_columns of numbers) float64 array
    """

    def __init__(self, text, n_lines, n_names, n_numbers):
        self.text = text
        self.places = np.empty((n_names, n_lines, 2), np.int64)    # begin and end of each word
        self.letters = np.zeros((n_names, n_lines, LETTERS), np.uint8)
        self.numbers = np.empty((n_lines, n_numbers))

    def words(self, column):
        """Those of a column that holds words, a list of str."""
        return [self.text[a:b] for a, b in self.places[column].tolist()]

    def packed(self, column):
        """Those of a column as bytes, for `unpacked`; None where one is too long."""
        letters = self.letters[column]
        return letters.tobytes() if letters[:, 0].all() else None


def unpacked(words):
    """Words, packed or a sequence of str, as a sequence of str."""
    return np.frombuffer(words, f"S{LETTERS}").astype(str).tolist() if isinstance(words, bytes) else words


def read_table(text, n_lines, is_name):
    """Read lines that have the same columns.

    Parameters
    ----------
    text : str
        Lines, with their ends but perhaps that of the last.
    is_name : (n_columns,) bool array
        Whether a column holds a word rather than a number; further columns are passed over.

    Returns
    -------
    Table
        Or None, where a line is too short or a number needs more than one operation: NaN and inf, 17 digits.
    """
    data = np.frombuffer(text.encode(), np.uint8)
    if len(data) != len(text):
        return None
    n_names = int(np.count_nonzero(is_name))
    table = Table(text, n_lines, n_names, len(is_name) - n_names)
    return table if read_lines(data, is_name, table.places, table.letters, table.numbers) else None


@inner
def _number(data, at):
    """Return the number that begins at `at` and where it ends; -1 where this cannot read it."""
    negative = data[at] == MINUS
    if negative or data[at] == PLUS:
        at += 1
    mantissa, digits, after_point, in_fraction = 0, 0, 0, False
    while at < len(data):
        c = data[at]
        if ZERO <= c <= NINE:
            mantissa = 10 * mantissa + (c - ZERO)
            digits += 1
            after_point += in_fraction
        elif c == POINT and not in_fraction:
            in_fraction = True
        else:
            break
        at += 1
        if digits > MOST_DIGITS:
            return 0.0, -1
    exponent = 0
    if digits > 0 and at < len(data) and (data[at] == E or data[at] == e):
        at += 1
        down = at < len(data) and data[at] == MINUS
        if down or (at < len(data) and data[at] == PLUS):
            at += 1
        begin = at
        while at < len(data) and at < begin + 3 and ZERO <= data[at] <= NINE:
            exponent = 10 * exponent + (data[at] - ZERO)
            at += 1
        if at == begin:
            return 0.0, -1
        exponent = -exponent if down else exponent
    exponent -= after_point
    ends = at == len(data) or data[at] == SPACE or data[at] == NEWLINE or data[at] == TAB or data[at] == RETURN
    if digits == 0 or not ends or mantissa > EXACT or abs(exponent) > MOST:
        return 0.0, -1
    value = mantissa / POWERS[-exponent] if exponent < 0 else mantissa * POWERS[exponent]
    return -value if negative else value, at


@kernel
def read_lines(data, is_name, places, letters, numbers):
    """Fill the table from text; returns whether that could be done.

    in   data (n,) uint8, is_name (n_columns,) bool
    out  places (n_name_columns, n_lines, 2) begin and end of each word, letters (n_name_columns, n_lines, LETTERS) its
         letters and zeros, only zeros of one that is longer; numbers (n_lines, n_number_columns)
    """
    at = 0
    for line in range(len(numbers)):
        name = number = 0
        for column in range(len(is_name)):
            while at < len(data) and (data[at] == SPACE or data[at] == TAB):
                at += 1
            if at == len(data) or data[at] == NEWLINE or data[at] == RETURN:
                return False
            if is_name[column]:
                begin = at
                while at < len(data) and not (
                    data[at] == SPACE or data[at] == TAB or data[at] == NEWLINE or data[at] == RETURN
                ):
                    at += 1
                places[name, line, 0], places[name, line, 1] = begin, at
                for k in range(at - begin if at - begin <= LETTERS else 0):
                    letters[name, line, k] = data[begin + k]
                name += 1
            else:
                value, at = _number(data, at)
                if at < 0:
                    return False
                numbers[line, number] = value
                number += 1
        while at < len(data) and data[at] != NEWLINE:
            at += 1
        at += 1
    return True


@kernel
def skip_lines(data, at, n):
    """Pass over n lines of data (n_bytes,) uint8 from `at` on.

    Returns
    -------
    where the next line begins, 0; or the length of data and how many lines are left
    """
    while at + STRIDE <= len(data):    # no decision within: the compiler counts many bytes at a time
        ends = 0
        for k in range(STRIDE):
            ends += data[at + k] == NEWLINE
        if ends >= n:
            break
        n -= ends
        at += STRIDE
    while n > 0 and at < len(data):
        n -= data[at] == NEWLINE
        at += 1
    return at, n
