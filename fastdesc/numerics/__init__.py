"""Mathematics without atoms: elementary functions, monomials, radial bases, splines."""
