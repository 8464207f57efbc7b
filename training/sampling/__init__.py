"""Sampling: continuations, the Gumbel noise that draws them, pairs of real and artificial ones, the best of several."""
