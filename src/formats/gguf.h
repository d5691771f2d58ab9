// GGUF files, versions 2 and 3, little-endian, whole or split into shards: reading. Writing is in
// gguf_writer.h. The file is mapped, never copied; strings and arrays of the metadata are views into
// the map, so a file with a large vocabulary opens in milliseconds.
//
// Surprising policy: the whole header is checked when the file is opened (lengths, duplicates,
// alignment, bounds, overlaps, types), so that nobody later has to doubt an offset. Contents of
// tensors are not looked at.
//
// A packed file (`lode pack`) is a GGUF whose matrices are bytes (type I8) in the layout of
// kernels/panel.h; lists in its metadata give their types and shapes, which tensors() then shows with
// `packed` set. Other programs find a matrix of the wrong shape, never wrong numbers.
//
// A mapped file that somebody truncates while it is in use ends the process with SIGBUS: sizes are
// compared once, at open. Replace model files by renaming, not by writing over them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "tensor/source.h"

namespace lode::formats {

// Metadata of packed files: arrays of strings, of the same length.
inline constexpr std::string_view kPackedNames = "lode.packed.names";
inline constexpr std::string_view kPackedTypes = "lode.packed.types";
inline constexpr std::string_view kPackedShapes = "lode.packed.shapes";  // "rows,columns"

enum class GgufType : uint32_t {
  kU8 = 0, kI8 = 1, kU16 = 2, kI16 = 3, kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7,
  kString = 8, kArray = 9, kU64 = 10, kI64 = 11, kF64 = 12,
};

const char* Name(GgufType type);
// Bytes of one value; 0 for strings and arrays.
int FixedBytes(GgufType type);

// One key of the metadata. A view: it lives as long as its file.
struct GgufEntry {
  std::string_view key;
  GgufType type = GgufType::kU8;     // kArray for arrays
  GgufType element = GgufType::kU8;  // of an array
  uint64_t count = 1;                // elements of an array
  std::span<const std::byte> bytes;  // the value: a string without its length, an array's elements
                                     // as stored (strings with their lengths)
};

// Life: owns its maps; views, entries and strings live as long as it. Threads: const, so any.
class GgufFile final : public tensor::TensorSource {
 public:
  // `path` is a whole file, or the first shard of a split one (its siblings are found beside it).
  static Result<std::unique_ptr<GgufFile>> Open(const std::string& path);
  // `bytes` must outlive the object. `name` stands for the path in messages. A shard is refused.
  static Result<std::unique_ptr<GgufFile>> FromMemory(std::span<const std::byte> bytes,
                                                      const std::string& name);

  tensor::Naming naming() const override { return tensor::Naming::kGguf; }
  const std::string& path() const override { return path_; }
  const Json& config() const override { return config_; }
  const std::vector<tensor::TensorInfo>& tensors() const override { return tensors_; }
  const tensor::TensorInfo* Find(std::string_view name) const override;
  tensor::TensorView View(const tensor::TensorInfo& info) const override;
  bool mapped() const override { return !maps_.empty(); }

  // All metadata of the (first) file, in its order.
  const std::vector<GgufEntry>& entries() const { return entries_; }
  const GgufEntry* FindEntry(std::string_view key) const;
  bool Has(std::string_view key) const { return FindEntry(key) != nullptr; }

  // Typed reads. Errors: kNotFound when the key is absent, kBadInput when it is of another kind or
  // does not fit; both name the file and the key. GetInt and GetInts take any integer type (and
  // bool), GetFloat and GetFloats any float or integer type: writers differ. Strings are bytes as
  // stored, not necessarily UTF-8.
  Result<std::string_view> GetString(std::string_view key) const;
  Result<int64_t> GetInt(std::string_view key) const;
  Result<double> GetFloat(std::string_view key) const;
  Result<bool> GetBool(std::string_view key) const;
  Result<std::vector<std::string_view>> GetStrings(std::string_view key) const;
  Result<std::vector<int64_t>> GetInts(std::string_view key) const;
  Result<std::vector<float>> GetFloats(std::string_view key) const;

  int version() const { return version_; }
  uint64_t alignment() const { return alignment_; }
  int shards() const { return static_cast<int>(files_.size()); }

 private:
  struct Shard;
  GgufFile() = default;
  Result<void> AddShard(Shard shard, bool first);
  Result<void> CheckVocabulary() const;
  Result<void> MarkPacked();
  // What is checked and built when all shards are there.
  Result<void> Complete();
  Result<const GgufEntry*> Need(std::string_view key) const;
  void BuildConfig();

  std::string path_;
  std::vector<std::unique_ptr<MappedFile>> maps_;  // empty when opened from memory
  std::vector<std::span<const std::byte>> files_;
  std::vector<GgufEntry> entries_;
  std::unordered_map<std::string_view, size_t> entry_index_;
  std::vector<tensor::TensorInfo> tensors_;
  std::vector<int> tensor_file_;                                // which of files_
  std::unordered_map<std::string_view, size_t> tensor_index_;  // keys: names in the maps
  Json config_;
  int version_ = 0;
  uint64_t alignment_ = 32;
};

}  // namespace lode::formats
