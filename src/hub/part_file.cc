#include "hub/part_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "hub/hash.h"

namespace lode::hub {
namespace {

// How much may be lost to a crash; each Remember costs a small file and an fsync.
constexpr uint64_t kRememberBytes = uint64_t{64} << 20;

}  // namespace

Result<std::unique_ptr<PartFile>> PartFile::Open(const PartSpec& spec) {
  std::unique_ptr<PartFile> part(new PartFile(spec));
  part->part_path_ = spec.path + ".part";
  part->memory_path_ = spec.path + ".part.json";
  part->Cut(/*whole=*/false);
  part->descriptor_ =
      ::open(part->part_path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (part->descriptor_ < 0) return SystemError("cannot write", part->part_path_, errno);
  if (!part->Recall()) LODE_TRY(part->Restart(/*whole=*/false));
  return part;
}

PartFile::~PartFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

uint64_t PartFile::done_bytes() const {
  uint64_t bytes = 0;
  for (const auto& segment : segments_) bytes += segment->done;
  return bytes;
}

Result<void> PartFile::Write(Segment* segment, std::string_view bytes) {
  if (bytes.size() > segment->end - segment->begin - segment->done) {
    return Error(Code::kNetwork, "the hub sends more bytes than were asked for");
  }
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(descriptor_, bytes.data(), bytes.size(),
                                     static_cast<off_t>(segment->begin + segment->done));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return SystemError("cannot write", part_path_, errno);
    segment->done += static_cast<uint64_t>(written);
    unremembered_ += static_cast<uint64_t>(written);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  if (unremembered_ > kRememberBytes) return Remember();
  return {};
}

Result<void> PartFile::Restart(bool whole) {
  Cut(whole);
  if (::ftruncate(descriptor_, 0) != 0) return SystemError("cannot write", part_path_, errno);
  return Remember();
}

Result<void> PartFile::Remember() {
  const std::lock_guard lock(memory_mutex_);
  unremembered_ = 0;
  Json memory = {{"size", spec_.size}, {"hash", spec_.hash}, {"segments", Json::array()}};
  for (const auto& segment : segments_) {
    memory["segments"].push_back({segment->begin, segment->end, segment->done.load()});
  }
  return WriteFileAtomic(memory_path_, DumpJson(memory) + "\n");
}

Result<void> PartFile::Finish(const std::function<bool()>& stop) {
  struct stat info;
  if (::fstat(descriptor_, &info) != 0) return SystemError("cannot read", part_path_, errno);
  if (static_cast<uint64_t>(info.st_size) != spec_.size) {
    return Error(Code::kNetwork, Quote(part_path_, 300) + " has the wrong size");
  }
  if (!spec_.hash.empty()) {
    const HashKind kind = IsHex(spec_.hash, 64) ? HashKind::kSha256 : HashKind::kGitBlob;
    LODE_ASSIGN(const std::string hash, HashFile(part_path_, kind, stop));
    if (hash != spec_.hash) {
      return Error(Code::kNetwork,
                   "the bytes received are not the ones the hub promises (hash " +
                       hash.substr(0, 12) + "... instead of " + spec_.hash.substr(0, 12) + "...)",
                   "try again; if it stays so the hub's file, or something on the way, is damaged");
    }
  }
  if (::fsync(descriptor_) != 0) return SystemError("cannot write", part_path_, errno);
  if (std::rename(part_path_.c_str(), spec_.path.c_str()) != 0) {
    return SystemError("cannot rename", part_path_, errno);
  }
  ::unlink(memory_path_.c_str());
  return {};
}

void PartFile::Cut(bool whole) {
  segments_.clear();
  const uint64_t step = whole ? std::max<uint64_t>(spec_.size, 1) : spec_.segment_bytes;
  for (uint64_t begin = 0; begin < spec_.size; begin += step) {
    auto segment = std::make_unique<Segment>();
    segment->begin = begin;
    segment->end = std::min(spec_.size, begin + step);
    segments_.push_back(std::move(segment));
  }
}

// Takes over what an earlier pull has written, if its memory fits this file.
bool PartFile::Recall() {
  struct stat info;
  if (::fstat(descriptor_, &info) != 0) return false;
  const Result<Json> memory = ReadJsonFile(memory_path_);
  if (!memory.ok() || GetString(*memory, "hash", "?") != spec_.hash ||
      static_cast<uint64_t>(GetInt(*memory, "size", -1)) != spec_.size) {
    return false;
  }
  const Json* list = FindKey(*memory, "segments");
  if (list == nullptr || !list->is_array()) return false;
  std::vector<std::unique_ptr<Segment>> segments;
  uint64_t covered = 0;
  for (const Json& entry : *list) {
    if (!entry.is_array() || entry.size() != 3) return false;
    for (const Json& number : entry) {
      if (!number.is_number_unsigned()) return false;
    }
    auto segment = std::make_unique<Segment>();
    segment->begin = entry[0].get<uint64_t>();
    segment->end = entry[1].get<uint64_t>();
    const uint64_t done = entry[2].get<uint64_t>();
    // Every segment begins where the last one ended, and the bytes it claims are in the file.
    if (segment->begin != covered || segment->end <= segment->begin || segment->end > spec_.size ||
        done > segment->end - segment->begin) {
      return false;
    }
    if (done > 0 && segment->begin + done > static_cast<uint64_t>(info.st_size)) return false;
    covered = segment->end;
    segment->done = done;
    segments.push_back(std::move(segment));
  }
  if (covered != spec_.size) return false;
  segments_ = std::move(segments);
  return true;
}

}  // namespace lode::hub
