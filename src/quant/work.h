// Shared by the two directions: progress, cancelling, and rows that are turned by all threads but
// written in order, a few MB at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/text.h"
#include "base/thread_pool.h"
#include "formats/gguf.h"
#include "formats/hf_checkpoint.h"
#include "quant/codec.h"
#include "quant/convert.h"
#include "quant/plan.h"

namespace lode::quant {

// Takes the bytes of the output's tensors, in order.
using Sink = std::function<Result<void>(std::span<const std::byte>)>;

class Work {
 public:
  explicit Work(const ConvertOptions& options)
      : options_(options), pool_(std::max(1, options.threads)) {}

  ThreadPool& pool() { return pool_; }

  void Expect(int64_t tensors, uint64_t bytes) {
    progress_.tensors_all = tensors;
    progress_.bytes_all = bytes;
  }
  Result<void> Advance(uint64_t bytes) {
    progress_.bytes += bytes;
    return Tell();
  }
  Result<void> TensorDone() {
    ++progress_.tensors;
    return Tell();
  }

  // Bytes as they are.
  Result<void> Copy(std::span<const std::byte> bytes, const Sink& sink) {
    while (!bytes.empty()) {
      const auto piece = bytes.first(std::min(bytes.size(), kPieceBytes));
      LODE_TRY(sink(piece));
      LODE_TRY(Advance(piece.size()));
      bytes = bytes.subspan(piece.size());
    }
    return {};
  }

  // Rows in order. turn(row, count, scratch, out) makes rows [row, row + count); `scratch` is
  // count * cols floats of its own, `out` the rows' place.
  Result<void> Rows(int64_t rows, int64_t cols, int64_t row_bytes,
                    const std::function<Result<void>(int64_t row, int64_t count, float* scratch,
                                                     std::byte* out)>& turn,
                    const Sink& sink) {
    const int64_t batch = std::clamp<int64_t>(kBatchElements / std::max<int64_t>(1, cols), 1,
                                              std::max<int64_t>(1, rows));
    scratch_.resize(static_cast<size_t>(batch * cols));
    out_.resize(static_cast<size_t>(batch * row_bytes));
    for (int64_t at = 0; at < rows; at += batch) {
      const int64_t count = std::min(batch, rows - at);
      std::vector<Result<void>> results(static_cast<size_t>(pool_.threads()));
      pool_.ParallelFor(count, 16, [&](int64_t begin, int64_t end, int thread) {
        Result<void> result = turn(at + begin, end - begin, scratch_.data() + begin * cols,
                                   out_.data() + begin * row_bytes);
        if (!result.ok()) results[static_cast<size_t>(thread)] = std::move(result);
      });
      for (Result<void>& result : results) LODE_TRY(std::move(result));
      const auto bytes = static_cast<size_t>(count * row_bytes);
      LODE_TRY(sink({out_.data(), bytes}));
      LODE_TRY(Advance(bytes));
    }
    return {};
  }

 private:
  static constexpr size_t kPieceBytes = size_t{8} << 20;
  static constexpr int64_t kBatchElements = int64_t{2} << 20;  // 8 MB of floats, as much of output

  Result<void> Tell() {
    if (options_.progress && !options_.progress(progress_)) {
      return Error(Code::kCancelled, "interrupted");
    }
    return {};
  }

  const ConvertOptions& options_;
  ThreadPool pool_;
  ConvertProgress progress_;
  std::vector<float> scratch_;
  std::vector<std::byte> out_;
};

// Bytes of a row of `cols` numbers.
inline int64_t RowBytes(tensor::DType dtype, int64_t cols) {
  const tensor::DTypeInfo& info = tensor::Info(dtype);
  return cols / info.block_elements * info.block_bytes;
}

inline bool IsFloatType(tensor::DType dtype) {
  return dtype == tensor::DType::kF32 || dtype == tensor::DType::kF16 ||
         dtype == tensor::DType::kBF16;
}

// Keys of a GGUF that say how this very file is cut, not what the model is; and those of the record
// of a Hugging Face checkpoint, which no longer hold when weights have changed.
bool IsOfTheFile(std::string_view key);
bool IsOfTheRecord(std::string_view key);
// Sentences about what other programs do not run.
std::vector<std::string> WarnOfOthers(const model::ModelSpec& spec);

// A part of a checkpoint that is at hand.
PartData DataOf(const tensor::TensorSource& source, const SlotPlan& plan, const Part& part);

Result<void> HuggingFaceToGguf(const formats::HfCheckpoint& in, const std::string& out,
                               const ConvertOptions& options, ConvertReport* report);
Result<void> GgufToGguf(const formats::GgufFile& in, const std::string& out,
                        const ConvertOptions& options, ConvertReport* report);
// Into the folder `out`, which is there and empty.
Result<void> GgufToHuggingFace(const formats::GgufFile& in, const std::string& out,
                               const ConvertOptions& options, ConvertReport* report);
Result<void> HuggingFaceToHuggingFace(const formats::HfCheckpoint& in, const std::string& out,
                                      const ConvertOptions& options, ConvertReport* report);

}  // namespace lode::quant
