// Attention of fewer rows than a tile has: each row walks over the cells that it sees, sixty-four at a time, with up to
// four heads that share keys and values. Keys and values are halves.
//
// Products are added one position after the other, as in the tiles, and weights and sums are those of hm-weigh.h: a row
// gives the same numbers here and there, on any number of threads.

#pragma once

#include "ggml-cpu-impl.h"
#include "ggml-impl.h"
#include "hm-turn.h"
#include "hm-weigh.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace hm {

#if defined(HM_WEIGH)
constexpr int     GROUP   = 64;  // cells
constexpr int     HEADS   = 4;   // at most, that share keys and values
constexpr int64_t COLUMNS = 32;  // of values, when threads share a row: a line of the cache

struct attention {
    const char *  q, * k, * v, * mask;
    const float * sinks;
    char *        out;
    double *      room;    // HEADS * size of a value for each thread, then `scores`
    float *       scores;  // of one row: one for each head and cell
    size_t        nbq[4], nbk[4], nbv[4], nbm[4], nbo;
    int64_t       rows, heads, batches, cells, of_key, of_value, shared, per_key_3, mask_2, mask_3;
    scoring       by;
    float         m0, m1;
    int64_t       heads_log2;
    bool          sloped;

    scoring of_head(int64_t head) const {
        scoring s = by;
        s.slope = !sloped ? 1.0f : head < heads_log2 ? powf(m0, head + 1) : powf(m1, 2 * (head - heads_log2) + 1);
        return s;
    }
    const ggml_fp16_t * mask_of(int64_t row, int64_t head, int64_t batch) const {
        return mask ? (const ggml_fp16_t *) (mask + row * nbm[1] + head % mask_2 * nbm[2] + batch % mask_3 * nbm[3]) : nullptr;
    }
};

// `count` heads from `first`, which share keys and values, of one row.
struct some_heads {
    int64_t row, first, count, batch;
};

struct group {
    int     count;
    int32_t cell[GROUP + 16];  // 16: what is stored beyond `count`
    float   mask[GROUP + 16];
};

// The next cells that are shown, from `at`, which moves on. None: `count` is 0.
static inline void gather(group & g, const ggml_fp16_t * mask, int64_t & at, int64_t end) {
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    g.count = 0;
    for (int64_t n; at < end && g.count <= GROUP - 16; at += n) {
        n = std::min<int64_t>(16, end - at);
        const __mmask16 there = (1u << n) - 1;
        __m256i   halves = _mm256_setzero_si256();
        __mmask16 shown  = there;
        if (mask) {
            halves = _mm256_maskz_loadu_epi16(there, mask + at);
            shown  = _mm256_mask_cmpneq_epi16_mask(there, halves, _mm256_set1_epi16((short) 0xFC00));
        }
        if (shown) {
            const __m512i cells = _mm512_add_epi32(lanes, _mm512_set1_epi32((int) at));
            _mm512_storeu_si512(g.cell + g.count, _mm512_maskz_compress_epi32(shown, cells));
            _mm512_storeu_ps(g.mask + g.count, _mm512_maskz_compress_ps(shown, _mm512_cvtph_ps(halves)));
            g.count += __builtin_popcount(shown);
        }
    }
    for (int i = g.count; i < GROUP; i++) {
        g.cell[i] = g.count ? g.cell[0] : 0;  // some cell that is there: its score is thrown away
    }
}

// What is read next, asked for while something else is computed: keys and values come from far away.
struct ahead {
    const char *    from;
    size_t          nb;
    const int32_t * cell;

    void ask(int i, int64_t bytes) const {
        if (bytes % 64 == 0) {
            _mm_prefetch(from + cell[i] * nb + bytes, _MM_HINT_T0);
        }
    }
};

static inline __m512 sixteen(const char * halves, int64_t n) {
    if (n >= 16) {
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) halves));
    }
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16((__mmask16) ((1u << n) - 1), halves));
}

// Products of H queries with the keys of 16 * N cells, GROUP apart in `to`.
template <int H, int N>
static inline void products(float * to, const float * const * q, const char * k, size_t nb, const int32_t * cell, int64_t size,
                            const ahead & next) {
    float  block[16 * 16 * N];
    __m512 sum[H][N];
    for (int h = 0; h < H; h++) {
        for (int n = 0; n < N; n++) {
            sum[h][n] = _mm512_setzero_ps();
        }
    }
    for (int64_t at = 0; at < size; at += 16) {
        const int64_t some = std::min<int64_t>(16, size - at);
        for (int n = 0; n < N; n++) {
            __m512 r[16];
            for (int i = 0; i < 16; i++) {
                r[i] = sixteen(k + cell[16 * n + i] * nb + 2 * at, some);
                next.ask(16 * n + i, 2 * at);
            }
            turn_registers(block + 16 * n, 16 * N, r);
        }
        for (int64_t i = 0; i < some; i++) {
            __m512 keys[N];
            for (int n = 0; n < N; n++) {
                keys[n] = _mm512_loadu_ps(block + (i * N + n) * 16);
            }
            for (int h = 0; h < H; h++) {
                const __m512 query = _mm512_set1_ps(q[h][at + i]);
                for (int n = 0; n < N; n++) {
                    sum[h][n] = _mm512_fmadd_ps(keys[n], query, sum[h][n]);
                }
            }
        }
    }
    for (int h = 0; h < H; h++) {
        for (int n = 0; n < N; n++) {
            _mm512_storeu_ps(to + h * GROUP + 16 * n, sum[h][n]);
        }
    }
}

// Scores of a group, GROUP apart in `to`; minus infinity beyond its end.
template <int H, int N>
static inline void score_group(float * to, const attention & a, const some_heads & s, const scoring * by, const group & g,
                               const ahead & next) {
    const float * q[H];
    for (int h = 0; h < H; h++) {
        q[h] = (const float *) (a.q + s.row * a.nbq[1] + (s.first + h) * a.nbq[2] + s.batch * a.nbq[3]);
    }
    const char * k = a.k + s.first / a.shared * a.nbk[2] + s.batch / a.per_key_3 * a.nbk[3];
    products<H, N>(to, q, k, a.nbk[1], g.cell, a.of_key, next);
    for (int h = 0; h < H; h++) {
        for (int n = 0; n < N; n++) {
            float * const   x     = to + h * GROUP + 16 * n;
            const int       left  = std::max(0, std::min(16, g.count - 16 * n));
            const __m512    bias  = _mm512_mul_ps(_mm512_loadu_ps(g.mask + 16 * n), _mm512_set1_ps(by[h].slope));
            const __m512    found = score(_mm512_loadu_ps(x), bias, by[h]);
            const __mmask16 there = (__mmask16) ((1u << left) - 1);
            _mm512_storeu_ps(x, _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), there, found));
        }
    }
}

// H rows of 16 * R sums, `apart` from each other, get the values of a group by their weights; n: columns, if R is 1.
template <int H, int R>
static inline void add_values(double * to, int64_t apart, const double * weights, const char * v, size_t nb, const group & g,
                              const ahead & next, int64_t n) {
    __mmask8 some[2 * R];
    __m512d  sum[H][2 * R];
    for (int r = 0; r < 2 * R; r++) {
        some[r] = R == 1 ? first_of_8(std::max<int64_t>(0, n - 8 * r)) : 0xFF;
        for (int h = 0; h < H; h++) {
            sum[h][r] = _mm512_maskz_loadu_pd(some[r], to + h * apart + 8 * r);
        }
    }
    for (int c = 0; c < g.count; c++) {
        __m512d value[2 * R];
        for (int r = 0; r < R; r++) {
            const __m512 both = sixteen(v + g.cell[c] * nb + 32 * r, R == 1 ? n : 16);
            value[2 * r]      = low(both);
            value[2 * r + 1]  = high(both);
            next.ask(c, 32 * r);
        }
        for (int h = 0; h < H; h++) {
            const __m512d weight = _mm512_set1_pd(weights[h * GROUP + c]);
            for (int r = 0; r < 2 * R; r++) {
                sum[h][r] = _mm512_fmadd_pd(value[r], weight, sum[h][r]);
            }
        }
    }
    for (int r = 0; r < 2 * R; r++) {
        for (int h = 0; h < H; h++) {
            _mm512_mask_storeu_pd(to + h * apart + 8 * r, some[r], sum[h][r]);
        }
    }
}

// Scores of a group become weights, and its values are added to columns from `first` to `end`.
template <int H, int N>
static inline void take_group(const float * scores, sums * s, double * to, const attention & a, const char * v, const group & g,
                              const ahead & next, int64_t first, int64_t end) {
    alignas(64) double weights[H * GROUP];
    for (int h = 0; h < H; h++) {
        weigh_row<N>(weights + h * GROUP, scores + h * GROUP, s[h], to + h * a.of_value + first, end - first);
    }
    const auto from = [&](int64_t bytes) { return ahead{ next.from + bytes, next.nb, next.cell }; };
    int64_t at = first;
    for (; at + 32 <= end; at += 32) {
        add_values<H, 2>(to + at, a.of_value, weights, v + 2 * at, a.nbv[1], g, from(2 * at), 16);
    }
    for (; at < end; at += 16) {
        add_values<H, 1>(to + at, a.of_value, weights, v + 2 * at, a.nbv[1], g, from(2 * at), end - at);
    }
}

// What was scored before, at `from`: `apart` numbers for each head, one for each cell.
static inline void fetch(float * to, const float * from, int64_t apart, int heads, const group & g) {
    const bool together = g.cell[g.count - 1] - g.cell[0] == g.count - 1;
    for (int h = 0; h < heads; h++) {
        for (int i = 0; i < GROUP; i += 16) {
            const int       left  = std::max(0, std::min(16, g.count - i));
            const __mmask16 there = (__mmask16) ((1u << left) - 1);
            const __m512    none  = _mm512_set1_ps(-INFINITY);
            const float *   head  = from + h * apart;
            _mm512_storeu_ps(to + h * GROUP + i,
                             together ? _mm512_mask_loadu_ps(none, there, head + g.cell[0] + i) :
                                        _mm512_mask_i32gather_ps(none, there, _mm512_loadu_si512(g.cell + i), head, 4));
        }
    }
}

// Columns from `first` to `end` of the result of H heads; with `a.scores`, which has them, else they are made here.
template <int H> static void attend(const attention & a, const some_heads & s, int thread, int64_t first, int64_t end) {
    double * const to = a.room + thread * HEADS * a.of_value;
    const char * v = a.v + s.first / a.shared * a.nbv[2] + s.batch / a.per_key_3 * a.nbv[3];
    const ggml_fp16_t * mask = a.mask_of(s.row, s.first, s.batch);
    alignas(64) float scores[H * GROUP];
    sums    so_far[H];
    scoring by[H];
    for (int h = 0; h < H; h++) {
        by[h] = a.of_head(s.first + h);
        memset(to + h * a.of_value + first, 0, (end - first) * sizeof(double));
    }
    const char * k = a.k + s.first / a.shared * a.nbk[2] + s.batch / a.per_key_3 * a.nbk[3];
    group both[2];
    int64_t at = 0;
    gather(both[0], mask, at, a.cells);
    for (int i = 0; both[i].count; i = 1 - i) {
        const group & g = both[i];
        gather(both[1 - i], mask, at, a.cells);
        const ahead values = { v, a.nbv[1], g.cell };
        const ahead next   = { a.scores ? v : k, a.scores ? a.nbv[1] : a.nbk[1], both[1 - i].cell };
        if (a.scores) {
            fetch(scores, a.scores + s.first * a.cells, a.cells, H, g);
        } else if (g.count <= 16) {
            score_group<H, 1>(scores, a, s, by, g, values);
        } else {
            score_group<H, 4>(scores, a, s, by, g, values);
        }
        if (g.count <= 16) {
            take_group<H, 1>(scores, so_far, to, a, v, g, next, first, end);
        } else {
            take_group<H, 4>(scores, so_far, to, a, v, g, next, first, end);
        }
    }
    for (int h = 0; h < H; h++) {
        float * const out = (float *) (a.out + (s.batch * a.heads * a.rows + s.first + h + s.row * a.heads) * a.nbo);
        divide(out + first, so_far[h], to + h * a.of_value + first, end - first, a.sinks ? a.sinks + s.first + h : nullptr);
    }
}

// Scores of every GROUP cells from the `which`th, of H heads of the only row.
template <int H> static void score_stripe(const attention & a, const some_heads & s, int64_t which) {
    int64_t at = which * GROUP;
    const int64_t end = std::min(at + GROUP, a.cells);
    scoring by[H];
    for (int h = 0; h < H; h++) {
        by[h] = a.of_head(s.first + h);
    }
    alignas(64) float scores[H * GROUP];
    group g;
    gather(g, a.mask_of(s.row, s.first, s.batch), at, end);
    if (g.count == 0) {
        return;
    }
    const ahead next = { a.k + (s.first / a.shared + 1) % (a.heads / a.shared) * a.nbk[2], a.nbk[1], g.cell };
    score_group<H, 4>(scores, a, s, by, g, next);
    for (int h = 0; h < H; h++) {
        for (int c = 0; c < g.count; c++) {
            a.scores[(s.first + h) * a.cells + g.cell[c]] = scores[h * GROUP + c];
        }
    }
}

// Heads that share keys and values are taken together, four at most; those with masks of their own one by one.
static inline int64_t parts(const attention & a) {
    return a.mask_2 > 1 ? a.heads : a.heads / a.shared * ((a.shared + HEADS - 1) / HEADS);
}

static inline some_heads part(const attention & a, int64_t which, int64_t row, int64_t batch) {
    if (a.mask_2 > 1) {
        return { row, which, 1, batch };
    }
    const int64_t of_key = (a.shared + HEADS - 1) / HEADS;
    const int64_t first  = which % of_key * HEADS;
    return { row, which / of_key * a.shared + first, std::min<int64_t>(HEADS, a.shared - first), batch };
}

static inline void attend(const attention & a, const some_heads & s, int thread, int64_t first, int64_t end) {
    switch (s.count) {
        case 1: return attend<1>(a, s, thread, first, end);
        case 2: return attend<2>(a, s, thread, first, end);
        case 3: return attend<3>(a, s, thread, first, end);
        default: return attend<4>(a, s, thread, first, end);
    }
}

static inline void score_stripe(const attention & a, const some_heads & s, int64_t which) {
    switch (s.count) {
        case 1: return score_stripe<1>(a, s, which);
        case 2: return score_stripe<2>(a, s, which);
        case 3: return score_stripe<3>(a, s, which);
        default: return score_stripe<4>(a, s, which);
    }
}

static inline attention described(const ggml_tensor * dst, double * room) {
    const ggml_tensor * q = dst->src[0], * k = dst->src[1], * v = dst->src[2], * mask = dst->src[3], * sinks = dst->src[4];
    attention a = {};
    a.q     = (const char *) q->data;
    a.k     = (const char *) k->data;
    a.v     = (const char *) v->data;
    a.mask  = mask ? (const char *) mask->data : nullptr;
    a.sinks = sinks ? (const float *) sinks->data : nullptr;
    a.out   = (char *) dst->data;
    a.room  = room;
    memcpy(a.nbq, q->nb, sizeof(a.nbq));
    memcpy(a.nbk, k->nb, sizeof(a.nbk));
    memcpy(a.nbv, v->nb, sizeof(a.nbv));
    if (mask) {
        memcpy(a.nbm, mask->nb, sizeof(a.nbm));
        a.mask_2 = mask->ne[2];
        a.mask_3 = mask->ne[3];
    }
    a.nbo       = dst->nb[1];
    a.rows      = q->ne[1];
    a.heads     = q->ne[2];
    a.batches   = q->ne[3];
    a.cells     = k->ne[1];
    a.of_key    = k->ne[0];
    a.of_value  = v->ne[0];
    a.shared    = q->ne[2] / k->ne[2];
    a.per_key_3 = q->ne[3] / k->ne[3];
    float numbers[3];  // scale, max_bias, softcap
    memcpy(numbers, dst->op_params, sizeof(numbers));
    a.by         = { numbers[2] != 0.0f ? numbers[0] / numbers[2] : numbers[0], numbers[2], 1.0f };
    a.heads_log2 = 1 << (int) floor(log2(a.heads));
    a.m0         = powf(2.0f, -numbers[1] / a.heads_log2);
    a.m1         = powf(2.0f, -numbers[1] / 2.0f / a.heads_log2);
    a.sloped     = numbers[1] > 0.0f;
    return a;
}

// One row is shared by threads: first its scores, by cells, then its columns.
static inline void attend_one_row(const ggml_compute_params * params, attention a) {
    const int64_t some = parts(a);
    a.scores = (float *) (a.room + params->nth * HEADS * a.of_value);
    for (int64_t i = params->ith; i * GROUP < a.cells; i += params->nth) {
        for (int64_t which = 0; which < some; which++) {
            score_stripe(a, part(a, which, 0, 0), i);
        }
    }
    ggml_barrier(params->threadpool);
    const int64_t pieces = (a.of_value + COLUMNS - 1) / COLUMNS;
    for (int64_t i = params->ith; i < some * pieces; i += params->nth) {
        const int64_t first = i % pieces * COLUMNS;
        attend(a, part(a, i / pieces, 0, 0), params->ith, first, std::min(first + COLUMNS, a.of_value));
    }
}
#endif

// All of an operation of attention, if it is ours: fewer rows than a tile has, of keys and values in halves.
static inline bool attend_by_rows(const ggml_compute_params * params, ggml_tensor * dst, int64_t tile) {
#if defined(HM_WEIGH)
    const ggml_tensor * q = dst->src[0], * k = dst->src[1], * v = dst->src[2];
    if (params->use_ref || q->ne[1] >= tile || q->type != GGML_TYPE_F32 || k->type != GGML_TYPE_F16 || v->type != k->type ||
        k->ne[2] != v->ne[2] || k->ne[3] != v->ne[3]) {
        return false;
    }
    const attention a = described(dst, (double *) params->wdata);
    if (a.rows * a.batches == 1 && params->nth > 1) {
        attend_one_row(params, a);
        return true;
    }
    if (params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    ggml_barrier(params->threadpool);
    const int64_t some = parts(a), all = some * a.rows * a.batches;
    for (int64_t i = params->ith; i < all; i = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t row = i / some % a.rows, batch = i / some / a.rows;
        attend(a, part(a, i % some, row, batch), params->ith, 0, a.of_value);
    }
    return true;
#else
    (void) params, (void) dst, (void) tile;
    return false;
#endif
}

}  // namespace hm
