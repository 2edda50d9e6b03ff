"""Attention on the processor, with masks as the engine makes them, against numpy in double precision.

Three ways lead through ggml: tiles (64 rows of queries and more), one row at a time, and one row that threads share.
With our kernels all of them give the same numbers, bit for bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

np = pytest.importorskip("numpy")

from tests.runner.ggmlcalls import F16, F32, Ggml, libraries  # noqa: E402

ROWS = [1, 5, 63, 64, 65, 130, 283]
CELLS = [256, 1024, 261]  # the last: no multiple of 16
MASKS = ["causal", "sequences", "all", "one row sees nothing", "few cells"]
SCALE = 0.4  # of queries times keys: sharp enough for a wrong cell to change much
ALLOWED = 2e-5  # single precision, and exponentials that are good to 2**-20 or so; half precision would need 6e-3
Array = Any


class Case(NamedTuple):
    queries: Array  # (batches, heads, rows, size)
    keys: Array  # (batches, heads of keys, cells, size)
    values: Array
    mask: Array | None  # (batches, heads or 1, rows, cells), half precision
    max_bias: float = 0.0
    softcap: float = 0.0
    sinks: Array | None = None  # one for each head


def case(heads: int, of_keys: int, size: int, rows: int, cells: int, batches: int = 1) -> Case:
    made = np.random.default_rng([heads, size, rows, cells])
    shapes = [(batches, heads, rows, size), *[(batches, of_keys, cells, size)] * 2]
    queries, keys, values = (made.normal(0, 1, shape).astype(np.float16).astype(np.float32) for shape in shapes)
    return Case(queries, keys.astype(np.float16), values.astype(np.float16), None)


def mask(kind: str, rows: int, cells: int) -> Array:
    """(1, 1, rows, cells): 0 where a row sees a cell, else minus infinity."""
    row, cell = np.ogrid[:rows, :cells]
    shown = np.ones((rows, cells), bool)
    if kind in ("causal", "one row sees nothing"):
        shown = cell <= row + cells - rows if rows <= cells else cell * rows <= row * cells
    if kind == "one row sees nothing":
        shown[rows // 2] = False
    if kind == "sequences":  # 7 of them, whose cells lie where they were written: some together, some far off
        owner = np.random.default_rng(cells).integers(0, 7, cells // 24 + 1).repeat(24)[:cells]
        shown = (owner == row % 7) | (cell == row % cells)
    if kind == "few cells":  # first, last, and beside every border of what is looked at together
        shown = np.isin((cell + row) % cells, [0, 15, 16, 63, cells - 1]) & (cell % 16 < 15) | (cell == cells - 1)
    return np.where(shown, 0, -np.inf).astype(np.float16)[None, None]


def attention(c: Case) -> Array:
    """(batches, rows, heads, size)."""
    heads = c.queries.shape[1]
    share = heads // c.keys.shape[1]
    keys, values = (np.repeat(x.astype(np.float64), share, 1) for x in (c.keys, c.values))
    scores = c.queries.astype(np.float64) @ keys.swapaxes(2, 3) * SCALE
    if c.softcap:
        scores = c.softcap * np.tanh(scores / c.softcap)
    if c.mask is not None:
        repeated = c.mask.astype(np.float64).repeat(heads // c.mask.shape[1], 1)
        scores = scores + repeated * slopes(heads, c.max_bias)[:, None, None]
    if c.sinks is not None:  # a score without a value
        sunk = np.broadcast_to(c.sinks.astype(np.float64)[:, None, None], (*scores.shape[:3], 1))
        scores = np.concatenate([scores, sunk], -1)
        values = np.concatenate([values, np.zeros_like(values[:, :, :1])], 2)
    largest = scores.max(-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(largest), largest, 0))
    whole = weights.sum(-1, keepdims=True)
    return (weights @ values / np.where(whole == 0, 1, whole)).swapaxes(1, 2)


def slopes(heads: int, max_bias: float) -> Array:
    """Of ALiBi (Press and others, 2021), for a number of heads that need not be a power of two."""
    if not max_bias:
        return np.ones(heads)
    power = 1 << (heads.bit_length() - 1)
    first = 2.0 ** (-max_bias / power * np.arange(1, power + 1))
    rest = 2.0 ** (-max_bias / 2 / power * np.arange(1, 2 * (heads - power), 2))
    return np.concatenate([first, rest])


@pytest.fixture(scope="module")
def ggml(engine_installed: None) -> Ggml:
    return Ggml(libraries())


@pytest.fixture(scope="module")
def ours(ggml: Ggml) -> None:
    if not ggml("ggml_cpu_has_avx512_vnni"):
        pytest.skip(
            "this processor (or this build of the engine) has no AVX-512: its rows are not computed by our kernels"
        )


def computed(ggml: Ggml, c: Case, threads: int) -> Array:
    """Heads lie inside a cell, as in the engine's memory: (batches, cells, heads, size), turned by a view."""
    with ggml.space() as space:
        held, turned = [], []
        for whole in (c.queries, c.keys, c.values):
            kind = F16 if whole.dtype == np.float16 else F32
            batches, heads, count, size = whole.shape
            held.append(space.tensor(kind, batches, count, heads, size))
            turned.append(space.make("ggml_permute", whole.shape, held[-1], 0, 2, 1, 3))
        shown = None if c.mask is None else space.tensor(F16, *c.mask.shape)
        batches, heads, rows, _ = c.queries.shape
        size = c.values.shape[-1]
        numbers = (SCALE, c.max_bias, c.softcap)
        result = space.make("ggml_flash_attn_ext", (batches, rows, heads, size), *turned, shown, *numbers)
        sinks = None if c.sinks is None else space.tensor(F32, heads)
        if sinks is not None:
            ggml("ggml_flash_attn_ext_add_sinks", result.handle, sinks.handle)
        space.allocate(ggml.plain)
        for tensor, whole in zip(held, (c.queries, c.keys, c.values), strict=True):
            space.put(tensor, whole.swapaxes(1, 2))
        if shown is not None:
            space.put(shown, c.mask)
        if sinks is not None:
            space.put(sinks, c.sinks)
        return space.compute(result, threads)


def check(ggml: Ggml, c: Case, threads: int = 1) -> None:
    found, right = computed(ggml, c, threads), attention(c)
    wrong = ~(np.abs(found - right) <= ALLOWED * (1 + np.abs(right)))
    assert not wrong.any(), (
        f"{wrong.sum()} of {wrong.size}, first at {np.argwhere(wrong)[0]}, {np.abs(found - right).max()}"
    )


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("cells", CELLS)
@pytest.mark.parametrize("rows", ROWS)
def test_a_row_attends_to_what_its_mask_shows(ggml: Ggml, rows: int, cells: int, kind: str) -> None:
    check(ggml, case(2, 2, 64, rows, cells)._replace(mask=mask(kind, rows, cells)), threads=1 + rows % 3)


@pytest.mark.parametrize("kind", ["causal", "sequences"])
@pytest.mark.parametrize("rows", [1, 5, 65])
@pytest.mark.parametrize(("heads", "of_keys", "size"), [(9, 3, 64), (32, 8, 128), (4, 4, 128)])
def test_heads_share_keys_and_values(ggml: Ggml, heads: int, of_keys: int, size: int, rows: int, kind: str) -> None:
    cells = 256 if heads > 9 else 261
    check(ggml, case(heads, of_keys, size, rows, cells)._replace(mask=mask(kind, rows, cells)), threads=2)


@pytest.mark.parametrize("precise", [False, True], ids=["f16", "f32"])
@pytest.mark.parametrize("rows", [1, 5, 65])
@pytest.mark.parametrize(("of_key", "of_value"), [(48, 48), (72, 72), (40, 24), (96, 64), (64, 128)])
def test_keys_and_values_may_have_any_size(ggml: Ggml, of_key: int, of_value: int, rows: int, precise: bool) -> None:
    """Tiles of 64 cells, the last of 44: two blocks of 16 and 12 cells."""
    c = case(4, 2, max(of_key, of_value), rows, 300)._replace(mask=mask("causal", rows, 300))
    c = c._replace(queries=c.queries[..., :of_key], keys=c.keys[..., :of_key], values=c.values[..., :of_value])
    if precise:
        c = c._replace(keys=c.keys.astype(np.float32), values=c.values.astype(np.float32))
    check(ggml, c, threads=2)


@pytest.mark.parametrize("rows", [1, 5, 65])
@pytest.mark.parametrize("cells", [256, 1024])
def test_without_a_mask_every_cell_is_seen(ggml: Ggml, rows: int, cells: int) -> None:
    check(ggml, case(4, 2, 64, rows, cells), threads=2)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("rows", [1, 5, 65, 130])
@pytest.mark.parametrize("heads", [4, 9])
def test_what_a_mask_adds_is_weighed_by_the_slope_of_its_head(ggml: Ggml, heads: int, rows: int, kind: str) -> None:
    """ALiBi: finite numbers beside the infinite ones, some of them the lowest that half precision has."""
    shown = mask(kind, rows, 261)
    distance = np.abs(np.arange(261) - np.arange(rows)[:, None]).astype(np.float16)
    sees = np.isfinite(shown).any(-1, keepdims=True)
    shown = shown - distance
    shown[..., 3:30] = np.where(sees, np.maximum(shown[..., 3:30], -65504), -np.inf)
    check(ggml, case(heads, heads, 64, rows, 261)._replace(mask=shown, max_bias=8.0), threads=2)


@pytest.mark.parametrize("rows", [1, 5, 65])
def test_scores_are_capped_before_the_mask(ggml: Ggml, rows: int) -> None:
    c = case(4, 2, 64, rows, 261)._replace(mask=mask("causal", rows, 261), softcap=2.0)
    assert np.abs(attention(c) - attention(c._replace(softcap=0.0))).max() > 0.1
    check(ggml, c, threads=2)


@pytest.mark.parametrize("rows", [1, 5, 65])
@pytest.mark.parametrize("level", [-4.0, 0.0, 30.0])
def test_a_sink_takes_its_share_of_the_weights(ggml: Ggml, level: float, rows: int) -> None:
    sinks = np.linspace(level - 1, level + 1, 6, dtype=np.float32)
    c = case(6, 2, 64, rows, 1024)._replace(mask=mask("sequences", rows, 1024), sinks=sinks)
    check(ggml, c, threads=2)
    check(ggml, c, threads=1)


def test_queries_keep_what_half_precision_cannot_hold(ggml: Ggml, ours: None) -> None:
    c = case(4, 2, 64, 1, 600)
    c = c._replace(queries=c.queries + np.float32(2**-13) * np.sign(c.queries), mask=mask("causal", 1, 600))
    assert (c.queries != c.queries.astype(np.float16)).any()
    check(ggml, c, threads=2)


@pytest.mark.parametrize("rows", [1, 5, 70])
def test_each_batch_and_each_head_may_have_a_mask_of_its_own(ggml: Ggml, rows: int) -> None:
    masks = np.concatenate([mask(kind, rows, 261) for kind in MASKS if "row" not in kind])  # 4 of them
    each_head = masks.reshape(1, 4, rows, 261)
    check(ggml, case(4, 2, 64, rows, 261)._replace(mask=each_head), threads=2)
    each_batch = masks[:2]
    check(ggml, case(4, 2, 64, rows, 261, batches=2)._replace(mask=each_batch), threads=2)
    check(ggml, case(4, 2, 64, rows, 261, batches=2)._replace(mask=masks[2:3]), threads=3)


@pytest.mark.parametrize("rows", [1, 4, 64, 100])
@pytest.mark.parametrize("cells", [256, 1024])
def test_rows_that_see_nothing_give_nothing(ggml: Ggml, rows: int, cells: int) -> None:
    hidden = np.full((1, 1, rows, cells), -np.inf, np.float16)
    assert (computed(ggml, case(2, 2, 64, rows, cells)._replace(mask=hidden), 2) == 0).all()


@pytest.mark.parametrize("rows", [1, 5, 65])
def test_the_lowest_finite_number_is_no_hidden_cell(ggml: Ggml, rows: int) -> None:
    """A row that sees one cell, by however little, gives that cell's values."""
    only = np.full((1, 1, rows, 261), -np.inf, np.float16)
    cells = np.arange(rows) * 4
    only[0, 0, np.arange(rows), cells] = -65504
    c = case(2, 2, 64, rows, 261)._replace(mask=only)
    assert (computed(ggml, c, 2)[0] == c.values[0, :, cells]).all()


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "alibi": {"max_bias": 8.0},
    "capped": {"softcap": 2.0},
    "sinks": {"sinks": np.linspace(-2, 2, 6, dtype=np.float32)},
}
VARIANT = pytest.mark.parametrize("variant", VARIANTS)
SIZES = pytest.mark.parametrize(("of_key", "of_value"), [(64, 64), (128, 128), (72, 40)])


def some(c: Case, rows: slice) -> Case:
    assert c.mask is not None
    return c._replace(queries=c.queries[:, :, rows], mask=c.mask[:, :, rows])


def sized(heads: int, of_key: int, of_value: int, rows: int, cells: int) -> Case:
    c = case(heads, 2, max(of_key, of_value), rows, cells)
    return c._replace(queries=c.queries[..., :of_key], keys=c.keys[..., :of_key], values=c.values[..., :of_value])


@SIZES
@VARIANT
@pytest.mark.parametrize("kind", ["causal", "sequences"])
def test_a_row_is_the_same_to_the_last_bit_whatever_rows_are_beside_it(
    ggml: Ggml, ours: None, kind: str, variant: str, of_key: int, of_value: int
) -> None:
    rows, cells = 130, 700
    c = sized(6, of_key, of_value, rows, cells)._replace(mask=mask(kind, rows, cells), **VARIANTS[variant])
    together = computed(ggml, c, 2)
    for first, count, threads in ((0, 64, 1), (1, 1, 1), (66, 1, 2), (66, 1, 3), (129, 1, 1), (60, 5, 3), (99, 31, 2)):
        part = slice(first, first + count)
        assert (computed(ggml, some(c, part), threads) == together[:, part]).all(), (first, count, threads)


@SIZES
@VARIANT
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_a_row_is_the_same_to_the_last_bit_wherever_its_cells_lie(
    ggml: Ggml, ours: None, rows: int, variant: str, of_key: int, of_value: int
) -> None:
    """Elsewhere, in another order, and between those of others."""
    small, large = 150, 900
    c = sized(6, of_key, of_value, rows, small)._replace(mask=mask("causal", rows, small), **VARIANTS[variant])
    near = computed(ggml, c, 2)
    for seed in range(5):
        made = np.random.default_rng(seed)
        places = made.permutation(large)[:small]
        if seed % 2:
            places = np.sort(places)
        keys, values = (made.normal(0, 1, (1, 2, large, n)).astype(np.float16) for n in (of_key, of_value))
        keys[:, :, places], values[:, :, places] = c.keys, c.values
        hidden = np.full((1, 1, rows, large), -np.inf, np.float16)
        hidden[..., places] = c.mask
        far = computed(ggml, c._replace(keys=keys, values=values, mask=hidden), 1 + seed % 3)
        assert (far == near).all(), seed
