"""Configurations of loops: defaults that work, and a sentence for every mistake."""

import tomllib
from dataclasses import fields

import pytest
from helpers.loops import LOOP, make_loop
from test_config_sweep import ODD

from fastdesc.cli.loop_config import FURTHER_STEPS, OWN, default_text, load_loop
from fastdesc.cli.sentences import sentence
from fastdesc.errors import FastdescError, InputError
from fastdesc.learn.settings import Explore, Label, Select, Stop

MINIMAL = '[data]\ntrain = "train.extxyz"\n[label]\ncalculator = "ase.calculators.emt:EMT"\n'


@pytest.fixture
def load(tmp_path):
    def load(text):
        (tmp_path / "loop.toml").write_text(text)
        return load_loop(tmp_path / "loop.toml")

    return load


def test_two_keys_are_enough(load, tmp_path):
    config, loop = load(MINIMAL)
    assert (loop.explore, loop.select, loop.stop) == (Explore(), Select(), Stop())
    assert loop.label == Label("ase.calculators.emt:EMT") and loop.valid_fraction == 0.1
    assert config.output.folder == str(tmp_path / "fastdesc-learn")
    assert loop.anew and loop.further["steps"] is None and loop.training["steps"] is None
    assert load(MINIMAL + "[further]\nanew = false\n")[1].further["steps"] == FURTHER_STEPS


def test_printed_default_is_the_default_and_names_every_key(load):
    text = default_text()
    assert load(text)[1] == load(MINIMAL)[1]
    for section, cls in OWN.items():
        for field in fields(cls):
            assert f"\n{field.name} = " in text or f"\n# {field.name} = " in text, (section, field.name)
    assert set(tomllib.loads(text)) == {"data", *OWN, "training", "further", "output"}


def test_later_rounds_take_the_settings_of_the_first_but_for_their_own(load):
    text = MINIMAL + "[training]\nepochs = 30\nforce_weight = 2\nseed = 7\n[further]\nsteps = 50\nlate = 0.5\n"
    _, loop = load(text)
    assert (loop.training["epochs"], loop.further["epochs"], loop.further["steps"]) == (30, None, 50)
    assert loop.further["force_weight"] == 2 and loop.further["late"] == 0.5 and loop.seed == 7
    _, anew = load(MINIMAL + "[further]\nanew = true\n")
    assert anew.anew and anew.further == anew.training
    assert not load(MINIMAL + "[further]\nanew = false\n")[1].anew
    assert load(MINIMAL + "[training]\nepochs = 30\n")[1].further["epochs"] == 30
    valid = MINIMAL.replace("[label]", 'valid = "v.extxyz"\n[label]')
    assert load(valid)[1].valid_fraction == 0.0, "nothing of what is labelled is set aside"


@pytest.mark.parametrize("given, words", [
    ('[data]\ntrain = "a"\n', "[label] calculator is missing"),
    (MINIMAL + "[explor]\nsteps = 3\n", "no section [explor] (did you mean 'explore'"),
    (MINIMAL + "[explore]\nstep = 3\n", "[explore] has no key 'step' (did you mean 'steps'"),
    (MINIMAL + "[explore]\nsteps = 1.5\n", "[explore] steps is 1.5; it must be a whole number"),
    (MINIMAL + "[explore]\nsteps = -1\n", "[explore] steps came as -1"),
    (MINIMAL + "[explore]\nevery = 0\n", "[explore] every came as 0"),
    (MINIMAL + "[explore]\ntemperatures = []\n", "it must be a list of temperatures"),
    (MINIMAL + "[explore]\ntemperatures = [0]\n", "a temperature came as 0"),
    (MINIMAL + "[explore]\nrepeat = [1, 2]\n", "three whole numbers"),
    (MINIMAL + "[explore]\nstrain = 3\n", "strain came as 3; it must be at most 0.5"),
    (MINIMAL + "[explore]\nrattle = 40.0\n", "rattle came as 40.0; it must be at most 5.0 Å"),
    (MINIMAL + "[explore]\npressure = nan\n", "pressure came as nan"),
    (MINIMAL + "[explore]\nstrain = -0.1\n", "strain came as -0.1"),
    (MINIMAL + "[explore]\nstop_above = inf\n", "stop_above came as inf"),
    (MINIMAL + '[explore]\nframes = "a"\nstart = "b"\n', "frames and start came together"),
    (MINIMAL + "[select]\nnumber = 0\n", "[select] number came as 0"),
    (MINIMAL + '[select]\nmethod = "uncertan"\n', "did you mean 'uncertain'"),
    (MINIMAL.replace(":EMT", ""), 'must be "module:Class"'),
    (MINIMAL + "arguments = 3\n", "[label] arguments is 3; it must be a table"),
    (MINIMAL + "workers = -1\n", "workers came as -1"),
    (MINIMAL + "[stop]\nrounds = 0\n", "rounds came as 0"),
    (MINIMAL + "[stop]\ngrade = true\n", "[stop] grade is true"),
    (MINIMAL + "[further]\nsteps = 3\nepochs = 2\n", "[further] epochs and steps came together"),
    (MINIMAL + "[further]\nanew = 1\n", "[further] anew is 1; it must be true or false"),
    (MINIMAL + "[training]\nuncertainty = false\n", "the loop goes by uncertainties"),
])  # fmt: skip
def test_mistakes_are_told_in_a_sentence(load, given, words):
    with pytest.raises(InputError) as error:
        load(given)
    assert words in str(error.value) and "loop.toml: " in str(error.value) and "\n" not in str(error.value)


def test_what_the_command_refuses(tmp_path, fails, run):
    path = make_loop(tmp_path / "a")
    assert "needs a configuration" in fails("learn")
    assert "holds no loop to go on with" in fails("learn", path, "--resume")
    folder = path.parent / "fastdesc-learn"
    for old, new, words in (
        ("train.extxyz", "none.extxyz", "none.extxyz does not exist"),
        ("ase.calculators.emt:EMT", "ase.calculators.emt:EMTT", "cannot be imported"),
        ('test = "test.extxyz"', 'test = "bare.extxyz"', "carries an energy, forces or a stress"),
        ('[explore]', '[explore]\nstart = "nowhere.xyz"', "nowhere.xyz does not exist"),
    ):  # fmt: skip
        (path.parent / "bare.extxyz").write_text('1\nProperties=species:S:1:pos:R:3\nCu 0 0 0\n')
        path.write_text(LOOP.replace(old, new))
        assert words in fails("learn", path)
        assert not folder.exists(), "nothing is written before all is judged"
    (path.parent / "train.extxyz").write_text(2 * '1\nProperties=species:S:1:pos:R:3\nCu 0 0 0\n')
    path.write_text(LOOP.replace("[explore]", "[explore]\npressure = 1"))
    assert "pressure needs structures periodic" in fails("learn", path)
    folder.mkdir()
    (folder / "model.h5").write_text("")
    path.write_text(LOOP)
    assert "holds something else" in fails("learn", path)
    code, out, _ = run("learn", "--print-default")
    assert code == 0 and out == default_text()


def test_odd_values_are_refused_in_a_sentence_or_mean_something(load):
    """Every key of the loop's own sections."""
    refused = 0
    for section, cls in OWN.items():
        for field in fields(cls):
            for name, value in ODD.items():
                tables = {"data": {"train": '"in.extxyz"'}, "label": {"calculator": '"a:B"'}}
                tables.setdefault(section, {})[field.name] = value
                text = "".join(f"[{s}]\n" + "".join(f"{k} = {v}\n" for k, v in t.items()) for s, t in tables.items())
                try:
                    load(text)
                except FastdescError as error:
                    refused += 1
                    told = sentence(error)
                    assert 20 < len(told) < 700 and "loop.toml" in told, (section, field.name, name, told)
    assert refused > 300
