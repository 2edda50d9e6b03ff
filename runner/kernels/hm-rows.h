// Activations that do not lie end to end: a view of some positions of each row, as the time steps of Mamba.

#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

namespace hm {

// Four rows of `n` numbers, `apart` bytes from one to the next, end to end, as ggml_quantize_mat_t takes them.
static inline const float * end_to_end(std::vector<float> & room, const char * rows, size_t apart, int64_t n) {
    if (apart == n * sizeof(float)) {
        return (const float *) rows;
    }
    room.resize(4 * n);
    for (int i = 0; i < 4; i++) {
        memcpy(room.data() + i * n, rows + i * apart, n * sizeof(float));
    }
    return room.data();
}

}  // namespace hm
