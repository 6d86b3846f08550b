"""What a model or a set of features is worth: errors, plots, contributions."""
