// Which type each matrix gets: by the mix that TYPE names, by groups of matrices, by names of
// tensors; and what is taken instead where a type cannot hold a matrix.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "quant/matrices.h"
#include "tensor/dtype.h"

namespace lode::quant {

// What a matrix is for. kExperts are the routed ones; kShared the shared expert.
enum class Group : uint8_t {
  kEmbedding, kHead, kMamba, kAttention, kMlp, kRouter, kExperts, kShared, kLatent, kMtp,
};
const char* Name(Group group);
Group GroupOf(const Matrix& matrix);

struct TypePolicy {
  std::string type;  // as TypeChoices() lists them, upper or lower case
  bool pure = false; // every matrix in the mix's type, none in a finer one
  std::map<Group, tensor::DType> groups;
  // A tensor's name in GGUF, '*' standing for anything; the last one that matches counts, and
  // before groups.
  std::vector<std::pair<std::string, tensor::DType>> tensors;
};

// {"type": "q4_k_m", "pure": false, "head": "q4_0", "experts": "q4_0", "tensors": {"blk.3.*":
// "q8_0"}} Errors: kBadInput for what it does not know, with what there is.
Result<void> ReadPolicy(std::string_view json, TypePolicy* policy);

// Whether a name is what a pattern says, '*' standing for anything. Steps: at most the product of
// their lengths, however many stars there are.
bool MatchesPattern(std::string_view pattern, std::string_view name);

// What TYPE may be, with a few words each.
std::vector<std::pair<std::string, std::string>> TypeChoices();

struct Choice {
  tensor::DType type = tensor::DType::kF32;
  // Not empty: what was wanted cannot be had, why, and what is taken: a sentence.
  std::string fallback;
};

struct Choices {
  std::vector<Choice> of;      // of each matrix
  uint32_t file_type = 0;      // general.file_type of GGUF
  tensor::DType main = tensor::DType::kF32;
};

// `calibrated`: there are importances, which changes a mix here and there as it does in llama.cpp.
// Errors: kBadInput for an unknown type, a group or name that no matrix has (with near names), a
// type that GGUF does not have.
Result<Choices> ChooseTypes(const Matrices& matrices, const TypePolicy& policy, bool calibrated);

}  // namespace lode::quant
