"""Files for LAMMPS' meam/spline: read, written, refused."""

import numpy as np
import pytest
from helpers.meam_functions import assert_same, functions_of, random_potential
from scipy.interpolate import CubicSpline

from fastdesc.errors import FileFormatError, InputError
from fastdesc.io.meam_spline import MeamSpline, read_functions, write_functions

SINGLE = """any first line: 7 8 9
3
-20.0 0.0
1 0 1 0
1.5 3.7 0.0e+00
2.5 0.9 1.087  # a remark

3.5 0 0
3
-1 0
1 0 0 0
1.5 1.7 0
2.0 -5.8 2
2.5 0 7
2
0.5 0.25
1 1 1 1
-55 -0.25 0
-35 0.125 0
4
2.5d0 0
1 0 1 0
1.5 -0.14 1
2.0 1.68 2
2.5 2.01 3
3.0 0 4
2
8.5 -60
1 1 1 1
-1.0 0.07 0
0.9 0.5 0
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="potential.meam.spline"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_older_form(write):
    potential = read_functions(write(SINGLE), element="Ti")
    assert potential.elements == ("Ti",)
    assert [function[0].splines.n_knots for function in functions_of(potential)] == [3, 3, 2, 4, 2]
    assert potential.cutoff == 3.5
    x = np.linspace(1.5, 3.0, 40, endpoint=False)
    scipy = CubicSpline([1.5, 2.0, 2.5, 3.0], [-0.14, 1.68, 2.01, 0], bc_type=((1, 2.5), (1, 0)))
    for order in range(3):
        np.testing.assert_allclose(potential.f[0](x, order), scipy(x, order), rtol=0, atol=1e-11)
    assert potential.phi[0](1.0) == pytest.approx(3.7 + 0.5 * 20, abs=1e-12)
    assert potential.U[0](-30.0) == pytest.approx(0.125 + 5 * 0.25, abs=1e-12)


@pytest.mark.parametrize("form", ["named", "single"])
def test_one_element_there_and_back(tmp_path, form):
    potential = random_potential(["Si"])
    write_functions(tmp_path / "a", potential, "two\nlines", form)
    assert_same(read_functions(tmp_path / "a", element="Si"), potential)
    assert ((tmp_path / "a").read_text().splitlines()[1] == "meam/spline 1 Si") == (form == "named")


@pytest.mark.parametrize("elements", [("Ti", "O"), ("O", "Cu", "H")])
def test_many_elements_there_and_back(tmp_path, elements):
    potential = random_potential(elements)
    write_functions(tmp_path / "a", potential)
    assert_same(read_functions(tmp_path / "a"), potential)
    assert_same(read_functions(tmp_path / "a", element="O"), potential)
    n = len(elements)
    assert (tmp_path / "a").read_text().count("spline3eq") == 3 * n + n * (n + 1)


def test_second_derivatives_are_written(tmp_path):
    """Not read by anybody who solves for them; written all the same, as others do."""
    potential = random_potential(["Si"])
    write_functions(tmp_path / "a", potential, form="single")
    lines = (tmp_path / "a").read_text().splitlines()
    knots = np.array([line.split() for line in lines[4:10]], float)
    phi = potential.phi[0]
    slopes = [(1, phi.parameters[-2]), (1, phi.parameters[-1])]
    scipy = CubicSpline(knots[:, 0], phi.parameters[:-2], bc_type=slopes)
    np.testing.assert_allclose(knots[:, 2], scipy(knots[:, 0], 2), rtol=0, atol=1e-9)


# ---------------------------------------------------------------------------------------------------------- refusals


def changed(old, new):
    assert old in SINGLE
    return SINGLE.replace(old, new, 1)


NAMED = "comment\nmeam/spline 2 Ti O\nspline3eq\n2\n0 0\n1 0 0\n2 0 0\n"
MALFORMED = {
    "empty": ("", "ends after 0"),
    "comment alone": ("# a potential\n", "ends after 1"),
    "words": ("one\ntwo three\n", "'two three'.*number of knots of phi"),
    "xml": ("<?xml?>\n<a>\n</a>\n", "'<a>'.*number of knots of phi"),
    "no knots": (changed("3\n", "0\n"), "line 2.*phi has 0 knots"),
    "half a knot": (changed("3\n", "2.5\n"), "phi has 2.5 knots"),
    "one slope": (changed("-20.0 0.0", "-20.0"), "line 3.*slopes of phi"),
    "nan": (changed("-20.0", "nan"), "line 3.*slopes of phi"),
    "infinite": (changed("-5.8", "inf"), "line 13.*knot 2 of 3 of rho"),
    "two columns": (changed("2.5 0.9 1.087", "2.5 0.9"), "line 6.*knot 2 of 3 of phi"),
    "uneven": (changed("2.5 0.9", "2.6 0.9"), "phi are not equally spaced"),
    "descending": (changed("-35 0.125", "-75 0.125"), "U are not equally spaced"),
    "one knot too many": (changed("2.0 -5.8 2", "2.0 -5.8 2\n2.2 1 1"), "line 14.*rho are not equally spaced"),
    "more than all": (SINGLE + "1 2 3\n", "line 32.*goes on after"),
    "truncated": (SINGLE[: SINGLE.index("2.01 3")], "line 25.*knot 3 of 4 of f"),
    "truncated in a number": (SINGLE[:-6], "line 31.*knot 2 of 2 of g"),
    "truncated between functions": (SINGLE[: SINGLE.index("2\n8.5")], "number of knots of g should follow"),
    "no elements": (NAMED.replace("2 Ti O", ""), "line 2.*as many elements"),
    "too few elements": (NAMED.replace("2 Ti O", "3 Ti O"), "line 2.*as many elements"),
    "no element": (NAMED.replace("2 Ti O", "2 Ti Xy"), "line 2.*as many elements"),
    "twice": (NAMED.replace("2 Ti O", "2 Ti Ti"), "line 2.*as many elements"),
    "zero elements": (NAMED.replace("2 Ti O", "0"), "line 2.*as many elements"),
    "another kind of spline": (NAMED.replace("spline3eq", "spline5"), "line 3.*phi 1 of 3.*spline3eq"),
    "functions missing": (NAMED, "spline3eq of function phi 2 of 3 should follow"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files(write, name):
    text, mention = MALFORMED[name]
    with pytest.raises(FileFormatError, match=mention):
        read_functions(write(text), element="Ti")


def test_a_file_cut_anywhere_is_refused_or_whole(write):
    """Whatever is left of a file, the answer is one of ours; and all but the last digits are missed."""
    whole = SINGLE.rstrip("\n")
    for n in range(len(whole)):
        try:
            read_functions(write(whole[:n]), element="Ti")
        except FileFormatError:
            continue
        raise AssertionError(f"{n} of {len(whole)} characters were taken for a potential")
    read_functions(write(whole), element="Ti")


def test_binary_files_are_refused(tmp_path):
    (tmp_path / "a").write_bytes(np.random.default_rng(0).bytes(3000))
    with pytest.raises(FileFormatError):
        read_functions(tmp_path / "a", element="Ti")


def test_wrong_questions(tmp_path, write):
    with pytest.raises(InputError, match="does not exist"):
        read_functions(tmp_path / "nothing")
    with pytest.raises(InputError, match="folder"):
        read_functions(tmp_path)
    for element in (None, "Xy"):
        with pytest.raises(InputError, match="element="):
            read_functions(write(SINGLE), element=element)
    write_functions(tmp_path / "a", random_potential(["Ti", "O"]))
    with pytest.raises(InputError, match=r"'Si'.*Ti, O"):
        read_functions(tmp_path / "a", element="Si")
    with pytest.raises(InputError, match="one element"):
        write_functions(tmp_path / "b", random_potential(["Ti", "O"]), form="single")
    with pytest.raises(InputError, match="form 'old'"):
        write_functions(tmp_path / "b", random_potential(["Ti"]), form="old")
    with pytest.raises(InputError, match="folder"):
        write_functions(tmp_path / "no_such_folder" / "b", random_potential(["Ti"]))
    assert not (tmp_path / "b").exists()
    one = random_potential(["Ti"])
    with pytest.raises(InputError, match="functions phi"):
        MeamSpline(("Ti", "O"), one.phi, one.rho, one.U, one.f, one.g)
