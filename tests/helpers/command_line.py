"""What tests of the command line share: a small configuration, and the names in a folder."""

CONFIG = """
[data]
train = "train.extxyz"
test = "test.extxyz"
[descriptor]
cutoff = 4.0
n_radial = 2
n_basis = 4
[potential]
hidden = [8]
[training]
epochs = 3
batch_size = 4
[output]
folder = "run"
plots = false
"""


def names(folder):
    return sorted(p.name for p in folder.iterdir())
