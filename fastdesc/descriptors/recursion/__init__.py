"""Recursion: what a neighbour weighs in the moments of others is updated by a small network of its own features.

    M_i^(t)[s, c] = sum_j w_j^(t)[s] R_s(r_ij) m_c(r_ij),     q_i^(t) = contractions of M_i^(t)                  (1)
    w_j^(t+1)[s] = w_j^(t)[s] + N_{t+1}(q_j^(t))[s],          t = 0 .. iterations - 1                          (2)

The features of a descriptor are q^(iterations). A family brings (1), its kernels over pairs and its contractions; what
atoms do by themselves, the networks and the Jacobian are here.
"""
