// Files: whole reads, read-only maps, and writes that are whole or not there at all.
// Errors: every function returns the system's reason as one sentence that names the path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lode {

bool FileExists(const std::string& path);
bool IsFolder(const std::string& path);
Result<uint64_t> FileSize(const std::string& path);

// The bytes of a file of at most `bytes_max` bytes (a guard: configs are small, weights are mapped).
Result<std::string> ReadFile(const std::string& path, uint64_t bytes_max = uint64_t{256} << 20);

// The names (not paths) of what is in a folder, sorted.
Result<std::vector<std::string>> ListFolder(const std::string& path);

// A read-only map of a whole file; empty files map to an empty span.
// Life: the bytes live as long as the object. Threads: reading is free for all.
class MappedFile {
 public:
  static Result<std::unique_ptr<MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  MappedFile(std::string path, const std::byte* data, size_t size)
      : path_(std::move(path)), data_(data), size_(size) {}

  std::string path_;
  const std::byte* data_;
  size_t size_;
};

// Writes to a temporary beside `path` and renames it on Commit: readers see the old file or the new
// one, never half of one. Without Commit the temporary is removed.
class AtomicFile {
 public:
  static Result<AtomicFile> Create(const std::string& path);
  ~AtomicFile();
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;

  Result<void> Write(const void* data, size_t bytes);
  Result<void> Write(std::string_view text) { return Write(text.data(), text.size()); }
  uint64_t offset() const { return offset_; }
  // fsync, rename, fsync of the folder.
  Result<void> Commit();

 private:
  AtomicFile() = default;
  Result<void> Flush();
  void Abandon();

  std::string path_;
  std::string temporary_;
  std::string buffer_;
  int descriptor_ = -1;
  uint64_t offset_ = 0;
};

Result<void> WriteFileAtomic(const std::string& path, std::string_view content);

// mkdir -p.
Result<void> MakeFolders(const std::string& path);

// "No space left on device" and its like, as an Error that names the path and what was tried.
Error SystemError(const std::string& what, const std::string& path, int error_number);

}  // namespace lode
