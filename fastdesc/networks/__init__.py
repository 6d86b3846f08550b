"""Feed-forward networks, splines, scaling of features, and the heads that make energies of features."""
