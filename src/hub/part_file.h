// One file while it is being downloaded: NAME.part, written in segments that may arrive in any
// order, and NAME.part.json, which remembers how much of each segment has been written. After a
// crash or a Ctrl-C the next pull goes on from there; when all bytes are there the hash decides.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lode::hub {

struct PartSpec {
  std::string path;  // of the finished file; its folder exists
  uint64_t size = 0;
  std::string hash;        // hex SHA-256 or git blob hash; empty: only the size is checked
  uint64_t segment_bytes;  // larger files are cut into pieces of this size
};

// Threads: different segments may be written by different threads at once; Restart and Finish only
// while nobody writes.
class PartFile {
 public:
  struct Segment {
    uint64_t begin = 0;
    uint64_t end = 0;
    std::atomic<uint64_t> done = 0;  // bytes from begin

    bool complete() const { return begin + done == end; }
  };

  // Opens or creates the part; one that was begun for another size or hash is begun anew.
  static Result<std::unique_ptr<PartFile>> Open(const PartSpec& spec);
  ~PartFile();
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  const PartSpec& spec() const { return spec_; }
  std::vector<std::unique_ptr<Segment>>& segments() { return segments_; }
  uint64_t done_bytes() const;
  bool complete() const { return done_bytes() == spec_.size; }

  // Appends to what the segment has. Errors: of the disk; kNetwork for more bytes than belong
  // there.
  Result<void> Write(Segment* segment, std::string_view bytes);
  // Forgets every byte; one segment covers the file if `whole`.
  Result<void> Restart(bool whole);
  // Writes the memory file; a loss of it only costs time.
  Result<void> Remember();

  // Checks the hash, then makes the part the file itself. On a wrong hash (kNetwork) the part
  // stays.
  Result<void> Finish(const std::function<bool()>& stop);

 private:
  explicit PartFile(PartSpec spec) : spec_(std::move(spec)) {}
  void Cut(bool whole);
  bool Recall();

  PartSpec spec_;
  std::string part_path_;
  std::string memory_path_;
  int descriptor_ = -1;
  std::vector<std::unique_ptr<Segment>> segments_;
  std::atomic<uint64_t> unremembered_ = 0;  // bytes written since the last Remember
  std::mutex memory_mutex_;                 // one writer of the memory file
};

}  // namespace lode::hub
