"""Files for LAMMPS' meam/spline: read, written, refused; spline filters as such potentials and back."""

import ase
import numpy as np
import pytest
from references import spline_filters as textbook
from references.neighbours import neighbours, pair_vectors
from scipy.interpolate import CubicSpline
from structures_zoo import ZOO

from fastdesc.descriptors.spline_filters import SplineFilters
from fastdesc.descriptors.spline_filters_meam import from_filters, to_filters
from fastdesc.errors import FileFormatError, InputError
from fastdesc.meam_spline import MeamSpline, SplineFunction, read_functions, write_functions
from fastdesc.splines import Splines

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


def spline_function(seed, x0=1.2, x1=4.0, n=6, pinned=True):
    p = np.random.default_rng(seed).normal(size=n + 2)
    if pinned:
        p[[-3, -1]] = 0
    return SplineFunction(Splines(x0, x1, n), p)


def random_potential(elements):
    """Return a potential whose functions have the knots that spline filters share."""
    n = len(elements)
    pairs = n * (n + 1) // 2
    return MeamSpline(
        tuple(elements),
        phi=tuple(spline_function(k) for k in range(pairs)),
        rho=tuple(spline_function(10 + k) for k in range(n)),
        U=tuple(spline_function(20 + k, -3.0, 5.0, 4, pinned=False) for k in range(n)),
        f=tuple(spline_function(30 + k, x1=3.5) for k in range(n)),
        g=tuple(spline_function(40 + k, -1.0, 1.0, pinned=False) for k in range(pairs)),
    )


def functions_of(potential):
    return [getattr(potential, name) for name in ("phi", "rho", "U", "f", "g")]


def assert_same(one, two):
    assert one.elements == two.elements
    for these, those in zip(functions_of(one), functions_of(two), strict=True):
        for a, b in zip(these, those, strict=True):
            assert (a.splines.x0, a.splines.x1, a.splines.ends) == (b.splines.x0, b.splines.x1, b.splines.ends)
            np.testing.assert_array_equal(a.parameters, b.parameters)


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


# ---------------------------------------------------------------------------------------------------- spline filters


def energy_by_the_formula(potential, atoms):
    """Formulas (1) and (2), term by term."""
    z = [potential.elements.index(symbol) for symbol in atoms.get_chemical_symbols()]
    n = len(potential.elements)
    number = {}
    for a in range(n):
        for b in range(a, n):
            number[a, b] = number[b, a] = len(set(number.values()))
    i, j, shift = neighbours(atoms.positions, atoms.cell.array, atoms.pbc, potential.cutoff)
    r = pair_vectors(atoms.positions, atoms.cell.array, i, j, shift)
    d = np.sqrt((r**2).sum(1))
    energy = 0.5 * sum(potential.phi[number[z[a], z[b]]](x) for a, b, x in zip(i, j, d, strict=True))
    for atom in range(len(atoms)):
        mine = np.flatnonzero(i == atom)
        density = sum(potential.rho[z[j[p]]](d[p]) for p in mine)
        for k, p in enumerate(mine):
            for q in mine[:k]:
                cosine = r[p] @ r[q] / (d[p] * d[q])
                f = potential.f[z[j[p]]](d[p]) * potential.f[z[j[q]]](d[q])
                density += f * potential.g[number[z[j[p]], z[j[q]]]](cosine)
        U = potential.U[z[atom]]
        energy += U(density) - U(0.0)
    return energy


def energy_by_filters(descriptor, pair_weights, density_weights, U, atoms):
    """Formula (3)."""
    q = descriptor.compute(atoms)
    z = np.searchsorted(descriptor.species_numbers, atoms.numbers)
    pairs = (pair_weights[z] * q[:, :-1]).sum()
    return pairs + sum(U[s](n) - U[s](0.0) for s, n in zip(z, q @ density_weights, strict=True))


@pytest.mark.parametrize(
    ("elements", "structure"),
    [(["Cu"], "self_images"), (["Na", "Cl"], "triclinic"), (["O", "H", "C"], "three_elements")],
)
def test_a_potential_is_filters_and_back(elements, structure):
    """Elements in any order; the energy of the filters is that of the formula, and the way back leads to the start."""
    potential, atoms = random_potential(elements), ZOO[structure]()
    filters = to_filters(potential)
    wanted = energy_by_the_formula(potential, atoms)
    assert energy_by_filters(*filters, atoms) == pytest.approx(wanted, rel=1e-12)
    back = from_filters(*filters)
    assert back.elements == tuple(sorted(elements, key=ase.data.atomic_numbers.get))
    assert energy_by_the_formula(back, atoms) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("ends", [("clamped", "clamped"), ("natural", "natural")])
def test_filters_are_a_potential(tmp_path, shared, ends):
    """Any ends, several pair filters, weights of every kind; through a file."""
    d = SplineFilters(
        species=["H", "C", "O"], cutoff=4.5, triplet_cutoff=3.9, r_min=0.8, n_pair=3, n_triplet=1, n_knots=5, ends=ends,
        angular_ends=ends, shared=shared,
    )  # fmt: skip
    rng = np.random.default_rng(2)
    d.set_parameters(**{name: rng.uniform(-1, 1, x.shape) for name, x in d.parameters.items()})
    w, v = rng.uniform(-1, 1, (3, 3)), rng.uniform(-1, 1, 4)
    U = [spline_function(k, -3.0, 5.0, 4, pinned=False) for k in range(3)]
    write_functions(tmp_path / "a", from_filters(d, w, v, U))
    atoms = ZOO["three_elements"]()
    energy = energy_by_the_formula(read_functions(tmp_path / "a"), atoms)
    assert energy == pytest.approx(energy_by_filters(d, w, v, U, atoms), rel=1e-11)


def test_weights_that_do_not_fit_are_refused():
    d = SplineFilters(species=["Si"], n_pair=2, n_triplet=2)
    with pytest.raises(InputError, match="2 triplet filters"):
        from_filters(d, np.zeros((1, 2)), np.zeros(3), [spline_function(0)])
    d = SplineFilters(species=["Si"], n_pair=2, n_triplet=1)
    with pytest.raises(InputError, match="pair_weights"):
        from_filters(d, np.zeros(2), np.zeros(3), [spline_function(0)])
    with pytest.raises(InputError, match="density_weights"):
        from_filters(d, np.zeros((1, 2)), np.zeros(2), [spline_function(0)])


def test_textbook_and_formula_share_nothing_but_splines():
    """The formula's functions against the textbook's splines: two implementations of the same pieces."""
    function = spline_function(3)
    x = np.linspace(0.5, 3.9, 30)
    wanted = textbook.spline(x, function.parameters, 1.2, 4.0, ("clamped", "clamped"))
    np.testing.assert_allclose(function(x), wanted, rtol=0, atol=1e-12)
