// Named tensors, whoever holds them: a GGUF file, a Hugging Face folder, a model in memory.
// Formats implement TensorSource; the model binds its weights from it and never sees a file layout.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "tensor/dtype.h"

namespace lode::tensor {

// Outermost dimension first, as PyTorch writes it: a matrix of `out` rows and `in` columns is
// {out, in}. (GGUF stores the reverse; its reader turns it round.)
using Shape = std::vector<int64_t>;

std::string ToString(const Shape& shape);  // "[1024, 256]"
// The product of the dimensions, 1 for a scalar; false on overflow or a negative dimension.
bool CountElements(const Shape& shape, int64_t* count);
// Bytes of a tensor; false on overflow or when the innermost dimension is not whole blocks.
bool CountBytes(DType dtype, const Shape& shape, uint64_t* bytes);

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  uint64_t bytes = 0;
  std::string file;          // which file holds it, for messages and `inspect`
  uint64_t file_offset = 0;  // where in that file its first byte is
  // The bytes are a matrix as kernels want it, not blocks in rows (kernels/panel.h): for running only.
  bool packed = false;
};

// Bytes of a tensor that somebody else owns. May be unaligned for its type.
struct TensorView {
  DType dtype = DType::kF32;
  Shape shape;
  std::span<const std::byte> bytes;
};

// Which naming scheme and config keys the source speaks.
enum class Naming { kGguf, kHuggingFace };

// Life: views live as long as the source. Threads: const methods may be called from any thread.
class TensorSource {
 public:
  virtual ~TensorSource() = default;

  virtual Naming naming() const = 0;
  // What the user called it, for messages.
  virtual const std::string& path() const = 0;
  // Hugging Face: the content of config.json. GGUF: its metadata as one flat object, without arrays of
  // more than kConfigArrayMax elements (the vocabulary).
  virtual const Json& config() const = 0;
  // In the order of the file(s).
  virtual const std::vector<TensorInfo>& tensors() const = 0;
  virtual const TensorInfo* Find(std::string_view name) const = 0;
  // When the source does hold `name` but cannot give it: the reason, as the end of a sentence ("has
  // the dtype F6_E2M3, which Lode does not read"). Otherwise empty.
  virtual std::string WhyAbsent(std::string_view name) const { return ""; }
  // The tensor's bytes (mapped, not copied). `info` must be one of tensors().
  virtual TensorView View(const TensorInfo& info) const = 0;

  // Whether views lie in mapped files: then their pages may be given back to the system, for they come
  // again when read.
  virtual bool mapped() const { return false; }

  static constexpr size_t kConfigArrayMax = 4096;
};

}  // namespace lode::tensor
