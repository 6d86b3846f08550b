"""Images evaluated together: the numbers of each alone, in one evaluation for each step of a band."""

import numpy as np
import pytest
from ase.build import bulk
from ase.mep import NEB
from ase.optimize import BFGS
from helpers.potentials import cell, potential

import fastdesc as fd
from fastdesc.errors import InputError


def neb(images):
    return NEB(images, method="improvedtangent")


def band(n=5):
    first, last = cell(), cell()
    last.positions[0] += (0.4, 0.2, -0.1)
    images = [first, *(first.copy() for _ in range(n - 2)), last]
    neb(images).interpolate()
    return images


def test_a_band_is_evaluated_at_once_and_goes_as_with_calculators_of_their_own():
    p, images, alone = potential(), band(), band()
    together = fd.calculate_together(images, p)
    for image in alone:
        image.calc = fd.FastdescCalculator(p)
    found, expected = neb(images), neb(alone)
    assert abs(found.get_forces() - expected.get_forces()).max() < 1e-10
    assert together.evaluations == 1
    found.get_forces()
    assert together.evaluations == 1
    for which in (found, expected):
        BFGS(which, logfile=None).run(fmax=0, steps=3)
    assert together.evaluations == 4
    for one, other in zip(images, alone, strict=True):
        assert abs(one.positions - other.positions).max() < 1e-9
        assert one.get_potential_energy() == pytest.approx(other.get_potential_energy(), abs=1e-9)
        assert abs(one.get_stress() - other.get_stress()).max() < 1e-10


def test_only_images_that_moved_are_evaluated():
    images = band(3)
    together = fd.calculate_together(images, potential())
    before = [image.get_forces() for image in images]
    images[1].positions[0, 0] += 0.1
    asked = []
    evaluate = together.potential.evaluate

    def counted(structures, *more):
        asked.append(structures.n_frames)
        return evaluate(structures, *more)

    together.potential.evaluate = counted
    after = [image.get_forces() for image in images]
    assert asked == [1]
    assert np.array_equal(before[0], after[0]) and not np.array_equal(before[1], after[1])


def test_one_sentence_for_what_cannot_be():
    with pytest.raises(InputError, match="an image came twice"):
        fd.calculate_together([cell()] * 2, potential())
    with pytest.raises(InputError, match="empty"):
        fd.calculate_together([], potential())
    with pytest.raises(InputError, match="Potential or the path"):
        fd.calculate_together([bulk("Cu")], 3)


def test_what_is_not_finite_never_reaches_an_optimizer():
    images = band(3)
    together = fd.calculate_together(images, potential())
    evaluate = together.potential.evaluate

    def spoilt(structures, *more):
        found = evaluate(structures, *more)
        found[1][structures.first[1]] = np.nan    # a force of the second image
        return found

    together.potential.evaluate = spoilt
    for asked in images:
        with pytest.raises(InputError, match=r"the forces of image 1 are not finite \(energy .* eV\)"):
            asked.get_forces()


def test_images_that_are_refused_have_no_results_of_before():
    """Two atoms meet in one image; the others had been moved with it, and must not give what they gave before."""
    images = band(3)
    fd.calculate_together(images, potential())
    before = [image.get_forces() for image in images]
    for image in images:
        image.positions[0] += 0.05
    images[1].positions[2] = images[1].positions[3]
    with pytest.raises(InputError, match="two atoms cannot share one place"):
        images[0].get_forces()
    images[1].positions[2] += 0.9
    for image, old in zip(images, before, strict=True):
        again = image.copy()
        again.calc = fd.FastdescCalculator(potential())
        np.testing.assert_allclose(image.get_forces(), again.get_forces(), atol=1e-9)
        assert abs(image.get_forces() - old).max() > 1e-6
