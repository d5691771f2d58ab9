// The start of the disk tier: what an earlier run left is taken up, as far as it is whole.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <set>

#include "base/check.h"
#include "base/file.h"
#include "base/text.h"
#include "runtime/tier/disk_tier.h"

namespace lode::runtime {
namespace {

double SystemSeconds() {
  using Seconds = std::chrono::duration<double>;
  return Seconds(std::chrono::system_clock::now().time_since_epoch()).count();
}

// "0123456789abcdef" + ending -> the handle; 0: it is none of ours.
uint64_t HandleOf(const std::string& name, const char* ending) {
  if (name.size() != 16 + std::strlen(ending) || name.substr(16) != ending) return 0;
  if (name.find_first_not_of("0123456789abcdef") < 16) return 0;
  return std::strtoull(name.substr(0, 16).c_str(), nullptr, 16);
}

bool ReadAll(Disk* disk, int descriptor, std::span<std::byte> target) {
  for (size_t done = 0; done < target.size();) {
    const ssize_t count = disk->Read(descriptor, target.data() + done, target.size() - done,
                                     static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += static_cast<size_t>(count);
  }
  return true;
}

class Descriptor {
 public:
  explicit Descriptor(int descriptor) : value(descriptor) {}
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  const int value;
};

}  // namespace

size_t DiskTier::HashDigest::operator()(const ContextDigest& digest) const {
  size_t hash;
  std::memcpy(&hash, digest.data(), sizeof(hash));
  return hash;
}

DiskTier::DiskTier(FramePool* frames, const DiskTierOptions& options)
    : frames_(*frames),
      options_(options),
      disk_(options.disk != nullptr ? *options.disk : own_disk_) {
  if (!options_.seconds) options_.seconds = SystemSeconds;
}

Result<std::unique_ptr<DiskTier>> DiskTier::Make(FramePool* frames,
                                                 const DiskTierOptions& options) {
  LODE_CHECK(frames->pages().frames_max() == 0 || frames->pages().data(0) != nullptr);
  std::unique_ptr<DiskTier> tier(new DiskTier(frames, options));
  LODE_TRY(tier->Open());
  return tier;
}

Result<void> DiskTier::Open() {
  LODE_TRY(MakeFolders(options_.folder));
  folder_ = ::open(options_.folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder_ < 0) {
    return Error(Code::kBadInput, options_.folder + ": " + std::strerror(errno));
  }
  lock_ = disk_.Open(folder_, ".lock", O_RDWR | O_CREAT, 0600);
  if (lock_ < 0 || disk_.Lock(lock_, LOCK_EX | LOCK_NB) != 0) {
    return Error(Code::kBadInput, options_.folder + ": another process keeps evicted states there",
                 "give each its own folder");
  }
  const std::array<uint64_t, 2> sizes = {frames_.pages().frame_bytes(),
                                         frames_.slots().frame_bytes()};
  std::array<std::byte, 2 * sizeof(ContextDigest) + sizeof(sizes)> seed;
  std::byte* at = std::copy(options_.model.begin(), options_.model.end(), seed.data());
  at = std::copy(options_.numerics.begin(), options_.numerics.end(), at);
  std::memcpy(at, sizes.data(), sizeof(sizes));
  maker_ = Sha256(seed);
  void* const buffer = ::mmap(nullptr, options_.buffer_bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (buffer == MAP_FAILED) {
    return Error(Code::kNoSpace, "there is no memory for the buffer of evicted states: " +
                                     HumanBytesBinary(options_.buffer_bytes));
  }
  buffer_ = static_cast<std::byte*>(buffer);
  worker_ = std::make_unique<DiskWorker>(folder_, &disk_);
  return Load();
}

Result<void> DiskTier::Load() {
  LODE_ASSIGN(const std::vector<std::string> names, ListFolder(options_.folder));
  std::vector<DiskHead> heads;
  std::map<uint64_t, uint64_t> sizes;  // of files of pages
  for (const std::string& name : names) {
    if (const uint64_t handle = HandleOf(name, ".pages"); handle != 0) {
      struct stat info {};
      if (::fstatat(folder_, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
      sizes[handle] = S_ISREG(info.st_mode) ? static_cast<uint64_t>(info.st_size) : 0;
      next_handle_ = std::max(next_handle_, handle + 1);
    }
    const uint64_t handle = HandleOf(name, ".state");
    if (handle == 0) continue;
    next_handle_ = std::max(next_handle_, handle + 1);
    heads.emplace_back();
    if (!ReadHead(handle, &heads.back())) {
      heads.pop_back();
      disk_.Unlink(folder_, name.c_str());
    }
  }
  std::sort(heads.begin(), heads.end(),
            [](const DiskHead& a, const DiskHead& b) { return a.created < b.created; });
  for (DiskHead& head : heads) {
    const uint64_t handle = head.handle;
    const auto created = static_cast<double>(head.created);
    const uint64_t before = counts_.bytes;
    if (!Adopt(std::move(head), sizes)) {
      disk_.Unlink(folder_, DiskStateName(handle).c_str());
      continue;
    }
    day_.emplace_back(created, counts_.bytes - before);
  }
  DropLeftovers(sizes);
  counts_.found = std::ssize(records_);
  RoomFor(0, std::numeric_limits<double>::infinity());
  gone_.clear();  // no tree knows them
  return {};
}

// False: the file is not what it should be.
bool DiskTier::ReadHead(uint64_t handle, DiskHead* head) {
  const std::string name = DiskStateName(handle);
  const Descriptor file(disk_.Open(folder_, name.c_str(), O_RDONLY, 0));
  struct stat info {};
  if (file.value < 0 || ::fstat(file.value, &info) != 0 || !S_ISREG(info.st_mode)) return false;
  const auto size = static_cast<uint64_t>(info.st_size);
  std::vector<std::byte> bytes(kDiskHeadStart);
  if (size < kDiskHeadStart || !ReadAll(&disk_, file.value, bytes)) return false;
  const auto length = DiskHeadLength(bytes);
  if (!length.ok() || *length > size) return false;
  bytes.resize(*length);
  if (!ReadAll(&disk_, file.value, bytes)) return false;
  auto decoded = DecodeDiskHead(bytes);
  if (!decoded.ok() || decoded->handle != handle) return false;
  if (size - *length != decoded->state_bytes) return false;
  *head = std::move(*decoded);
  return true;
}

// A record whose files are all there.
bool DiskTier::Adopt(DiskHead head, const std::map<uint64_t, uint64_t>& sizes) {
  for (const DiskPage& page : head.pages) {
    const auto size = sizes.find(page.handle);
    if (size == sizes.end() || page.index >= size->second / head.page_bytes) return false;
    const auto file = files_.find(page.handle);
    if (file != files_.end() && file->second.page_bytes != head.page_bytes) return false;
  }
  const bool ours = head.maker == maker_;
  std::vector<ContextDigest> keys;
  if (ours && !head.pages.empty()) keys = KeysOf(head.root, head.tokens);
  Record record;
  for (size_t i = 0; i < head.pages.size(); ++i) {
    const DiskPage& at = head.pages[i];
    File& file = files_[at.handle];
    file.page_bytes = head.page_bytes;
    if (file.pages.size() <= at.index) {
      counts_.bytes += (at.index + 1 - file.pages.size()) * head.page_bytes;
      file.pages.resize(at.index + 1);
    }
    Page& page = file.pages[at.index];
    page.sum = at.sum;
    if (i < keys.size()) {
      page.key = keys[i];
      page.keyed = true;
      by_key_.try_emplace(keys[i], at.handle, at.index);
    }
    record.pages.emplace_back(at.handle, at.index);
  }
  record.maker = head.maker;
  record.root = head.root;
  record.state_bytes = head.state_bytes;
  record.state_file_bytes =
      DiskHeadBytes(std::ssize(head.tokens), std::ssize(head.pages)) + head.state_bytes;
  record.state_sum = head.state_sum;
  record.seconds_saved = head.seconds_saved;
  record.role = head.role;
  record.point_class = head.point_class;
  record.hidden = head.hidden;
  if (ours) record.tokens = std::move(head.tokens);
  counts_.bytes += record.state_file_bytes;
  Use(record, +1);
  records_[head.handle] = std::move(record);
  return true;
}

// Files of pages that nobody refers to, and what is behind the last page of the others.
void DiskTier::DropLeftovers(const std::map<uint64_t, uint64_t>& sizes) {
  for (const auto& [handle, size] : sizes) {
    const auto found = files_.find(handle);
    const uint64_t wanted = found == files_.end()
                                ? 0
                                : found->second.pages.size() * found->second.page_bytes;
    if (wanted == size && wanted > 0) continue;
    const auto kind = wanted == 0 ? DiskOp::Kind::kUnlink : DiskOp::Kind::kTruncate;
    AddJob({{kind, DiskPagesName(handle), wanted, nullptr, 0, {}}}, false);
  }
}

std::vector<DemotionHook::Known> DiskTier::KnownOf(TenantId tenant, const RootKey& key) {
  const RootKey root = RootOf(tenant, key);
  std::vector<Known> known;
  for (auto& [handle, record] : records_) {
    if (record.maker != maker_ || record.root != root || record.tokens.empty()) continue;
    known.push_back({handle, std::move(record.tokens), record.role, record.point_class});
    record.tokens.clear();
  }
  return known;
}

void DiskTier::Check() {
  Drain();
  std::map<std::pair<uint64_t, uint64_t>, int64_t> users;
  uint64_t bytes = 0;
  for (const auto& [handle, record] : records_) {
    bytes += record.state_file_bytes;
    for (const auto& page : record.pages) ++users[page];
  }
  for (const auto& [handle, file] : files_) {
    LODE_CHECK(!file.pages.empty() && file.pages.back().users > 0);
    bytes += file.pages.size() * file.page_bytes;
    for (size_t i = 0; i < file.pages.size(); ++i) {
      const auto found = users.find({handle, i});
      LODE_CHECK(file.pages[i].users == (found == users.end() ? 0 : found->second));
    }
  }
  for (const auto& [key, at] : by_key_) {
    const Page& page = files_.at(at.first).pages.at(at.second);
    LODE_CHECK(page.keyed && page.key == key);
  }
  LODE_CHECK(bytes == counts_.bytes);
  LODE_CHECK(bytes <= options_.budget_bytes);
}

}  // namespace lode::runtime
