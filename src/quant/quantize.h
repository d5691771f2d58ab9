// A model's matrices in other types, chosen one by one, with the least error (encode.h): any source
// to one GGUF file, tensor by tensor in a few tens of MB, and what it cost.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "quant/convert.h"
#include "quant/encode.h"
#include "quant/imatrix.h"
#include "quant/matrices.h"
#include "quant/policy.h"

namespace lode::quant {

struct QuantizeOptions {
  TypePolicy policy;
  const Imatrix* imatrix = nullptr;
  std::string imatrix_name;  // for the file's metadata
  EncodeOptions encode;
  uint64_t shard_bytes_max = 0;
  bool force = false;
  int threads = 1;
  std::function<bool(const ConvertProgress&)> progress;  // as in convert.h
};

struct MatrixReport {
  std::string name;
  Group group = Group::kMlp;
  tensor::DType from = tensor::DType::kF32, to = tensor::DType::kF32;
  int64_t elements = 0;
  uint64_t bytes = 0;
  bool copied = false;              // byte for byte
  double error = 0;                 // relative: root of square error over square size
  std::optional<double> weighted;   // the same, weighted by importance
  std::vector<int64_t> unreached;   // experts that calibration never came to
};

struct QuantizeReport {
  std::vector<MatrixReport> matrices;  // in the order of the layers
  std::map<std::string, int64_t> types;  // of all tensors
  std::vector<std::string> paths, fallbacks, warnings;
  int64_t tensors = 0, parameters = 0;  // parameters: of the matrices
  uint64_t bytes = 0;                   // of the tensors written
  uint64_t source_bytes = 0;            // of the matrices as they were
  double matrix_bits = 0, bits = 0;     // per weight: of the matrices, of the whole file
  double seconds = 0;
};

// Errors: those of policies and formats; kBadInput when `out` exists (without force), does not end
// in .gguf, when a matrix holds NaN or infinity, or the source's files changed while they were
// read; kNoSpace for a full disk. Nothing is left behind then.
Result<QuantizeReport> Quantize(const tensor::TensorSource& in, const std::string& out,
                                const QuantizeOptions& options);

}  // namespace lode::quant
