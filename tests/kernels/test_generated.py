"""kernels/generated/: what is written from the Numba text is that text's, and is refused where C++ has no twin."""

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "kernels" / "generated"
_spec = importlib.util.spec_from_file_location("generate", FOLDER / "generate.py")
generate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)


def test_the_file_is_current():
    assert generate.TARGET.read_text() == generate.generated(), "run python kernels/generated/generate.py"


def test_sizes_and_types_are_those_of_the_text():
    text = generate.generated()
    assert "Matrix<S> combine3(S p, const Matrix<S>& x, S q," in text
    assert "Tensor<S> tensors_product_pullback(const Matrix<S>& d, const Tensor<S>& b)" in text
    assert "xx * f[0] * real<S>(3) + (xy * f[1] + xz * f[2]) * real<S>(2)" in text


@pytest.mark.parametrize(
    ("line", "words"), [("return (a[0] / a[1], a[1], a[2])", "no expression"), ("a[0]", "ends with return")]
)
def test_other_text_is_refused(tmp_path, monkeypatch, line, words):
    (tmp_path / "other.py").write_text(f'def f(a):\n    """Doc."""\n    {line}\n')
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "SOURCES", {"other.py": None})
    with pytest.raises(TypeError, match=words):
        generate.generated()
