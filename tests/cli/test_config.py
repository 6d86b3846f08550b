"""Configurations: defaults that work, and a sentence for every mistake."""

import inspect
import tomllib
from dataclasses import fields

import pytest

from fastdesc.cli.config import (
    AUTO,
    FIRST_FAMILY,
    arguments_of,
    comments_of,
    default_text,
    documented,
    load_config,
    options_of,
    read_descriptor,
    to_text,
)
from fastdesc.descriptors import FAMILIES, family_class
from fastdesc.errors import FileFormatError, InputError
from fastdesc.potential import Potential
from fastdesc.training.settings import Settings

MINIMAL = '[data]\ntrain = "train.extxyz"\n'


@pytest.fixture
def load(tmp_path):
    path = tmp_path / "run.toml"

    def load(text):
        path.write_text(text)
        return load_config(path)

    return load


def test_train_file_alone_is_enough(load, tmp_path):
    c = load(MINIMAL)
    assert c.data.train == str(tmp_path / "train.extxyz") and c.data.valid is None and c.data.test is None
    assert c.family in FAMILIES and c.descriptor == {} and c.potential == {}
    assert c.training == Settings()
    assert c.output.folder == str(tmp_path / "fastdesc-run") and c.output.plots


def test_everything_set(load):
    c = load(
        '[data]\ntrain = "/abs/a.xyz"\nvalid = "v.xyz"\ntest = "t.xyz"\n'
        'valid_fraction = 0.2\nenergy_key = "REF_energy"\n'
        '[descriptor]\nfamily = "gaussian_moments"\nspecies = ["Cu", 79]\ncutoff = 5\ncontractions = [1, 2]\n'
        "[potential]\nhidden = [32]\n"
        '[training]\nepochs = 3\nlearning_rate = 1\npatience = 4\ntime_limit = 60\n'
        '[output]\nfolder = "o"\nplots = false\n'
    )
    assert c.data.train == "/abs/a.xyz" and c.data.valid.endswith("/v.xyz") and c.data.test.endswith("/t.xyz")
    assert c.data.keys() == {"energy_key": "REF_energy", "forces_key": None, "stress_key": None}
    assert c.descriptor == {"species": ["Cu", 79], "cutoff": 5, "contractions": [1, 2]}
    assert c.potential == {"hidden": [32]} and not c.output.plots
    assert c.training == Settings(epochs=3, learning_rate=1, patience=4, time_limit=60, valid_fraction=0.2)


@pytest.mark.parametrize("family", FAMILIES)
def test_printed_default_is_the_default(load, family):
    text = default_text(family)
    c = load(text)
    plain = load(MINIMAL)
    assert c.data == plain.data and c.training == plain.training and c.output == plain.output
    assert c.family == family
    if family == FIRST_FAMILY:
        assert c.descriptor.pop("cutoff") == AUTO
    for given, function in ((c.descriptor, family_class(family).__init__), (c.potential, Potential.__init__)):
        for name, value in given.items():
            default = inspect.signature(function).parameters[name].default
            assert value == (list(default) if isinstance(default, tuple) else default), name


@pytest.mark.parametrize("family", FAMILIES)
def test_printed_default_names_and_explains_every_key(family):
    text = default_text(family)
    lines = [line for line in text.splitlines() if line]
    for section in ("data", "potential", "training", "output"):
        assert f"[{section}]" in lines
        for key in options_of(section):
            assert any(line.startswith((f"{key} =", f"# {key} =")) for line in lines), key
        comments = comments_of(documented(section).__doc__)
        assert not set(options_of(section)) - set(comments), "every key has a comment in its docstring"
    assert not set(arguments_of(family_class(family))) - set(comments_of(family_class(family).__doc__))
    assert all(len(line) < 121 for line in lines)
    unset = [line.split()[1] for line in lines if line.endswith("(not set)")]
    assert {"valid", "test", "species", "patience", "learning_rate"} <= set(unset)
    assert "weight_decay" in tomllib.loads(text)["training"]


def test_training_section_is_the_arguments_of_train():
    from fastdesc.training import train

    arguments = set(inspect.signature(train).parameters)
    settings = {f.name for f in fields(Settings)}
    assert settings - arguments == set() or any(
        p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(train).parameters.values()
    )
    assert set(options_of("training")) == settings - {"valid_fraction"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"\[data\] train is missing; add train = "),
        ('[data]\ntrian = "x"', r"\[data\] has no key 'trian' \(did you mean 'train'\?\)"),
        (MINIMAL + "[trainig]\nepochs = 1", r"there is no section \[trainig\] \(did you mean 'training'\?\)"),
        ("data = 3", r"data must be a section, \[data\]"),
        (MINIMAL + '[training]\nepochs = "many"', r'\[training\] epochs is "many"; it must be a whole number, such as'),
        (MINIMAL + "[training]\nepochs = true", r"\[training\] epochs is true; it must be a whole number"),
        (MINIMAL + "[training]\nepochs = 1.5", r"\[training\] epochs is 1.5; it must be a whole number"),
        (MINIMAL + '[training]\nminutes = "5"', r'\[training\] minutes is "5"; it must be a number, such as 5'),
        (MINIMAL + "[training]\nepochs = 0", r"\[training\] epochs"),
        (MINIMAL + "[training]\nema = [1]", r"\[training\] ema is \[1\]; it must be a number"),
        (MINIMAL + "[training]\nvalid_fraction = 0.1", r"\[training\] has no key 'valid_fraction'"),
        (MINIMAL + '[training]\nschedule = "cosin"', r"\[training\] schedule 'cosin' .*did you mean 'cosine'"),
        (MINIMAL + "[training]\ndevices = true", r"\[training\] devices is true; it must be a whole number or .all.,"),
        (MINIMAL + '[training]\ndevices = "two"', r"\[training\] devices, unless .all., came as 'two'"),
        (MINIMAL + "[training]\nlr = 1e-3", r"\[training\] has no key 'lr'"),
        (MINIMAL + '[potential]\nhidden = "64"', r"\[potential\] hidden is .64.; it must be a list, such as \[64"),
        (MINIMAL + "[potential]\nhidden = true", r"\[potential\] hidden is true; it must be a list"),
        (MINIMAL + "[potential]\ndirect = 1", r"\[potential\] direct is 1; it must be true, false or a list of names"),
        (MINIMAL + "[potential]\nbias = 0", r"\[potential\] bias is 0; it must be true or false"),
        (MINIMAL + "[potential]\nn_knots = true", r"\[potential\] n_knots is true; it must be a whole number"),
        (MINIMAL + "[potential]\nnetwork = 1", r"\[potential\] network is 1; it must be a string"),
        (MINIMAL + "[potential]\ndescriptor = 1", r"\[potential\] has no key 'descriptor'"),
        (MINIMAL + '[descriptor]\nfamily = "gausian_moments"', r"\[descriptor\] family 'gausian_m.*did you mean"),
        (MINIMAL + "[descriptor]\ncutof = 5", r"\[descriptor\] has no key 'cutof' \(did you mean 'cutoff'\?\)"),
        (
            MINIMAL + "[descriptor]\ncutoff = true",
            r'\[descriptor\] cutoff is true; it must be a number, such as 6.0, or "auto"$',
        ),
        (MINIMAL + '[descriptor]\ncutoff = "5"', r"\[descriptor\] cutoff is \"5\"; it must be a number, such as"),
        (MINIMAL + "[output]\nplots = 1", r"\[output\] plots is 1; it must be true or false"),
        (MINIMAL + "valid = 3", r"\[data\] valid is 3; it must be a string"),
    ],
)
def test_mistakes_are_named(load, text, message):
    with pytest.raises(InputError, match=r"run.toml: " + message):
        load(text)


def test_files_that_are_no_configuration(load, tmp_path):
    with pytest.raises(InputError, match=r"nowhere.toml is not a file; .*--print-default"):
        load_config(tmp_path / "nowhere.toml")
    with pytest.raises(FileFormatError, match=r"run.toml is not valid TOML: .*line 1"):
        load("epochs: 3")
    (tmp_path / "run.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(FileFormatError, match=r"run.toml is not valid TOML"):
        load_config(tmp_path / "run.toml")


def test_descriptor_file(tmp_path):
    path = tmp_path / "d.toml"
    for text in ("cutoff = 4.5\n", '[descriptor]\ncutoff = 4.5\n[data]\ntrain="x"\n'):
        path.write_text(text)
        family, arguments = read_descriptor(path)
        assert arguments == {"cutoff": 4.5} and family in FAMILIES


def test_written_configuration_is_read_back(load):
    text = 'valid_fraction = 0.3\n[descriptor]\nspecies = ["Cu", 79]\n[potential]\nhidden = [8]\n'
    c = load(MINIMAL + text + "[training]\nepochs = 7\n")
    assert load(to_text(c)) == c
