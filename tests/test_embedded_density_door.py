"""The battery's tests of symmetries and of the front door on embedded densities with iterations.

Not its Jacobian, whose blocks end at the neighbours: see test_embedded_density.py.
"""

import pytest
from test_embedded_density_maps import RECURSIVE
from test_family_door import (  # noqa: F401
    d,
    test_names_parameters_and_arguments,
    test_one_frame_or_many_rows_in_order,
    test_set_parameters_copies,
    test_single_precision,
    test_species_are_symbols_or_numbers_in_any_order,
    test_threads_do_not_change_a_bit,
)
from test_family_symmetries import (  # noqa: F401
    atoms,
    test_elements_matter,
    test_mirror_image,
    test_no_neighbours_no_features,
    test_permutation,
    test_rotation,
    test_supercell,
    test_translation,
)

pytestmark = pytest.mark.parametrize(
    ("family", "variant"), [pytest.param(RECURSIVE, v, id=v) for v in RECURSIVE.variants]
)
