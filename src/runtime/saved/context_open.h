// How a saved context is opened: its bytes (mapped, in memory or read piece by piece), and the walk
// from the superblock to records that can be asked for. For context_file.cc and context_store.cc
// only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/saved/context_disk.h"
#include "runtime/saved/context_file.h"
#include "runtime/saved/context_format.h"

namespace lode::runtime {

// Life: takes over the descriptor. Threads: all const calls at once.
class ContextSource {
 public:
  // `disk`: nullptr for the system's calls. Errors: kBadInput for anything but a plain file.
  static Result<std::unique_ptr<ContextSource>> FromDescriptor(Disk* disk, int descriptor,
                                                               const std::string& path, bool map);
  static std::unique_ptr<ContextSource> FromMemory(std::span<const std::byte> bytes);
  ~ContextSource();
  ContextSource(const ContextSource&) = delete;
  ContextSource& operator=(const ContextSource&) = delete;

  uint64_t size() const { return size_; }
  int descriptor() const { return descriptor_; }
  bool mapped() const { return data_ != nullptr; }
  // The bytes where they lie, or read into `buffer`. The range is within size().
  Result<std::span<const std::byte>> Fetch(uint64_t offset, uint64_t bytes,
                                           std::vector<std::byte>* buffer) const;
  Result<void> Copy(uint64_t offset, std::span<std::byte> target) const;
  // Brings a mapped range into memory. An error when the file has been shortened below it.
  Result<void> Populate(uint64_t offset, uint64_t bytes) const;

 private:
  ContextSource() = default;

  std::unique_ptr<Disk> own_disk_;
  Disk* disk_ = nullptr;
  std::string path_;
  int descriptor_ = -1;
  const std::byte* data_ = nullptr;
  bool owns_map_ = false;
  uint64_t size_ = 0;
};

class ContextOpener {
 public:
  // The parent of a delta, by the child's superblock.
  using FindParent = std::function<Result<std::unique_ptr<ContextFile>>(const ContextSuperblock&)>;

  static Result<std::unique_ptr<ContextFile>> Open(std::unique_ptr<ContextSource> source,
                                                   const std::string& name,
                                                   const ContextOpenOptions& options,
                                                   const FindParent& find_parent,
                                                   uint32_t depth_max = kDepthMax);
  // The sentence for a file that is absent, or another tenant's.
  static Error NotFound(const std::string& name);
  static const ContextSuperblock& Superblock(const ContextFile& file) { return *file.superblock_; }
  static const ContextSource& Source(const ContextFile& file) { return *file.source_; }

 private:
  ContextOpener(ContextFile* file, const ContextOpenOptions& options)
      : file_(file), options_(options) {}

  Result<void> ReadHead();
  Result<void> CheckAccess();
  // The headers: from the footer, else by walking from record to record.
  Result<void> ReadFooter();
  bool FooterIsSound(const ContextTail& tail, std::span<const std::byte> tail_bytes);
  Result<void> Walk();
  void TakeRecords(bool from_footer);
  Result<void> ReadContent();
  Result<void> ReadTokens();
  Result<std::vector<std::byte>> Content(RecordType type) const;
  void ReadAbout();
  void ReadMeta();
  void AdoptParent(const FindParent& find_parent);

  ContextFile* file_;
  const ContextOpenOptions& options_;
};

}  // namespace lode::runtime
