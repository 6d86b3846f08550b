"""Every key of a configuration with values out of the ordinary: one clear sentence, or a run that begins."""

import shutil

import pytest
from ase.io import write
from helpers.training import alloy

from fastdesc.cli import experiment, main
from fastdesc.cli.config import SECTIONS, arguments_of, load_config, options_of
from fastdesc.cli.sentences import sentence
from fastdesc.descriptors import FAMILIES, family_class
from fastdesc.errors import FastdescError

ODD = {
    "-1": "-1", "0": "0", "-0.5": "-0.5", "huge": "10000000000000000000", "1e300": "1e300", "nan": "nan", "inf": "inf",
    "no text": '""', "text": '"x"', "list": '[1, "a"]', "empty list": "[]", "table": "{a = 1}", "empty table": "{}",
    "true": "true", "date": "2020-01-01", "time": "07:32:00", "NUL": '"a\\u0000b"', "NaN in a list": "[nan]",
    "list of lists": "[[1], [2]]", "long text": '"' + 5000 * "x" + '"',
}  # fmt: skip
FLAG = {"true"}
NUMBER = {"0", "huge", "1e300"}
MEANT = {    # what means something; all else is refused
    "pair_memory": NUMBER, "frame_memory": NUMBER,
    "valid_fraction": {"0"}, "seed": {"0", "huge"}, "max_rank": {"0"}, "l_max": {"0"}, "iterations": {"0"},
    "hidden": {"empty list"}, "blocks": {"0"}, "reference": {"empty table"}, "direct": FLAG, "bias": FLAG,
    "n_pair": {"0"}, "n_triplet": {"0"}, "shared": FLAG, "knots": {"empty table"}, "normalized": FLAG,
    "refit_references": FLAG, "uncertainty": FLAG, "plots": FLAG,
    "learning_rate": NUMBER, "descriptor_learning_rate": NUMBER, "weight_decay": NUMBER,
    "folder": {"text"}, "clip": {"huge", "1e300"}, "energy_weight": NUMBER, "force_weight": NUMBER,
    "stress_weight": NUMBER, "stress_limit": {"huge", "1e300"}, "late": {"0"},
    "late_energy_factor": {"huge", "1e300"}, "stall": {"0"}, "curvature": {"0"}, "magnitude": {"0"}, "pull": {"0"},
    "warmup": {"0"}, "freeze": {"empty list"}, "ema": {"0"},
    "valid_every": {"huge"}, "checkpoint_every": {"huge"}, "time_limit": NUMBER,
}  # fmt: skip
BASE = {
    "data": {"train": '"in.extxyz"'}, "descriptor": {"cutoff": "3.0"}, "potential": {"hidden": "[2]"},
    "training": {"epochs": "1", "batch_size": "8"}, "output": {"plots": "false"},
}  # fmt: skip
SMALL = {
    "gaussian_moments": {"n_radial": "1", "n_basis": "2", "max_rank": "1"},
    "spline_filters": {"triplet_cutoff": "3.0"},
}  # fmt: skip
REPLACED = {"steps": "epochs", "minutes": "epochs", "batch_atoms": "batch_size"}


def keys():
    """Every key once: those of descriptors by family."""
    first, *others = FAMILIES
    for section in SECTIONS:
        if section != "descriptor":
            yield from ((first, section, key) for key in options_of(section))
    for family in (first, *others):
        yield from ((family, "descriptor", key) for key in arguments_of(family_class(family)))
    yield first, "descriptor", "family"


class Began(Exception):
    pass


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    path = tmp_path_factory.mktemp("frames") / "in.extxyz"
    write(path, alloy(3, size=(1, 1, 1)))
    return path


@pytest.fixture
def folder(tmp_path, frames, monkeypatch):
    (tmp_path / "in.extxyz").symlink_to(frames)
    monkeypatch.chdir(tmp_path)

    def begin(*given):
        raise Began

    monkeypatch.setattr(experiment, "run_trainer", begin)
    return tmp_path


def configuration(family, section, key, value):
    tables = {name: dict(table) for name, table in BASE.items()}
    tables["descriptor"] |= {"family": f'"{family}"', **SMALL.get(family, {})}
    tables["training"].pop(REPLACED.get(key), None)
    tables[section][key] = value
    return "".join(f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in t.items()) for name, t in tables.items())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family, section, key", list(keys()), ids=lambda word: word)
def test_odd_values(folder, family, section, key):
    path, began = folder / "run.toml", set()
    for name, value in ODD.items():
        path.write_text(configuration(family, section, key, value))
        try:
            experiment.run(load_config(path), overwrite=True, progress=False, say=lambda text: None)
        except Began:
            began.add(name)
        except (FastdescError, OSError) as error:
            assert 20 < len(sentence(error)) < 700, (name, str(error))
        assert not (folder / "fastdesc-run").exists() or name in began, "what is refused makes no folder"
        shutil.rmtree(folder / "fastdesc-run", ignore_errors=True)
    assert began == MEANT.get(key, set())


@pytest.mark.parametrize("words", ['cutoff = "5"', "cutoff = nan", "n_radial = 1979-05-27", f'basis = "{5000 * "x"}"'])
def test_the_command_ends_with_one_sentence(folder, capsys, words):
    (folder / "run.toml").write_text(f'[data]\ntrain = "in.extxyz"\n[descriptor]\n{words}\n')
    assert main(["train", "run.toml", "--quiet"]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("fastdesc: ") and words.split()[0] in told and len(told) < 700
