// Log-sum-exps of linear logits and all their gradients, in one pass over the table.
//
// For rows x, a table E and weights w: lse_n = log([pad_n] + sum_j exp(x_n . E_j + sparse_nj)), and
// the gradients of sum_n w_n lse_n. Rows are processed a chunk at a time. A tile of items is multiplied
// with a panel of rows while both are in the fastest cache; its exponentials are relative to a base of
// each row, some logit in the tile's segment of the table, so that there is no pass for the maximum
// over all items. The rows' gradients are summed while the tile is at hand; those of the
// table need the whole sums, and follow in a second phase.
//
// The sums do not depend on the number of threads: what a task adds up depends on sizes alone.

#ifndef MQSA_JAX_KERNELS_LINEAR_LOGSUMEXP_H_
#define MQSA_JAX_KERNELS_LINEAR_LOGSUMEXP_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "tasks.h"
#include "vector.h"

namespace mqsa_jax {

// 24 KiB of a table of 64 columns; a multiple of every kTileRows.
inline constexpr int64_t kTileItems = 96;
// A base this much below a logit is moved: exponentials stay far from overflow.
inline constexpr float kFar = 32;
inline constexpr float kLowest = std::numeric_limits<float>::lowest();
// Tasks of a phase: enough for many threads, not so many that adding up their sums takes long.
inline constexpr int64_t kMinSegments = 8, kMaxSegments = 64;

struct LogSumExpArguments {
  int64_t chunk, items, dim, sparse;
  const float *x, *table, *weight;  // [rows, dim], [items, dim], [rows]
  const bool* pad_logit;           // [rows]
  const int32_t* item;              // [rows, sparse]
  const float* value;               // [rows, sparse]
  float *lse, *dx, *dtable, *dvalue;
  float* exps;  // [tiles, panels, kTileItems, kTileColumns], of one chunk.
};

// One logit's addend: `offset` within the exponentials of a tile and panel.
struct Addend {
  int64_t offset;
  float value;
};

// Numbers in `exps`.
inline int64_t ExponentialsOfChunk(const LogSumExpArguments& args) {
  return CeilOfRatio(args.items, kTileItems) * kTileItems *
         CeilOfRatio(args.chunk, kTileColumns) * kTileColumns;
}

class LogSumExpPass {
 public:
  LogSumExpPass(const LogSumExpArguments& args, Pool& pool)
      : args_(args),
        pool_(pool),
        panels_(CeilOfRatio(args.chunk, kTileColumns)),
        tiles_(CeilOfRatio(args.items, kTileItems)),
        segment_tiles_(CeilOfRatio(tiles_, std::clamp(tiles_ / 8, kMinSegments, kMaxSegments))),
        segments_(CeilOfRatio(tiles_, segment_tiles_)),
        packed_(panels_ * kTileColumns * args.dim),
        base_(tiles_ * panels_ * kTileColumns),
        top_(panels_ * kTileColumns),
        total_(panels_ * kTileColumns),
        sum_(segments_ * panels_ * kTileColumns),
        drows_(segments_ * panels_ * kTileColumns * args.dim),
        addends_(args.sparse ? tiles_ * panels_ : 0) {}

  // Rows [begin, begin + count), at most a chunk.
  void Process(int64_t begin, int64_t count) {
    begin_ = begin;
    count_ = count;
    used_panels_ = CeilOfRatio(count, kTileColumns);
    Pack();
    SortAddends();
    ForEachTask(pool_, segments_, [this](int64_t segment) { SumExponentials(segment); });
    ForEachTask(pool_, used_panels_, [this](int64_t panel) { FinishRows(panel); });
    ForEachTask(pool_, segments_, [this](int64_t segment) { AddTableGradient(segment); });
  }

 private:
  int64_t TilesBegin(int64_t segment) const { return segment * segment_tiles_; }
  int64_t TilesEnd(int64_t segment) const {
    return std::min((segment + 1) * segment_tiles_, tiles_);
  }
  int64_t ItemsOf(int64_t tile) const {
    return std::min(kTileItems, args_.items - tile * kTileItems);
  }
  bool IsItem(int64_t item) const { return item >= 0 && item < args_.items; }
  const float* TableAt(int64_t tile) const {
    return args_.table + tile * kTileItems * args_.dim;
  }
  float* ExpsAt(int64_t tile, int64_t panel) const {
    return args_.exps + (tile * panels_ + panel) * kTileItems * kTileColumns;
  }
  float* BaseAt(int64_t tile, int64_t panel) const {
    return base_.at((tile * panels_ + panel) * kTileColumns);
  }
  float* SumAt(int64_t segment, int64_t panel) const {
    return sum_.at((segment * panels_ + panel) * kTileColumns);
  }
  float* DrowsAt(int64_t segment, int64_t panel) const {
    return drows_.at((segment * panels_ + panel) * kTileColumns * args_.dim);
  }

  // x as [panels, dim, kTileColumns]; 0 behind the last row.
  void Pack() {
    for (int64_t row = 0; row < used_panels_ * kTileColumns; row++) {
      float* to = packed_.at(row / kTileColumns * kTileColumns * args_.dim + row % kTileColumns);
      const float* from = args_.x + (begin_ + row) * args_.dim;
      for (int64_t d = 0; d < args_.dim; d++) to[d * kTileColumns] = row < count_ ? from[d] : 0;
    }
  }

  void SortAddends() {
    for (auto& addends : addends_) addends.clear();
    for (int64_t row = 0; row < count_; row++)
      for (int64_t k = 0; k < args_.sparse; k++) {
        const int64_t entry = (begin_ + row) * args_.sparse + k, item = args_.item[entry];
        if (args_.value[entry] == 0 || !IsItem(item)) continue;
        const int64_t offset = item % kTileItems * kTileColumns + row % kTileColumns;
        addends_[item / kTileItems * panels_ + row / kTileColumns].push_back(
            {offset, args_.value[entry]});
      }
  }

  // First phase: exponentials of a segment's items, their sums, and their part of the rows' gradients.
  void SumExponentials(int64_t segment) {
    std::fill_n(SumAt(segment, 0), used_panels_ * kTileColumns, 0.0f);
    std::fill_n(DrowsAt(segment, 0), used_panels_ * kTileColumns * args_.dim, 0.0f);
    for (int64_t tile = TilesBegin(segment); tile < TilesEnd(segment); tile++)
      for (int64_t panel = 0; panel < used_panels_; panel++) {
        float* exps = ExpsAt(tile, panel);
        Multiply<false>(ItemsOf(tile), args_.dim, {TableAt(tile), args_.dim, 1, args_.dim, 0},
                        packed_.at(panel * kTileColumns * args_.dim), kTileColumns, exps,
                        kTileColumns);
        if (args_.sparse)
          for (const Addend& addend : addends_[tile * panels_ + panel])
            exps[addend.offset] += addend.value;
        Exponentiate(segment, tile, panel, exps);
        Multiply<true>(args_.dim, ItemsOf(tile), {TableAt(tile), 1, args_.dim, ItemsOf(tile), 0},
                       exps, kTileColumns, DrowsAt(segment, panel), kTileColumns);
      }
  }

  // Logits of a tile and panel to exponentials relative to the base, which is moved only where a
  // logit is far above it; what was summed before then follows.
  void Exponentiate(int64_t segment, int64_t tile, int64_t panel, float* exps) {
    const int64_t items = ItemsOf(tile);
    Vector greatest[kTileVectors], base[kTileVectors], sum[kTileVectors] = {};
    for (auto& vector : greatest) vector = Fill(kLowest);
    for (int64_t v = 0; v < items; v++)
      for (int j = 0; j < kTileVectors; j++)
        greatest[j] = Maximum(Load(exps + v * kTileColumns + j * kLanes), greatest[j]);
    Integers far{};
    for (int j = 0; j < kTileVectors; j++) {
      base[j] = tile == TilesBegin(segment) ? Fill(kLowest)
                                            : Load(BaseAt(tile - 1, panel) + j * kLanes);
      far |= greatest[j] - base[j] > kFar;
    }
    if (Any(far)) MoveBase(segment, panel, greatest, base);
    for (int64_t v = 0; v < items; v++)
      for (int j = 0; j < kTileVectors; j++) {
        float* at = exps + v * kTileColumns + j * kLanes;
        const Vector exp = Exp(Load(at) - base[j]);
        Store(at, exp);
        sum[j] += exp;
      }
    for (int j = 0; j < kTileVectors; j++) {
      float* total = SumAt(segment, panel) + j * kLanes;
      Store(total, Load(total) + sum[j]);
      Store(BaseAt(tile, panel) + j * kLanes, base[j]);
    }
  }

  void MoveBase(int64_t segment, int64_t panel, const Vector* greatest, Vector* base) {
    for (int j = 0; j < kTileVectors; j++) {
      const Vector raised = Maximum(greatest[j], base[j]), shrunk = Exp(base[j] - raised);
      float* total = SumAt(segment, panel) + j * kLanes;
      Store(total, Load(total) * shrunk);
      float* drows = DrowsAt(segment, panel) + j * kLanes;
      for (int64_t d = 0; d < args_.dim * kTileColumns; d += kTileColumns)
        Store(drows + d, Load(drows + d) * shrunk);
      base[j] = raised;
    }
  }

  // Between the phases: log-sum-exps of a panel's rows, and gradients by x and by the addends.
  void FinishRows(int64_t panel) {
    const int64_t first = panel * kTileColumns, end = std::min(first + kTileColumns, count_);
    for (int64_t row = first; row < end; row++) SumRow(row);
    Buffer scale(kTileColumns), drows(args_.dim * kTileColumns);
    for (int64_t segment = 0; segment < segments_; segment++) {
      for (int64_t row = first; row < end; row++)
        *scale.at(row - first) = Scale(row, TilesEnd(segment) - 1);
      const float* part = DrowsAt(segment, panel);
      for (int64_t d = 0; d < args_.dim * kTileColumns; d += kTileColumns)
        for (int j = 0; j < kTileColumns; j += kLanes)
          Store(drows.at(d + j), Load(drows.at(d + j)) + Load(scale.at(j)) * Load(part + d + j));
    }
    for (int64_t row = first; row < end; row++) {
      float* dx = args_.dx + (begin_ + row) * args_.dim;
      for (int64_t d = 0; d < args_.dim; d++) dx[d] = *drows.at(d * kTileColumns + row - first);
      for (int64_t entry = (begin_ + row) * args_.sparse, k = 0; k < args_.sparse; k++, entry++) {
        const int64_t item = args_.item[entry];
        if (!IsItem(item)) continue;
        const float exp =
            ExpsAt(item / kTileItems, panel)[item % kTileItems * kTileColumns + row - first];
        args_.dvalue[entry] = Scale(row, item / kTileItems) * exp;
      }
    }
  }

  // The sum of a row over all segments, and its log-sum-exp.
  void SumRow(int64_t row) {
    const int64_t panel = row / kTileColumns, column = row % kTileColumns;
    const bool pad_logit = args_.pad_logit[begin_ + row];
    const auto base_of = [&](int64_t segment) {
      return BaseAt(TilesEnd(segment) - 1, panel)[column];
    };
    float top = pad_logit ? 0 : kLowest;
    for (int64_t segment = 0; segment < segments_; segment++) top = std::max(top, base_of(segment));
    float total = pad_logit ? std::exp(-top) : 0;
    for (int64_t segment = 0; segment < segments_; segment++)
      total += SumAt(segment, panel)[column] * std::exp(base_of(segment) - top);
    *top_.at(row) = top;
    *total_.at(row) = total;
    args_.lse[begin_ + row] = std::log(total) + top;
  }

  // What makes of a tile's exponentials the gradient by a logit, w_n exp(base - lse_n), without the
  // rounding of a large log-sum-exp.
  float Scale(int64_t row, int64_t tile) const {
    const float base = BaseAt(tile, row / kTileColumns)[row % kTileColumns];
    return args_.weight[begin_ + row] * std::exp(base - *top_.at(row)) / *total_.at(row);
  }

  // Second phase: the gradient of a segment's part of the table.
  void AddTableGradient(int64_t segment) {
    const int64_t dim = args_.dim, rows = used_panels_ * kTileColumns;
    Buffer scaled(rows * dim);
    for (int64_t tile = TilesBegin(segment); tile < TilesEnd(segment); tile++) {
      ScaleRows(tile, tile == TilesBegin(segment), scaled);
      float* dtable = args_.dtable + tile * kTileItems * dim;
      const Strided exps{ExpsAt(tile, 0), kTileColumns, 1, kTileColumns, kTileItems * kTileColumns};
      for (int64_t d = 0; d < dim; d += kTileColumns)
        Multiply<true>(ItemsOf(tile), rows, exps, scaled.at(d * rows), kTileColumns, dtable + d,
                       dim);
    }
  }

  // Rows as the exponentials of a tile need them, [dim / kTileColumns, rows, kTileColumns], 0 behind
  // the last; those that the tile before needed alike stay.
  void ScaleRows(int64_t tile, bool first, Buffer& scaled) {
    const int64_t rows = used_panels_ * kTileColumns;
    for (int64_t row = 0; row < count_; row++) {
      const int64_t panel = row / kTileColumns, column = row % kTileColumns;
      if (!first && BaseAt(tile, panel)[column] == BaseAt(tile - 1, panel)[column]) continue;
      const float scale = Scale(row, tile);
      const float* x = args_.x + (begin_ + row) * args_.dim;
      for (int64_t d = 0; d < args_.dim; d += kTileColumns)
        for (int j = 0; j < kTileColumns; j++)
          *scaled.at(d * rows + row * kTileColumns + j) = scale * x[d + j];
    }
  }

  const LogSumExpArguments& args_;
  Pool& pool_;
  const int64_t panels_, tiles_, segment_tiles_, segments_;
  Buffer packed_;  // [panels, dim, kTileColumns]
  Buffer base_;    // [tiles, panels, kTileColumns] what the tile's exponentials are relative to
  Buffer top_;     // [panels, kTileColumns] greatest base of a row
  Buffer total_;   // [panels, kTileColumns] the whole sum relative to it
  Buffer sum_;     // [segments, panels, kTileColumns] sum of exponentials
  Buffer drows_;   // [segments, panels, dim, kTileColumns] sum of exponentials times E
  std::vector<std::vector<Addend>> addends_;  // [tiles, panels]
  int64_t begin_ = 0, count_ = 0, used_panels_ = 0;
};

// All chunks of the first `used` rows of each shard; 0 for the other rows.
inline void LinearLogSumExp(const LogSumExpArguments& args, int64_t shards, int64_t shard_rows,
                            int64_t used, Pool& pool) {
  const int64_t rows = shards * shard_rows;
  std::fill_n(args.lse, rows, 0.0f);
  std::fill_n(args.dx, rows * args.dim, 0.0f);
  std::fill_n(args.dtable, args.items * args.dim, 0.0f);
  std::fill_n(args.dvalue, rows * args.sparse, 0.0f);
  LogSumExpPass pass(args, pool);
  for (int64_t start = 0; start < rows; start += shard_rows)
    for (int64_t begin = start, end = start + used; begin < end; begin += args.chunk)
      pass.Process(begin, std::min(args.chunk, end - begin));
}

}  // namespace mqsa_jax

#endif  // MQSA_JAX_KERNELS_LINEAR_LOGSUMEXP_H_
