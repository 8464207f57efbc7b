"""How varied a set of continuations is."""

from __future__ import annotations

import numpy as np

from musebridge import vocab
from musebridge.training.data.tokens import Tokens

_ORDERS = (1, 2, 3, 4)


def distinct(tokens_NT: Tokens, n: int) -> float:
    """Return the share of runs of ``n`` tokens that occur once only or first (Li et al. 2016, "distinct-n")."""
    grams = _grams(tokens_NT, n)
    return len(np.unique(grams)) / grams.size


def self_bleu(tokens_NT: Tokens) -> float:
    """Return the mean BLEU of each continuation, with all others as its references, 0..1; more is less varied.

    Zhu et al. 2018, "Texygen"; BLEU-4 as Papineni et al. 2002 define it, without smoothing. It grows with
    the number of continuations, so only sets of the same size compare. All have the same length, so none is too brief.
    """
    N = len(tokens_NT)
    precision_ON = np.zeros((len(_ORDERS), N))
    for order, n in enumerate(_ORDERS):
        grams_NG = _grams(tokens_NT, n)
        gram = np.unique(grams_NG, return_inverse=True)[1].reshape(grams_NG.shape)
        kinds = int(gram.max()) + 1
        key, count = np.unique(gram + np.arange(N)[:, None] * kinds, return_counts=True)
        row, kind = np.divmod(key, kinds)
        most, second = _two_largest(kind, count, kinds)
        elsewhere = np.where(count == most[kind], second[kind], most[kind])
        precision_ON[order] = np.bincount(row, np.minimum(count, elsewhere), N) / grams_NG.shape[1]
    with np.errstate(divide="ignore"):
        return float(np.exp(np.log(precision_ON).mean(0)).mean())


def _grams(tokens_NT: Tokens, n: int) -> Tokens:
    """Return each run of ``n`` tokens as one number, (N, T - n + 1)."""
    runs = np.lib.stride_tricks.sliding_window_view(tokens_NT, n, axis=1)
    return np.asarray(runs @ (vocab.N_TOKENS ** np.arange(n)))


def _two_largest(kind: Tokens, count: Tokens, kinds: int) -> tuple[Tokens, Tokens]:
    """Return the largest count of each kind, and the next after it (the same, where two continuations have it)."""
    order = np.lexsort((-count, kind))
    kind, count = kind[order], count[order]
    first = np.flatnonzero(np.diff(kind, prepend=-1))
    most, second = np.zeros((2, kinds), np.int64)
    most[kind[first]] = count[first]
    after = first + 1
    after = after[after < len(kind)]
    after = after[kind[after] == kind[after - 1]]
    second[kind[after]] = count[after]
    return most, second
