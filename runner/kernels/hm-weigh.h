// What a score of attention weighs, and sums of values by weights, made so that a row's result depends on the cells that
// it sees alone: not on their order, not on the others between them, not on where a tile or a group of cells ends, not on
// the rows computed beside it. One bit of difference here would make another 8-bit number of some activation in the next
// matrix now and then, and from there on everything is a little different.
//
// A weight is e^score as a number near 1 times a power of two. Weights are kept relative to a power of two, not to the
// largest score; when that grows, sums so far are multiplied by a power of two, which rounds nothing. Sums are made in
// double precision, of which single precision keeps the first 24 bits: in another order they round to the same number
// (of twelve million sums of 150 products, in two orders each, all did).

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__F16C__)
#define HM_WEIGH 1

#include <immintrin.h>
#endif

namespace hm {

#if defined(HM_WEIGH)
// Of one head: what makes a score of a product of query and key.
struct scoring {
    float scale;    // already divided by the cap, if there is one
    float softcap;  // 0: none
    float slope;    // of the mask
};

// `bias`: the mask times its slope. Multiplication and addition are one operation in so many words, or it would be the
// compiler's choice in each place.
static inline __m512 score(__m512 product, __m512 bias, const scoring & by) {
    if (by.softcap == 0.0f) {
        return _mm512_fmadd_ps(product, _mm512_set1_ps(by.scale), bias);
    }
    float x[16];
    _mm512_storeu_ps(x, _mm512_mul_ps(product, _mm512_set1_ps(by.scale)));
    for (float & one : x) {
        one = tanhf(one);
    }
    return _mm512_fmadd_ps(_mm512_loadu_ps(x), _mm512_set1_ps(by.softcap), bias);
}

// e^score = near * 2^power; of minus infinity: 0 and minus infinity.
struct weight {
    __m512 near;
    __m512 power;
};

static inline weight weigh(__m512 score) {
    // e^x for |x| <= ln(2)/2 by its series: x^8/8! is below 2^-27
    constexpr float SERIES[] = { 1.0f / 5040, 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f };
    const __m512 power = _mm512_roundscale_ps(_mm512_mul_ps(score, _mm512_set1_ps(1.44269504f)), 8);  // to nearest
    __m512 x = _mm512_fnmadd_ps(power, _mm512_set1_ps(0.693359375f), score);  // ln(2) in two parts, as fdlibm has it
    x = _mm512_fnmadd_ps(power, _mm512_set1_ps(-2.12194440e-4f), x);
    __m512 near = _mm512_set1_ps(SERIES[0]);
    for (int i = 1; i < 8; i++) {
        near = _mm512_fmadd_ps(near, x, _mm512_set1_ps(SERIES[i]));
    }
    const __mmask16 some = _mm512_cmp_ps_mask(score, _mm512_set1_ps(-INFINITY), _CMP_NEQ_UQ);
    return { _mm512_maskz_mov_ps(some, near), power };
}

// Sums of the weights of one row so far, relative to 2^power.
struct sums {
    float  power  = -INFINITY;
    double weight = 0;
};

static inline __m512d low(__m512 x) { return _mm512_cvtps_pd(_mm512_castps512_ps256(x)); }

static inline __m512d high(__m512 x) {
    return _mm512_cvtps_pd(_mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1)));
}

static inline __mmask8 first_of_8(int64_t n) { return n >= 8 ? 0xFF : (__mmask8) ((1u << n) - 1); }

static inline double two_to(float power) {
    return _mm_cvtsd_f64(_mm_scalef_sd(_mm_set_sd(1), _mm_set_sd(power)));
}

// Something of 2^power comes: what was summed so far is made relative to that, if it is more than all before.
static inline void make_room(sums & s, float power, double * values, int64_t size) {
    if (!(power > s.power)) {
        return;
    }
    const double by = two_to(s.power - power);
    s.power = power;
    s.weight *= by;
    for (int64_t i = 0; i < size; i++) {
        values[i] *= by;
    }
}

// N sixteens of scores become weights, in `to`; they are nothing if no score is more. `values`: the row's sums.
template <int N> static inline void weigh_row(double * to, const float * scores, sums & s, double * values, int64_t size) {
    weight w[N];
    __m512 power = _mm512_set1_ps(-INFINITY);
    for (int i = 0; i < N; i++) {
        w[i]  = weigh(_mm512_loadu_ps(scores + 16 * i));
        power = _mm512_max_ps(w[i].power, power);
    }
    const float most = _mm512_reduce_max_ps(power);
    if (most == -INFINITY) {
        memset(to, 0, 16 * N * sizeof(double));
        return;
    }
    make_room(s, most, values, size);
    __m512d all = _mm512_setzero_pd();
    for (int i = 0; i < N; i++) {
        const __m512 one = _mm512_scalef_ps(w[i].near, _mm512_sub_ps(w[i].power, _mm512_set1_ps(s.power)));
        _mm512_storeu_pd(to + 16 * i, low(one));
        _mm512_storeu_pd(to + 16 * i + 8, high(one));
        all = _mm512_add_pd(all, _mm512_add_pd(low(one), high(one)));
    }
    s.weight += _mm512_reduce_add_pd(all);
}

// The values' sums, divided by that of the weights. A sink is a score without a value.
static inline void divide(float * to, sums & s, double * values, int64_t size, const float * sink) {
    if (sink) {
        const weight w     = weigh(_mm512_set1_ps(*sink));
        const float  power = _mm512_cvtss_f32(w.power);
        make_room(s, power, values, size);
        s.weight += power == -INFINITY ? 0 : _mm512_cvtss_f32(w.near) * two_to(power - s.power);
    }
    const double by = s.weight == 0 ? 0 : 1 / s.weight;
    for (int64_t i = 0; i < size; i++) {
        to[i] = (float) (values[i] * by);
    }
}

// For tiles of attention: CELLS products for each of `rows` rows become weights. `mask`: as `products`, with the slope in
// it, or null; `values`: `size` sums for each row.
template <int CELLS>
static inline void weigh_tile(double * to, const float * products, const float * mask, int rows, int cells,
                              const scoring & by, sums * s, double * values, int64_t size) {
    static_assert(CELLS % 16 == 0, "whole registers");
    for (int row = 0; row < rows; row++) {
        float scores[CELLS];
        for (int i = 0; i < CELLS; i += 16) {
            const __m512    bias  = mask ? _mm512_loadu_ps(mask + row * CELLS + i) : _mm512_setzero_ps();
            const int       left  = cells - i < 0 ? 0 : cells - i < 16 ? cells - i : 16;
            const __mmask16 there = (__mmask16) ((1u << left) - 1);
            const __m512    found = score(_mm512_loadu_ps(products + row * CELLS + i), bias, by);
            _mm512_storeu_ps(scores + i, _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), there, found));
        }
        weigh_row<CELLS / 16>(to + row * CELLS, scores, s[row], values + row * size, size);
    }
}

// M rows of `size` sums get `cells` rows of values by their weights, which are CELLS apart; from column `at`, 8 * N of them.
template <int CELLS, int M, int N>
static inline void add_block(double * sums, const double * weights, const double * values, int cells, int64_t size, int64_t at) {
    const __mmask8 some = N == 1 ? first_of_8(size - at) : 0xFF;
    __m512d        sum[M][N];
    for (int m = 0; m < M; m++) {
        for (int n = 0; n < N; n++) {
            sum[m][n] = _mm512_maskz_loadu_pd(some, sums + m * size + at + 8 * n);
        }
    }
    for (int c = 0; c < cells; c++) {
        __m512d value[N];
        for (int n = 0; n < N; n++) {
            value[n] = _mm512_maskz_loadu_pd(some, values + c * size + at + 8 * n);
#if defined(__GNUC__)
            asm("" : "+v"(value[n]));  // else GCC loads it again for each row
#endif
        }
        for (int m = 0; m < M; m++) {
            const __m512d weight = _mm512_set1_pd(weights[m * CELLS + c]);
            for (int n = 0; n < N; n++) {
                sum[m][n] = _mm512_fmadd_pd(value[n], weight, sum[m][n]);
            }
        }
    }
    for (int m = 0; m < M; m++) {
        for (int n = 0; n < N; n++) {
            _mm512_mask_storeu_pd(sums + m * size + at + 8 * n, some, sum[m][n]);
        }
    }
}

template <int CELLS, int M>
static inline void add_rows(double * sums, const double * weights, const double * values, int cells, int64_t size) {
    int64_t at = 0;
    for (; at + 32 <= size; at += 32) {
        add_block<CELLS, M, 4>(sums, weights, values, cells, size, at);
    }
    for (; at < size; at += 8) {
        add_block<CELLS, M, 1>(sums, weights, values, cells, size, at);
    }
}

template <int CELLS>
static inline void add_tile(double * sums, const double * weights, const double * values, int rows, int cells, int64_t size) {
    int row = 0;
    for (; row + 4 <= rows; row += 4) {
        add_rows<CELLS, 4>(sums + row * size, weights + row * CELLS, values, cells, size);
    }
    for (; row < rows; row++) {
        add_rows<CELLS, 1>(sums + row * size, weights + row * CELLS, values, cells, size);
    }
}

static inline void widen(double * to, const float * from, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        to[i] = from[i];
    }
}
#endif

}  // namespace hm
