"""Lines of words and decimal numbers, read as Python's float reads them, some ten times quicker.

A decimal number m 10^e with a whole m <= 2^53 and |e| <= 22 is the quotient or product of two float64 without error, so
one operation rounds it as it should be (Clinger, How to read floating point numbers accurately, PLDI 1990). What is
written otherwise is left to float.
"""

import numpy as np

from fastdesc.jit import inner, kernel

MOST = 22
POWERS = np.array([float(10**k) for k in range(MOST + 1)])
MOST_DIGITS = 18    # fit into 64 bits
EXACT = 2**53
TAB, NEWLINE, RETURN, SPACE, PLUS, MINUS, POINT, ZERO, NINE, E, e = b"\t\n\r +-.09Ee"


def read_table(lines, is_name):
    """Read lines that have the same columns.

    Parameters
    ----------
    lines : list of str
        With their line ends, but perhaps the last.
    is_name : (n_columns,) bool array
        Whether a column holds a word rather than a number; further columns are passed over.

    Returns
    -------
    names : list of list of str
        The words of each column that holds words.
    numbers : (n_lines, n_columns of numbers) float64 array
        Or None for both, where a line is too short or a number needs more than one operation: NaN and inf, 17 digits.
    """
    text = "".join(lines)
    data = np.frombuffer(text.encode(), np.uint8)
    if len(data) != len(text):
        return None
    n_names = int(np.count_nonzero(is_name))
    words = np.empty((n_names, len(lines), 2), np.int64)
    numbers = np.empty((len(lines), len(is_name) - n_names))
    if not read_lines(data, is_name, words, numbers):
        return None
    return [[text[a:b] for a, b in column] for column in words.tolist()], numbers


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
def read_lines(data, is_name, words, numbers):
    """Fill the table from text; returns whether that could be done.

    in   data (n,) uint8, is_name (n_columns,) bool
    out  words (n_name_columns, n_lines, 2) begin and end of each, numbers (n_lines, n_number_columns)
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
                words[name, line, 0], words[name, line, 1] = begin, at
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
