// For attention: keys, whose numbers lie end to end in memory, become columns; the largest score of a row of a tile.

#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace hm {

#if defined(__AVX512F__)
// 16 rows of 16, which `r` holds, to 16 columns; `out`: numbers from row to row.
static inline void turn_registers(float * to, size_t out, __m512 * r) {
    __m512 t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i]     = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        for (int half = 0; half < 2; half++) {
            const __m512d a     = _mm512_castps_pd(t[i + half]);
            const __m512d b     = _mm512_castps_pd(t[i + half + 2]);
            r[i + 2 * half]     = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            r[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    for (int j = 0; j < 4; j++) {  // part L of r[4 * i + j] is column 4 * L + j of the rows from 4 * i
        const __m512 a = _mm512_shuffle_f32x4(r[j], r[4 + j], 0x44);
        const __m512 b = _mm512_shuffle_f32x4(r[j], r[4 + j], 0xEE);
        const __m512 c = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0x44);
        const __m512 d = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0xEE);
        _mm512_storeu_ps(to + j * out, _mm512_shuffle_f32x4(a, c, 0x88));
        _mm512_storeu_ps(to + (4 + j) * out, _mm512_shuffle_f32x4(a, c, 0xDD));
        _mm512_storeu_ps(to + (8 + j) * out, _mm512_shuffle_f32x4(b, d, 0x88));
        _mm512_storeu_ps(to + (12 + j) * out, _mm512_shuffle_f32x4(b, d, 0xDD));
    }
}

// 16 rows of 16 halves to 16 columns of floats; `in`: bytes from row to row.
static inline void turn_16(float * to, size_t out, const char * from, size_t in) {
    __m512 r[16];
    for (int i = 0; i < 16; i++) {
        r[i] = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) (from + i * in)));
    }
    turn_registers(to, out, r);
}
#endif

// `cells` rows of `size` halves, `in` bytes from one to the next, to columns of floats, `out` floats from row to row.
// Returns how many cells are done, from the first: the caller does the others.
static inline int turn(float * to, size_t out, const char * from, size_t in, int cells, int64_t size) {
#if defined(__AVX512F__)
    if (size % 16 == 0) {
        const int done = cells / 16 * 16;
        for (int cell = 0; cell < done; cell += 16) {
            for (int64_t i = 0; i < size; i += 16) {
                turn_16(to + i * out + cell, out, from + cell * in + i * 2, in);
            }
        }
        return done;
    }
#endif
    (void) to, (void) out, (void) from, (void) in, (void) cells, (void) size;
    return 0;
}

// In 16 lanes, which compilers make registers of; one after the other, each comparison waits for the last.
template <int N> static inline float largest(const float * x) {
    static_assert(N % 16 == 0, "whole registers");
    float lane[16];
    for (int i = 0; i < 16; i++) {
        lane[i] = x[i];
    }
    for (int at = 16; at < N; at += 16) {
        for (int i = 0; i < 16; i++) {
            lane[i] = lane[i] > x[at + i] ? lane[i] : x[at + i];
        }
    }
    for (int width = 8; width > 0; width /= 2) {
        for (int i = 0; i < width; i++) {
            lane[i] = lane[i] > lane[i + width] ? lane[i] : lane[i + width];
        }
    }
    return lane[0];
}

}  // namespace hm
