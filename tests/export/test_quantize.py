from __future__ import annotations

import numpy as np

from musebridge.export.quantize import blockwise, restored


def test_a_block_is_scaled_by_its_own_largest_weight() -> None:
    weight_NK = np.array([[1.0, -2.0, 0.5, 0.0, 100.0, 50.0, -100.0, 0.0]], np.float32)
    rounded, scales = blockwise(weight_NK, block=4)
    np.testing.assert_array_equal(rounded, [[[192, 1, 160, 128], [255, 192, 1, 128]]])
    np.testing.assert_allclose(scales, [[2 / 127, 100 / 127]], rtol=1e-6)


def test_a_rounded_weight_is_within_half_a_scale() -> None:
    weight_NK = np.random.default_rng(0).normal(size=(24, 512)).astype(np.float32)
    rounded, scales = blockwise(weight_NK, block=128)
    assert rounded.shape == (24, 4, 128)
    error = np.abs(restored(rounded, scales, 512) - weight_NK).reshape(24, 4, 128)
    assert (error <= scales[:, :, None] * 0.5001).all()


def test_a_short_last_block_is_padded_with_zeros() -> None:
    rounded, scales = blockwise(np.ones((3, 20), np.float32), block=16)
    assert rounded.shape == (3, 2, 16)
    np.testing.assert_array_equal(rounded[0, 1], [255] * 4 + [128] * 12)
    np.testing.assert_allclose(restored(rounded, scales, 20), np.ones((3, 20)), rtol=1e-6)


def test_a_block_of_zeros_stays_zero() -> None:
    rounded, scales = blockwise(np.zeros((2, 32), np.float32), block=16)
    np.testing.assert_array_equal(restored(rounded, scales, 32), np.zeros((2, 32)))
