"""Instructions counted from machine code: a listing written by hand, the file of predictions, the README's table."""

import json
from types import SimpleNamespace

import pytest

from bench.gpu import prediction, sass, trips
from fastdesc.backend import cuda

SOURCE = """__device__ void each_gaussian(int n) {
    for (int b = 0; b < n_basis; ++b) {
        work();
    }
}
__global__ void k(int n) {
    for (int s = 0; s < n; ++s) {
        work();
    }
    for (int unknown = 0; unknown < n; ++unknown) work();
}
"""


def listing(*parts):
    """A listing of one kernel; each part is (line, instructions), with labels among them."""
    lines, address = ["\t.section\t.text.k,\"ax\",@progbits"], 0
    for line, *texts in parts:
        lines.append(f'\t//## File "/anywhere/k.cu", line {line}')
        for text in texts:
            if text.startswith("."):
                lines.append(f"{text}:")
            else:
                lines.append(f"        /*{address:04x}*/                   {text} ;")
                address += 16
    return "\n".join(lines)


LOOP = ".L_x_1"
BODY = ["FFMA R1, R2, R3, R4"] * 4
UNROLLED = (
    (6, "MOV R1, R2"),
    (8, LOOP, *BODY),
    (7, "IADD3 R9, R9, 0x4, RZ", "ISETP.NE.AND P0, PT, R9, R8, PT", "@P0 BRA `(.L_x_1)"),
)


@pytest.fixture
def count(tmp_path, monkeypatch):
    """A function (parts, n) -> instructions that a warp issues, for a loop of n turns."""
    (tmp_path / "k.cu").write_text(SOURCE)
    monkeypatch.setattr(cuda, "kernels_folder", lambda: tmp_path)
    cached = (sass.lines_of, sass.header, sass.function_of, sass.body_of, sass._below_kernels)

    def forget():
        for function in cached:
            function.cache_clear()

    forget()

    def counted(parts, n, **of_descriptor):
        d = SimpleNamespace(n_radial=n, n_basis=n, **of_descriptor)
        model = trips.Model(1, 64, 0, d, 1, 4, 8, 1, 1.0, 64)
        return sass.counted(*sass.parse(listing(*parts))["k"], model)[0]

    yield counted
    forget()


def test_a_loop_counts_by_its_turns(count):
    """One instruction before, seven in the loop; subroutines behind the exit do not count."""
    parts = (
        (6, "MOV R1, R2"),
        (8, LOOP, *BODY),
        (7, "VIADD R9, R9, 0x1", "ISETP.NE.AND P0, PT, R9, R8, PT", "@P0 BRA `(.L_x_1)"),
        (10, "EXIT", "FADD R1, R1, R1"),
    )
    assert count(parts, 10) == 1 + 10 * 7 + 1


def test_what_an_unrolled_loop_leaves(count):
    """Ten turns by four: two of seven instructions, and two thirds of the three copies that stand behind."""
    rest = ((8, *["FFMA R1, R2, R3, R4"] * 3), (10, "EXIT"))
    assert count((*UNROLLED, *rest), 10) == pytest.approx(1 + 2 * 7 + 3 * 2 / 3 + 1)
    assert count((*UNROLLED, *rest), 8) == 1 + 2 * 7 + 1


def test_what_an_unrolled_loop_leaves_to_another(count):
    rest = ((8, ".L_x_2", "FFMA R1, R2, R3, R4"), (7, "VIADD R9, R9, 0x1", "@P1 BRA `(.L_x_2)"), (10, "EXIT"))
    assert count((*UNROLLED, *rest), 11) == 1 + 2 * 7 + 3 * 3 + 1


def test_functions_that_a_model_does_not_use(count):
    parts = ((3, LOOP, *BODY), (2, "VIADD R9, R9, 0x1", "@P0 BRA `(.L_x_1)"), (10, "EXIT"))
    assert count(parts, 5, basis="gaussian") == 5 * 6 + 1
    assert count(parts, 5, basis="bessel") == 1


def test_a_loop_that_nobody_knows(count):
    parts = ((10, LOOP, *BODY, "@P0 BRA `(.L_x_1)"), (10, "EXIT"))
    with pytest.raises(LookupError, match=r"unknown < n; \+\+unknown\)' in k runs; add a line"):
        count(parts, 5)


def test_every_kernel_has_its_count():
    """The file of predictions: what kernels/ declare in float32, and no kernel below what its formulas need."""
    record = json.loads(prediction.FILE.read_text())
    rows = {row["kernel"]: row for row in record["kernels"]}
    declared = {name for names in cuda.all_specialisations().values() for name in names if "double" not in name}
    assert set(rows) == declared, "python -m bench.gpu --quick, with nvdisasm, makes it anew"
    for row in rows.values():
        assert row["floor_s"] == max(row["bytes_s"], row["operations_s"], row["issue_s"]), row["kernel"]
        assert 64 * row["instructions"] > 0.5 * row["operations"], "a warp does 64 operations an instruction at most"


def test_the_table_of_the_readme():
    assert prediction.readme_table() in (cuda.kernels_folder() / "README.md").read_text()


@pytest.mark.skipif(not sass.status()[0], reason=sass.status()[1])
def test_counts_of_real_machine_code():
    """A sum of three lanes' pairs: more than its loads, less than its whole text three times."""
    every = prediction.every_launch("cu256", ["gaussian_moments"])
    launch, model = next((x, model) for x, model, *_ in every if x.bare == "geometry_forces")
    code, _ = sass.machine_code(launch.kernel.file, launch.name)
    assert 3 * 13 < sass.issue(launch, model)[1] < 3 * len(code)
