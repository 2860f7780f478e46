// Vectors of float32 as wide as the processor's, and the two operations on them that take the time.
//
// Written in the vector extensions of GCC and Clang: one source for SSE, AVX2, AVX-512 and NEON.

#ifndef MQSA_JAX_KERNELS_VECTOR_H_
#define MQSA_JAX_KERNELS_VECTOR_H_

#include <cstdint>
#include <new>
#include <type_traits>

namespace mqsa_jax {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
#elif defined(__AVX__)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

// Rows of a product that are summed at a time: with two vectors a row, as many sums as there are
// registers for beside the factors.
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int kTileRows = 12;
#else
inline constexpr int kTileRows = 6;
#endif
inline constexpr int kTileVectors = 2;
inline constexpr int kTileColumns = kTileVectors * kLanes;

using Vector = float __attribute__((vector_size(4 * kLanes)));
using Words = uint32_t __attribute__((vector_size(4 * kLanes)));
using Integers = int32_t __attribute__((vector_size(4 * kLanes)));
// The same at any address.
using Unaligned = float __attribute__((vector_size(4 * kLanes), aligned(4)));

inline Vector Load(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }
inline void Store(float* to, Vector value) { *reinterpret_cast<Unaligned*>(to) = value; }
inline Vector Fill(float value) { return value - Vector{}; }
// The other one where `value` is not a number.
inline Vector Maximum(Vector value, Vector other) { return value > other ? value : other; }

inline bool Any(Integers mask) {
  int32_t any = 0;
  for (int lane = 0; lane < kLanes; lane++) any |= mask[lane];
  return any;
}

// exp(x) for x <= 80, within 2 units in the last place; 0 below the smallest normal number; not a
// number where x is. Cody and Waite's reduction by multiples of log 2, then the polynomial of Cephes.
inline Vector Exp(Vector x) {
  constexpr float kVanishing = -87.3f, kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds.
  const Integers kept = ~(x < kVanishing);
  const Vector shifted = x * 1.44269504088896341f + kRound;
  const Words power = reinterpret_cast<Words>(shifted) - reinterpret_cast<Words>(Fill(kRound));
  const Vector multiple = shifted - kRound;
  const Vector rest = x - multiple * 0.693359375f - multiple * -2.12194440e-4f;
  Vector series = Fill(1.9875691500e-4f);
  series = series * rest + 1.3981999507e-3f;
  series = series * rest + 8.3334519073e-3f;
  series = series * rest + 4.1665795894e-2f;
  series = series * rest + 1.6666665459e-1f;
  series = series * rest + 5.0000001201e-1f;
  series = series * rest * rest + rest + 1.0f;
  const Vector scale = reinterpret_cast<Vector>((power + 127) << 23);
  return reinterpret_cast<Vector>(reinterpret_cast<Integers>(series * scale) & kept);
}

// A matrix in memory: element (i, k) is at start[i * row + k / width * block + k % width * column].
struct Strided {
  const float* start;
  int64_t row, column, width, block;
};

// sum[i][j] (+)= sum over k < depth of left(i, k) right[k][j], for kRows rows i and kTileColumns
// columns j; `depth` is a multiple of the width of `left`. Rows of `right` and `sum` are contiguous,
// their strides given.
template <int kRows, bool kAdd>
inline __attribute__((always_inline)) void MultiplyTile(int64_t depth, Strided left,
                                                        const float* right, int64_t right_stride,
                                                        float* sum, int64_t sum_stride) {
  Vector sums[kRows][kTileVectors];
#pragma GCC unroll 12
  for (int i = 0; i < kRows; i++)
#pragma GCC unroll 2
    for (int j = 0; j < kTileVectors; j++)
      sums[i][j] = kAdd ? Load(sum + i * sum_stride + j * kLanes) : Vector{};
  for (; depth > 0; depth -= left.width, left.start += left.block) {
    const float* factor_at = left.start;
    for (int64_t k = 0; k < left.width; k++, factor_at += left.column, right += right_stride) {
      Vector factors[kTileVectors];
#pragma GCC unroll 2
      for (int j = 0; j < kTileVectors; j++) factors[j] = Load(right + j * kLanes);
#pragma GCC unroll 12
      for (int i = 0; i < kRows; i++) {
        const Vector factor = Fill(factor_at[i * left.row]);
#pragma GCC unroll 2
        for (int j = 0; j < kTileVectors; j++) sums[i][j] += factor * factors[j];
      }
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < kRows; i++)
#pragma GCC unroll 2
    for (int j = 0; j < kTileVectors; j++) Store(sum + i * sum_stride + j * kLanes, sums[i][j]);
}

template <int kCount>
using Count = std::integral_constant<int, kCount>;

// The same for any number of rows.
template <bool kAdd>
inline void Multiply(int64_t rows, int64_t depth, const Strided& left, const float* right,
                     int64_t right_stride, float* sum, int64_t sum_stride) {
  const auto tile = [&](auto count, int64_t i) {
    Strided from = left;
    from.start += i * left.row;
    MultiplyTile<decltype(count)::value, kAdd>(depth, from, right, right_stride,
                                               sum + i * sum_stride, sum_stride);
  };
  int64_t i = 0;
  for (; i + kTileRows <= rows; i += kTileRows) tile(Count<kTileRows>{}, i);
  for (; i + 4 <= rows; i += 4) tile(Count<4>{}, i);
  for (; i < rows; i++) tile(Count<1>{}, i);
}

inline int64_t CeilOfRatio(int64_t numerator, int64_t denominator) {
  return (numerator + denominator - 1) / denominator;
}

// Numbers that begin where a cache line does, for vectors cut in two by lines are slow.
class Buffer {
 public:
  explicit Buffer(int64_t size) : start_(new (std::align_val_t{64}) float[size]()) {}
  ~Buffer() { ::operator delete[](start_, std::align_val_t{64}); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  float* at(int64_t index) const { return start_ + index; }

 private:
  float* start_;
};

}  // namespace mqsa_jax

#endif  // MQSA_JAX_KERNELS_VECTOR_H_
