// Importance matrices: for each matrix of a model the sums of squares of what its columns are
// multiplied with, per expert, and how many rows were counted. Collected by Calibration, read from
// llama.cpp's files (the GGUF form and the older .dat) and written in the GGUF form.
//
// Surprising policy: the older form keeps means times a number of calls, and says nothing of
// experts one by one; an expert whose columns are all zero counts as never reached.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "model/forward.h"
#include "quant/matrices.h"

namespace lode::quant {

struct ImatrixEntry {
  std::vector<float> sums;     // [matrices * columns]
  std::vector<double> counts;  // [matrices], or one for all
};

struct Imatrix {
  std::map<std::string, ImatrixEntry> entries;  // by the tensor's name in GGUF
  std::vector<std::string> datasets;
  uint32_t chunks = 0, chunk_tokens = 0;
};

// Either form. Errors: kBadInput for a damaged file, numbers that are none or negative.
Result<Imatrix> ReadImatrix(const std::string& path);
Result<Imatrix> ParseImatrix(std::span<const std::byte> bytes, const std::string& name);
// The GGUF form. Errors: what the system says.
Result<void> WriteImatrix(const Imatrix& imatrix, const std::string& path);

// The importance of the columns of every matrix, ready for EncodeRows.
struct MatrixImportance {
  std::vector<std::vector<float>> experts;  // [experts][cols]; empty: nothing is known
  std::vector<int64_t> unreached;           // experts that calibration never came to
};
// An expert that was reached seldom leans on the mean of its stack, one never reached takes it.
// Errors: kBadInput when an entry does not fit its matrix, or none is of this model.
Result<std::vector<MatrixImportance>> ImportanceFor(const Imatrix& imatrix,
                                                    const Matrices& matrices);

// Watches a model run and counts. Life: `matrices` is of the source that the running model is bound
// to.
class Calibration final : public model::InputObserver {
 public:
  explicit Calibration(const Matrices& matrices);
  void Inputs(const model::Weight& weight, const float* x, int64_t x_stride,
              int64_t rows) override;
  Imatrix Collected(const std::string& dataset, uint32_t chunks, uint32_t chunk_tokens) const;

 private:
  struct Place {
    size_t matrix;
    int64_t expert;
  };
  const Matrices& matrices_;
  std::unordered_map<const std::byte*, Place> places_;
  std::vector<std::vector<double>> sums_;    // [experts * cols]
  std::vector<std::vector<double>> counts_;  // [experts]
};

}  // namespace lode::quant
