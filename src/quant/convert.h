// Converts a model between Hugging Face folders and GGUF files, and its matrices to other types.
//
// Without a type nothing is rounded. A GGUF made from a Hugging Face folder remembers under "lode.*"
// what it cannot say itself (the headers of the weight files, A_log, scales without a place in GGUF,
// the JSON files), so that converting it back gives the same bytes. GGUF has no FP8: an FP8 weight
// becomes BF16, which holds each of its values exactly, beside its scale; that is 2 bytes a weight.
//
// Surprising policy: when the weights of such a GGUF were changed since, the way back is the ordinary
// one, and the report says so.
//
// Memory: a few tens of MB whatever the model's size, beside its small files. The output appears
// under its name at the end or not at all.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "tensor/dtype.h"
#include "tensor/source.h"

namespace lode::quant {

struct ConvertProgress {
  int64_t tensors = 0, tensors_all = 0;
  uint64_t bytes = 0, bytes_all = 0;  // of the output
};

struct ConvertOptions {
  // For the matrices; norms, the vectors of the SSM, the convolution and the router keep their
  // precision. Empty: every tensor keeps its own.
  std::optional<tensor::DType> type;
  // Largest weight file; 0: 5 GB for a Hugging Face folder, one file for GGUF. A single tensor may be
  // larger. Ignored where the record gives the original files.
  uint64_t shard_bytes_max = 0;
  bool force = false;  // replace what is there
  int threads = 1;
  // Called between pieces of work, from the caller's thread; false cancels (kCancelled).
  std::function<bool(const ConvertProgress&)> progress;
};

struct ConvertReport {
  int64_t tensors = 0;
  uint64_t bytes = 0;                         // of the tensors written
  std::map<std::string, int64_t> types;       // type -> tensors
  std::vector<std::string> paths;             // weight files
  bool exact = false;                         // the source can be had back (or was given back) bit for bit
  std::vector<std::string> fallbacks;         // tensors whose rows are no whole blocks, and their type
  std::vector<std::string> warnings;          // a sentence each
};

// `out` ending in ".gguf" is a GGUF file, anything else a Hugging Face folder.
// Errors: kBadInput when `out` exists (without force) or the type cannot be written; kUnsupported and
// kBadInput for a model that Lode does not know or that is damaged; kNoSpace for a full disk.
Result<ConvertReport> Convert(const tensor::TensorSource& in, const std::string& out,
                              const ConvertOptions& options);

// The types that `lode convert --type` takes, in the order of the table.
std::vector<std::string> TypeNames();

}  // namespace lode::quant
