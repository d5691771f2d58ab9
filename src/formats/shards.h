// How the tensors of a model are laid out over several files; both writers cut alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lode::formats {

// Where each file's tensors begin, and the end behind the last: a file ends before the tensor that
// would take it over `shard_bytes_max` (0: one file). No tensor is divided, so a large one may exceed
// it. Tensor has a member `bytes`.
template <class Tensor>
std::vector<size_t> ShardBegins(const std::vector<Tensor>& tensors, uint64_t shard_bytes_max) {
  std::vector<size_t> begins = {0};
  uint64_t bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (shard_bytes_max > 0 && bytes > 0 && bytes + tensors[i].bytes > shard_bytes_max) {
      begins.push_back(i);
      bytes = 0;
    }
    bytes += tensors[i].bytes;
  }
  begins.push_back(tensors.size());
  return begins;
}

}  // namespace lode::formats
