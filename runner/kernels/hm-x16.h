// Matrices of 4 and 8 bits times Q8_0 activations, with AVX-512 VNNI.
//
// Weights are interleaved by 16 rows when a model is loaded: for each group of 4 positions, 4 bytes of each of the 16 rows lie
// side by side, so that one 64-byte register and one vpdpbusd with 4 broadcast activations advance 16 outputs. vpdpbusd takes
// unsigned times signed numbers: Q4_1 has them; of Q8_0, 128 is added to each weight, and 128 times the sum of the
// activations is taken off again. All of it is whole numbers until the block's scales are applied.
//
// Activations are as ggml_quantize_mat_q8_0_4x8 lays them out (4 rows, 8 positions of each in turn), or plain block_q8_0.

#pragma once

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__) && \
    defined(__F16C__)
#define HM_X16 1

#include <immintrin.h>

#include <cstring>
#include <vector>

#ifndef HM_G
#define HM_G 3
#endif

#if defined(__GNUC__)
#define HM_UNROLL _Pragma("GCC unroll 8")
#else
#define HM_UNROLL
#endif

namespace hm {

constexpr int ROWS   = 16;         // of weights in a tile
constexpr int GROUPS = QK8_0 / 4;  // of 4 positions in a block

static inline __m512i load(const void * p) { return _mm512_loadu_si512(p); }

static inline __m512 halves(const ggml_half * p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) p)); }

static inline __m512i four_bytes(const int8_t * p) {
    int32_t value;
    memcpy(&value, p, sizeof(value));
    return _mm512_set1_epi32(value);
}

struct q8_0x16 {  // the size of 16 block_q8_0
    using plain = block_q8_0;
    static constexpr bool offset  = true;
    static constexpr bool minimum = false;

    ggml_half d[ROWS];
    uint8_t   qs[ROWS * QK8_0];

    __m512i group(int k) const { return load(qs + 64 * k); }
    __m512  minima() const { return _mm512_setzero_ps(); }

    void take(int row, const plain & from) {
        d[row] = from.d;
        for (int k = 0; k < QK8_0; k++) {
            qs[(k / 4) * 64 + row * 4 + k % 4] = (uint8_t) from.qs[k] ^ 0x80;
        }
    }
};

struct q4_1x16 {  // the size of 16 block_q4_1
    using plain = block_q4_1;
    static constexpr bool offset  = false;
    static constexpr bool minimum = true;

    ggml_half d[ROWS];
    ggml_half m[ROWS];
    uint8_t   qs[ROWS * QK4_1 / 2];  // low halves: positions 0 to 15; high halves: 16 to 31

    __m512i group(int k) const {
        const __m512i both = load(qs + 64 * (k % 4));
        return _mm512_and_si512(k < 4 ? both : _mm512_srli_epi16(both, 4), _mm512_set1_epi8(15));
    }
    __m512 minima() const { return halves(m); }

    void take(int row, const plain & from) {
        memcpy(&d[row], &from, sizeof(ggml_half));
        memcpy(&m[row], (const char *) &from + sizeof(ggml_half), sizeof(ggml_half));
        for (int k = 0; k < QK4_1 / 2; k++) {
            qs[(k / 4) * 64 + row * 4 + k % 4] = from.qs[k];
        }
    }
};

static_assert(sizeof(q8_0x16) == ROWS * sizeof(block_q8_0) && sizeof(q4_1x16) == ROWS * sizeof(block_q4_1), "in place");

template <class B> struct of_plain;
template <> struct of_plain<block_q8_0> { using type = q8_0x16; };
template <> struct of_plain<block_q4_1> { using type = q4_1x16; };

// What is needed of one block of N rows of activations beside their bytes.
template <int N> struct about {
    float   scale[N];
    float   sum[N];     // of the activations, scaled
    int32_t offset[N];  // -128 * sum, not scaled
};

static inline about<4> about_four(const block_q8_0x4 & a) {
    const __m512i ones  = _mm512_set1_epi8(1);
    __m512i       sums  = _mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, load(a.qs));
    sums                = _mm512_dpbusd_epi32(sums, ones, load(a.qs + 64));
    const __m256i pairs = _mm256_add_epi32(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64(sums, 1));
    const __m128i rows  = _mm_hadd_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    const __m128  scale = _mm_cvtph_ps(_mm_loadl_epi64((const __m128i *) a.d));
    about<4>      r;
    _mm_storeu_ps(r.scale, scale);
    _mm_storeu_ps(r.sum, _mm_mul_ps(scale, _mm_cvtepi32_ps(rows)));
    _mm_storeu_si128((__m128i *) r.offset, _mm_slli_epi32(_mm_sub_epi32(_mm_setzero_si128(), rows), 7));
    return r;
}

static inline about<1> about_one(const block_q8_0 & a) {
    const __m256i bytes = _mm256_loadu_si256((const __m256i *) a.qs);
    const __m256i fours = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), bytes);
    __m128i       sum   = _mm_add_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1));
    sum                 = _mm_hadd_epi32(sum, sum);
    const int   total   = _mm_extract_epi32(sum, 0) + _mm_extract_epi32(sum, 1);
    const float scale   = GGML_CPU_FP16_TO_FP32(a.d);
    return { { scale }, { scale * (float) total }, { -128 * total } };
}

// 16 outputs of 4 * G rows of activations: those of group g lie g * nb further on.
template <class W, int G>
static inline void tile(int nb, const W * w, const block_q8_0x4 * a, const about<4> * r, float * s, size_t bs) {
    constexpr int M = 4 * G;
    __m512        sum[M];
    for (int m = 0; m < M; m++) {
        sum[m] = _mm512_setzero_ps();
    }
    for (int l = 0; l < nb; l++) {
        __m512i dot[M];
        for (int m = 0; m < M; m++) {
            dot[m] = W::offset ? _mm512_set1_epi32(r[(m / 4) * nb + l].offset[m % 4]) : _mm512_setzero_si512();
        }
        HM_UNROLL
        for (int k = 0; k < GROUPS; k++) {
            const __m512i group = w[l].group(k);
            for (int m = 0; m < M; m++) {
                const int8_t * x = a[(m / 4) * nb + l].qs + (k / 2) * 32 + (m % 4) * 8 + (k % 2) * 4;
                dot[m]           = _mm512_dpbusd_epi32(dot[m], group, four_bytes(x));
            }
        }
        const __m512 scale   = halves(w[l].d);
        const __m512 minimum = w[l].minima();
        for (int m = 0; m < M; m++) {
            const about<4> & x    = r[(m / 4) * nb + l];
            const __m512     both = _mm512_mul_ps(scale, _mm512_set1_ps(x.scale[m % 4]));
            sum[m]                = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[m]), both, sum[m]);
            if (W::minimum) {
                sum[m] = _mm512_fmadd_ps(minimum, _mm512_set1_ps(x.sum[m % 4]), sum[m]);
            }
        }
    }
    for (int m = 0; m < M; m++) {
        _mm512_storeu_ps(s + m * bs, sum[m]);
    }
}

// `s`: nr rows, `bs` floats apart, of nc outputs; `vx`: nc rows of weights; `vy`: nr rows of activations, a multiple of 4.
template <class B>
static inline void gemm(int n, float * s, size_t bs, const void * vx, const void * vy, int nr, int nc) {
    using W                = typename of_plain<B>::type;
    const int            nb     = n / QK8_0;
    const int            groups = nr / 4;
    const block_q8_0x4 * a      = (const block_q8_0x4 *) vy;
    static thread_local std::vector<about<4>> kept;
    kept.resize((size_t) groups * nb);
    for (size_t i = 0; i < kept.size(); i++) {
        kept[i] = about_four(a[i]);
    }
    for (int x = 0; x < nc / ROWS; x++) {  // these weights stay in the nearest cache while all activations pass
        const W * w = (const W *) vx + (size_t) x * nb;
        float *   t = s + x * ROWS;
        int       y = 0;
        for (; y + HM_G <= groups; y += HM_G) {
            tile<W, HM_G>(nb, w, a + (size_t) y * nb, kept.data() + (size_t) y * nb, t + (size_t) y * 4 * bs, bs);
        }
        for (; y < groups; y++) {
            tile<W, 1>(nb, w, a + (size_t) y * nb, kept.data() + (size_t) y * nb, t + (size_t) y * 4 * bs, bs);
        }
    }
}

// One row of activations.
template <class B> static inline void gemv(int n, float * s, const void * vx, const void * vy, int nc) {
    using W              = typename of_plain<B>::type;
    const int          nb = n / QK8_0;
    const block_q8_0 * a  = (const block_q8_0 *) vy;
    static thread_local std::vector<about<1>> kept;
    kept.resize(nb);
    for (int l = 0; l < nb; l++) {
        kept[l] = about_one(a[l]);
    }
    for (int x = 0; x < nc / ROWS; x++) {
        const W * w   = (const W *) vx + (size_t) x * nb;
        __m512    sum = _mm512_setzero_ps();
        for (int l = 0; l < nb; l++) {
            __m512i even = W::offset ? _mm512_set1_epi32(kept[l].offset[0]) : _mm512_setzero_si512();
            __m512i odd  = _mm512_setzero_si512();
            HM_UNROLL
            for (int k = 0; k < GROUPS; k += 2) {
                even = _mm512_dpbusd_epi32(even, w[l].group(k), four_bytes(a[l].qs + 4 * k));
                odd  = _mm512_dpbusd_epi32(odd, w[l].group(k + 1), four_bytes(a[l].qs + 4 * k + 4));
            }
            const __m512 both = _mm512_mul_ps(halves(w[l].d), _mm512_set1_ps(kept[l].scale[0]));
            sum               = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(even, odd)), both, sum);
            if (W::minimum) {
                sum = _mm512_fmadd_ps(w[l].minima(), _mm512_set1_ps(kept[l].sum[0]), sum);
            }
        }
        _mm512_storeu_ps(s + x * ROWS, sum);
    }
}

// As tensor_traits_base::repack: not 0 where it cannot be done.
template <class B> static inline int repack(struct ggml_tensor * t, const void * data, size_t data_size) {
    using W            = typename of_plain<B>::type;
    const int64_t rows = ggml_nrows(t);
    const int64_t nb   = t->ne[0] / QK8_0;
    GGML_ASSERT(data_size == (size_t) (rows * nb) * sizeof(B));
    if (t->ne[1] % ROWS != 0) {
        return -1;
    }
    const B * from = (const B *) data;
    W *       to   = (W *) t->data;
    for (int64_t row = 0; row < rows; row += ROWS, from += ROWS * nb) {
        for (int64_t l = 0; l < nb; l++, to++) {
            for (int i = 0; i < ROWS; i++) {
                to->take(i, from[i * nb + l]);
            }
        }
    }
    return 0;
}

}  // namespace hm

#endif
