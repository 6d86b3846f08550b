"""Filters of one model in another: the same features wherever they serve, and a sentence where they do not fit."""

import numpy as np
import pytest
from ase.build import bulk
from helpers.training import alloy

import fastdesc as fd
from fastdesc.cli.config import load_config, to_text
from fastdesc.errors import InputError

KEYWORDS = {"cutoff": 4.5, "triplet_cutoff": 3.5, "r_min": 1.8, "n_pair": 2, "n_triplet": 2, "n_knots": 6}


def model(species, seed=0, **changed):
    return fd.Potential(fd.SplineFilters(species=species, seed=seed, **{**KEYWORDS, **changed}), hidden=(4,))


def features(potential, frames):
    return potential.descriptor.compute(frames)


def renamed(frames, new):
    """The same structures of other elements."""
    out = [atoms.copy() for atoms in frames]
    for atoms in out:
        atoms.set_chemical_symbols([new[s] for s in atoms.get_chemical_symbols()])
    return out


def test_elements_both_know_keep_theirs_and_others_stay():
    source, target = model(["Cu", "Au"], 1), model(["Ag", "Cu", "Au"], 2)
    silver = bulk("Ag", "fcc", a=4.0) * (2, 2, 1)
    before = features(target, silver)
    fd.load_filters(target, source)
    np.testing.assert_array_equal(features(target, alloy(2)), features(source, alloy(2)))
    np.testing.assert_array_equal(features(target, silver), before)


def test_other_elements_in_any_order():
    """Cu < Au by number, and Pt > Ag: the pairs of elements of angular filters change places."""
    source, target = model(["Cu", "Au"], 1), model(["Ag", "Pt"], 2)
    fd.load_filters(target, source, {"Cu": "Pt", "Au": 47})
    frames = alloy(2)
    np.testing.assert_allclose(
        features(target, renamed(frames, {"Cu": "Pt", "Au": "Ag"})), features(source, frames), rtol=0, atol=1e-12
    )


def test_one_element_serves_two():
    source, target = model(["Cu"], 1), model(["Ag", "Au"], 2)
    fd.load_filters(target, source, {"Cu": "Au"})
    gold = bulk("Au", "fcc", a=4.0)
    np.testing.assert_array_equal(features(target, gold), features(source, renamed([gold], {"Au": "Cu"})))
    fd.load_filters(target, model(["Cu"], 3), {"Cu": "Ag"})
    np.testing.assert_array_equal(features(target, gold), features(source, renamed([gold], {"Au": "Cu"})))


@pytest.mark.parametrize("shared", [False, True])
def test_shared_filters_serve_all_elements(shared):
    source, target = model(["Si"], 1, shared=True), model(["Cu", "Au"], 2, shared=shared)
    fd.load_filters(target, source)
    frames = alloy(2)
    expected = features(source, renamed(frames, {"Cu": "Si", "Au": "Si"}))
    np.testing.assert_allclose(features(target, frames), expected, rtol=0, atol=1e-12)


def test_filters_of_one_element_become_shared():
    source, target = model(["Cu"], 1), model(["Ag", "Au"], 2, shared=True)
    fd.load_filters(target, source)
    gold = bulk("Au", "fcc", a=4.0)
    np.testing.assert_array_equal(features(target, gold), features(source, renamed([gold], {"Au": "Cu"})))


@pytest.mark.parametrize(
    ("species", "changed", "elements", "message"),
    [
        (["Cu", "Au"], {"n_pair": 3}, None, "have n_pair 3 and this descriptor 2"),
        (["Cu", "Au"], {"n_triplet": 1}, None, "have n_triplet 1 and this descriptor 2"),
        (["Cu", "Au"], {"cutoff": 5.0}, None, "pair filters to load have last knot 5.0 and those here 4.5"),
        (["Cu", "Au"], {"r_min": 1.5}, None, "pair filters to load have first knot 1.5"),
        (["Cu", "Au"], {"triplet_cutoff": 3.0}, None, "triplet_radial filters to load have last knot 3.0"),
        (["Cu", "Au"], {"n_knots": 7}, None, "have number of knots 7 and those here 6"),
        (["Cu", "Au"], {"angular_ends": ("clamped", "clamped")}, None, "triplet_angular filters to load have ends"),
        (["Si"], {}, None, r"are of Si and this descriptor knows Cu, Au; .* elements=\{'Si': 'Cu'\}"),
        (["Si"], {}, {"Ge": "Cu"}, "'Ge' is none of the elements: the filters to load are Si"),
        (["Si"], {}, {"Si": "Ag"}, "'Ag' is none of the elements: this descriptor's are Cu, Au"),
        (["Si", "Ge"], {}, {"Si": "Cu", "Ge": "Cu"}, "two sets of filters"),
        (["Si"], {}, "Cu", "give a dict"),
        (["Si"], {}, {}, "give a dict"),
    ],
)
def test_what_does_not_fit_is_named(species, changed, elements, message):
    target = model(["Cu", "Au"], 2)
    before = {name: p.copy() for name, p in target.parameters.items()}
    with pytest.raises(InputError, match=message):
        fd.load_filters(target, model(species, 1, **changed), elements)
    for name, p in target.parameters.items():
        np.testing.assert_array_equal(p, before[name])


def test_other_refusals(tmp_path):
    with pytest.raises(InputError, match="those of single elements and this descriptor has shared=True"):
        fd.load_filters(model(["Cu", "Au"], shared=True), model(["Cu", "Au"]))
    other = fd.Potential(fd.GaussianMoments(species=["Cu"]))
    with pytest.raises(InputError, match="to load filters from has GaussianMoments"):
        fd.load_filters(model(["Cu"]), other)
    with pytest.raises(InputError, match="the potential has GaussianMoments"):
        fd.load_filters(other, model(["Cu"]))
    with pytest.raises(InputError, match="potential is a SplineFilters; give a Potential"):
        fd.load_filters(model(["Cu"]).descriptor, model(["Cu"]))
    with pytest.raises(InputError, match=r"no\.h5"):
        fd.load_filters(model(["Cu"]), tmp_path / "no.h5")


def test_loaded_frozen_and_trained(tmp_path):
    """Filters of a trained model stay as they are, and what else there is learns, from a new scaler on."""
    path = tmp_path / "source.h5"
    source = model(["Ag", "Pt"], 1)
    fd.train(source, renamed_with_labels(alloy(6)), epochs=3, progress=False)
    source.save(path)
    target = model(["Cu", "Au"], 2)
    fd.train(target, alloy(6), epochs=1, progress=False)
    scaler = target.scaler.mean.copy()
    settings = {"filters_from": path, "filters_elements": {"Ag": "Cu", "Pt": "Au"}, "freeze": ["descriptor/*"]}
    history = fd.train(target, alloy(6), epochs=5, late=0, progress=False, **settings)
    for name, p in source.descriptor.parameters.items():
        np.testing.assert_array_equal(target.descriptor.parameters[name], p, err_msg=name)
    assert not np.allclose(target.scaler.mean, scaler)
    assert history.rows[-1]["train_loss"] < history.rows[0]["train_loss"]


def renamed_with_labels(frames):
    out = renamed(frames, {"Cu": "Ag", "Au": "Pt"})
    for atoms, old in zip(out, frames, strict=True):
        atoms.calc = old.calc
        atoms.calc.atoms = atoms.copy()
    return out


def test_settings_of_a_file(tmp_path):
    path = tmp_path / "run.toml"
    text = '[data]\ntrain = "t.xyz"\n[training]\nfilters_from = "si.h5"\nfilters_elements = {Si = "Ge"}\n'
    path.write_text(text)
    training = load_config(path).training
    assert training.filters_from == str(tmp_path / "si.h5") and training.filters_elements == {"Si": "Ge"}
    path.write_text(to_text(load_config(path)))
    assert load_config(path).training == training
    for wrong, message in (
        (text.replace('"si.h5"', "3"), "filters_from is 3; it must be a string"),
        (text.replace('filters_from = "si.h5"\n', ""), "came without filters_from"),
    ):
        path.write_text(wrong)
        with pytest.raises(InputError, match=message):
            load_config(path)
    with pytest.raises(InputError, match="give the path of a model file"):
        fd.train(model(["Cu"]), alloy(2), filters_from=3)
