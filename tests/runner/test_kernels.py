"""Matrix products with interleaved weights, through ggml's own interface.

The reference is numpy in double precision: weights as their blocks say, activations quantised as Q8_0 says.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

np = pytest.importorskip("numpy")

from tests.runner.ggmlcalls import F32, I32, Q4_1, Q8_0, Ggml, libraries  # noqa: E402

BLOCK = 32  # positions that share a scale: QK8_0 and QK4_1 of ggml-common.h
ROWS = [*range(1, 21), 33, 200]
FEW_ROWS = [1, 3, 4, 13, 33, 200]  # with more threads than one
SHAPES = [(k, n) for k in (32, 64, 576, 1536) for n in (16, 48, 576)] + [(576, 4096)]
TYPES = pytest.mark.parametrize("kind", [Q4_1, Q8_0], ids=["q4_1", "q8_0"])
Array = Any


class Weights(NamedTuple):
    kind: int
    packed: Array  # bytes, as in a GGUF file: (..., rows, bytes of a row)
    scale: Array  # (..., rows, blocks)
    minimum: Array  # (..., rows, blocks)
    whole: Array  # (..., rows, blocks, BLOCK)


def weights(kind: int, *shape: int, seed: int = 0, extreme: bool = False) -> Weights:
    """Random weights of ``shape`` (rows last but one).  ``extreme``: rows of what breaks arithmetic first."""
    made = np.random.default_rng([seed, kind, *shape])
    blocks = (*shape[:-1], shape[-1] // BLOCK)
    scale = made.normal(0, 0.01, blocks).astype(np.float16)
    minimum = np.zeros(blocks, np.float16) if kind == Q8_0 else made.normal(0, 0.1, blocks).astype(np.float16)
    low, high = (-128, 127) if kind == Q8_0 else (0, 15)
    whole = made.integers(low, high, (*blocks, BLOCK), endpoint=True)
    if extreme:
        whole[..., 0, :, :], whole[..., 1, :, :], whole[..., 2, :, :] = low, high, 0
        scale[..., 2, :], minimum[..., 2, :] = 0, 0
        scale[..., 3, :] = 65504  # the largest half
        scale[..., 4, :] = -np.abs(scale[..., 4, :])
        scale[..., 5, :] = 6e-8  # the smallest half, not normal
        if kind == Q4_1:
            minimum[..., 6, :], minimum[..., 7, :] = 30000, -30000
    return Weights(kind, packed(kind, scale, minimum, whole), scale, minimum, whole)


def packed(kind: int, scale: Array, minimum: Array, whole: Array) -> Array:
    """``block_q8_0`` and ``block_q4_1`` of ggml-common.h."""
    halves = [scale[..., None].view(np.uint8)]
    if kind == Q8_0:
        halves += [whole.astype(np.int8).view(np.uint8)]
    else:
        nibbles = whole[..., : BLOCK // 2] | whole[..., BLOCK // 2 :] << 4
        halves += [minimum[..., None].view(np.uint8), nibbles.astype(np.uint8)]
    joined = np.concatenate(halves, axis=-1)
    return joined.reshape(*joined.shape[:-2], -1)


def activations(*shape: int, extreme: bool = False) -> Array:
    made = np.random.default_rng(shape)
    x = made.normal(0, 1, shape).astype(np.float32) * made.lognormal(0, 1, (*shape[:-1], 1)).astype(np.float32)
    if extreme:
        kinds = [np.zeros_like(x), -np.abs(x), np.full_like(x, 3), np.full_like(x, -1e4), x * np.float32(1e-7)]
        for row, values in enumerate(kinds):
            x[..., row :: len(kinds) + 1, :] = values[..., row :: len(kinds) + 1, :]
    return x


def quantised(x: Array) -> tuple[Array, Array]:
    """Whole numbers and scales of ``x`` in blocks, as quantize_row_q8_0 makes them (to nearest, ties to even)."""
    blocks = x.reshape(*x.shape[:-1], -1, BLOCK)
    largest = np.abs(blocks).max(-1)
    with np.errstate(divide="ignore", under="ignore"):
        inverse = np.where(largest == 0, np.float32(0), np.float32(127) / largest)
        scale = (largest / np.float32(127)).astype(np.float16)
    return np.rint(blocks * inverse[..., None]), scale.astype(np.float64)


def product(w: Weights, x: Array) -> tuple[Array, Array]:
    """(rows of x, rows of w), and how far single precision may be off.

    One rounding for each of two additions a block, relative to what was added: 2**-24 each, twice that allowed.
    """
    numbers, scale = quantised(x)
    blocks = w.whole.shape[-2]
    result, size = 0.0, 0.0
    for b in range(blocks):
        dots = numbers[..., b, :].astype(np.float64) @ w.whole[..., b, :].T.astype(np.float64)
        scaled = dots * scale[..., b, None] * w.scale[..., b].astype(np.float64)
        sums = (numbers[..., b, :].sum(-1) * scale[..., b])[..., None] * w.minimum[..., b].astype(np.float64)
        result, size = result + scaled + sums, size + np.abs(scaled) + np.abs(sums)
    return result, (2 * blocks + 4) * 2.0**-23 * size + 1e-30


@pytest.fixture(scope="module")
def ggml(engine_installed: None) -> Ggml:
    return Ggml(libraries())


@pytest.fixture(scope="module")
def repack(ggml: Ggml) -> int:
    """The buffer type of interleaved weights."""
    if not ggml("ggml_cpu_has_avx512_vnni"):
        pytest.skip("this processor (or this build of the engine) has no AVX-512 VNNI: weights are not interleaved")
    found = ggml.extra_buffer_types()["CPU_REPACK"]
    for kind in (Q4_1, Q8_0):
        assert claims(ggml, found, kind, 16), "the engine was compiled without our kernels (./hm model install)"
    return found


def claims(ggml: Ggml, buffer_type: int, kind: int, outer: int) -> bool:
    """Would a product with weights of so many rows be computed from this type of buffer?"""
    with ggml.space() as held, ggml.space() as space:
        w = held.tensor(kind, outer, 64)
        held.allocate(buffer_type)
        return space.supported(space.make("ggml_mul_mat", (8, outer), w, space.tensor(F32, 8, 64)))


class Loaded:
    """Weights in a buffer, and products with them."""

    def __init__(self, ggml: Ggml, buffer_type: int, w: Weights) -> None:
        self.ggml, self.space = ggml, ggml.space()
        self.tensor = self.space.tensor(w.kind, *w.whole.shape[:-2], w.whole.shape[-2] * BLOCK)
        self.space.allocate(buffer_type)
        self.space.put(self.tensor, w.packed)

    def __enter__(self) -> Loaded:
        return self

    def __exit__(self, *_: object) -> None:
        self.space.__exit__()

    def times(self, x: Array, threads: int = 1, *, apart: int = 0) -> Array:
        """``apart``: positions between the end of a row of ``x`` and the next, as in a view of something wider."""
        rows, n = x.shape[-2:]
        with self.ggml.space() as space:
            wide = space.tensor(F32, *x.shape[:-1], n + apart)
            taken = wide
            if apart:
                taken = space.make("ggml_view_2d", (rows, n), wide, n, rows, 4 * (n + apart), 0)
            result = space.make("ggml_mul_mat", (*x.shape[:-1], self.tensor.shape[-2]), self.tensor, taken)
            space.allocate(self.ggml.plain)
            space.put(wide, np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, apart)], constant_values=1e9))
            assert space.supported(result)
            return space.compute(result, threads)

    def times_chosen(self, x: Array, ids: Array, threads: int) -> Array:
        """``x``: (tokens, 1 or chosen, inner); ``ids``: (tokens, chosen), which matrix each goes through."""
        with self.ggml.space() as space:
            given, chosen = space.tensor(F32, *x.shape), space.tensor(I32, *ids.shape)
            shape = (*ids.shape, self.tensor.shape[-2])
            result = space.make("ggml_mul_mat_id", shape, self.tensor, given, chosen)
            space.allocate(self.ggml.plain)
            space.put(given, x)
            space.put(chosen, ids.astype(np.int32))
            assert space.supported(result)
            return space.compute(result, threads)


def assert_near(found: Array, wanted: tuple[Array, Array]) -> None:
    right, allowed = wanted
    wrong = ~(np.abs(found - right) <= allowed)
    assert not wrong.any(), f"{wrong.sum()} of {wrong.size}, first at {np.argwhere(wrong)[0]}"


@TYPES
@pytest.mark.parametrize(("inner", "outer"), SHAPES)
def test_an_interleaved_product_is_what_its_blocks_say(
    ggml: Ggml, repack: int, kind: int, inner: int, outer: int
) -> None:
    w, x = weights(kind, outer, inner), activations(max(ROWS), inner)
    right, allowed = product(w, x)
    with Loaded(ggml, repack, w) as loaded:
        for threads, some in ((1, ROWS), (2, FEW_ROWS), (3, FEW_ROWS)):
            for rows in some:
                assert_near(loaded.times(x[:rows], threads), (right[:rows], allowed[:rows]))


@TYPES
@pytest.mark.parametrize("outer", [16, 48])
def test_extremes_are_multiplied_like_anything_else(ggml: Ggml, repack: int, kind: int, outer: int) -> None:
    w, x = weights(kind, outer, 64, extreme=True), activations(23, 64, extreme=True)
    with Loaded(ggml, repack, w) as loaded:
        assert_near(loaded.times(x), product(w, x))
        for row in range(len(x)):
            assert_near(loaded.times(x[row : row + 1]), product(w, x[row : row + 1]))


@TYPES
def test_a_row_has_the_same_product_whatever_rows_are_beside_it(ggml: Ggml, repack: int, kind: int) -> None:
    w, x = weights(kind, 48, 576), activations(33, 576)
    with Loaded(ggml, repack, w) as loaded:
        together = loaded.times(x)
        for row in range(len(x)):
            assert (loaded.times(x[row : row + 1], 2) == together[row]).all()


@TYPES
@pytest.mark.parametrize("threads", [1, 2])
def test_rows_that_do_not_lie_end_to_end_are_read_where_they_are(
    ggml: Ggml, repack: int, kind: int, threads: int
) -> None:
    """As the time steps of Mamba: a view of some positions of each row."""
    w, x = weights(kind, 48, 64), activations(13, 64)
    for buffer_type in (repack, ggml.plain):
        with Loaded(ggml, buffer_type, w) as loaded:
            assert (loaded.times(x, threads, apart=96) == loaded.times(x, threads)).all()


@TYPES
def test_planes_of_activations_share_the_weights(ggml: Ggml, repack: int, kind: int) -> None:
    w, x = weights(kind, 48, 64), activations(3, 7, 64)
    with Loaded(ggml, repack, w) as loaded:
        assert_near(loaded.times(x, 2), product(w, x))


@TYPES
@pytest.mark.parametrize("outer", [16, 40, 576, 583])
def test_the_plain_product_agrees(ggml: Ggml, kind: int, outer: int) -> None:
    """Of Q4_1 it rounds each block's sum of activations to half precision."""
    w, x = weights(kind, outer, 576), activations(13, 576)
    right, allowed = product(w, x)
    numbers, scale = quantised(x)
    sums = np.abs(numbers.sum(-1) * scale) @ np.abs(w.minimum.astype(np.float64)).T
    with Loaded(ggml, ggml.plain, w) as loaded:
        for rows in (1, 4, 13):
            assert_near(loaded.times(x[:rows], 2), (right[:rows], (allowed + 2.0**-10 * sums)[:rows]))


@TYPES
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_each_expert_multiplies_the_tokens_that_chose_it(ggml: Ggml, repack: int, kind: int, threads: int) -> None:
    experts, tokens, chosen, inner, outer = 5, 19, 2, 576, 48
    w = weights(kind, experts, outer, inner)
    ids = np.stack(
        [np.random.default_rng(t).permutation(experts - 1)[:chosen] for t in range(tokens)]
    )  # never the last
    for beside in (1, chosen):
        x = activations(tokens, beside, inner)
        with Loaded(ggml, repack, w) as loaded:
            found = loaded.times_chosen(x, ids, threads)
        for token, place in np.ndindex(ids.shape):
            one = Weights(kind, *(part[ids[token, place]] for part in w[1:]))
            assert_near(found[token, place], product(one, x[token, place % beside]))


@TYPES
def test_a_scale_that_is_no_number_spoils_its_own_output_only(ggml: Ggml, repack: int, kind: int) -> None:
    w = weights(kind, 48, 64)
    w.scale[7, 1], w.scale[20, 0] = np.nan, np.inf
    spoilt = w._replace(packed=packed(kind, w.scale, w.minimum, w.whole))
    others = np.delete(np.arange(48), [7, 20])
    right = product(Weights(kind, *(part[others] for part in w[1:])), x := activations(9, 64))
    with Loaded(ggml, repack, spoilt) as loaded:
        found = loaded.times(x)
    assert not np.isfinite(found[:, [7, 20]]).any()
    assert_near(found[:, others], right)


@TYPES
@pytest.mark.parametrize(("outer", "claimed"), [(16, True), (4096, True), (17, False), (40, False), (1, False)])
def test_weights_are_interleaved_where_16_rows_can_be(
    ggml: Ggml, repack: int, kind: int, outer: int, claimed: bool
) -> None:
    assert claims(ggml, repack, kind, outer) is claimed
