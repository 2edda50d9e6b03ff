// Attention over cells of which most are masked: with one memory for all sequences, a token sees only its own.

#pragma once

#include <cstdint>
#include <cstring>

namespace hm {

// The first index in [from, end) whose mask is not minus infinity (half precision: 0xFC00); `end` if there is none.
static inline int64_t next_shown(const ggml_fp16_t * mask, int64_t from, int64_t end) {
    constexpr uint64_t HIDDEN = 0xFC00FC00FC00FC00ull;
    for (; from + 16 <= end; from += 16) {
        uint64_t four[4];
        memcpy(four, mask + from, sizeof(four));
        if ((four[0] ^ HIDDEN) | (four[1] ^ HIDDEN) | (four[2] ^ HIDDEN) | (four[3] ^ HIDDEN)) {
            break;
        }
    }
    while (from < end && mask[from] == 0xFC00) {
        from++;
    }
    return from;
}

}  // namespace hm
