#include "runtime/saved/context_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <map>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/file.h"
#include "base/text.h"
#include "runtime/saved/context_disk.h"
#include "runtime/saved/context_open.h"
#include "runtime/saved/context_seal.h"
#include "runtime/saved/context_writer.h"

namespace lode::runtime {
namespace {

constexpr char kLockName[] = ".lock";
constexpr char kFileEnding[] = ".lctx";
constexpr char kPartEnding[] = ".part";
constexpr char kBaseBeginning[] = ".base-";
constexpr size_t kNameMax = 100;
constexpr int kLockTries = 500;  // 10 ms apart: sweeping takes much less

std::string BaseName(const ContextDigest& digest) {
  return kBaseBeginning + DigestText(digest, 40) + kFileEnding;
}

bool IsBase(const std::string& file) {
  return StartsWith(file, kBaseBeginning) && EndsWith(file, kFileEnding);
}
bool IsPart(const std::string& file) {
  return StartsWith(file, ".") && EndsWith(file, kPartEnding);
}
// "NAME.lctx" -> NAME; empty for everything else.
std::string NameOf(const std::string& file) {
  if (!EndsWith(file, kFileEnding)) return "";
  const std::string name = file.substr(0, file.size() - sizeof(kFileEnding) + 1);
  return ContextStore::CheckName(name).ok() ? name : "";
}

// A descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int value = -1) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(Descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  int get() const { return value_; }
  int Release() { return std::exchange(value_, -1); }

 private:
  int value_;
};

// The store's lock, until the descriptor closes. Empty: somebody else has it.
Result<std::optional<Descriptor>> LockStore(Disk* disk, int folder, const std::string& path,
                                            int operation, int tries) {
  Descriptor lock(disk->Open(folder, kLockName, O_RDWR | O_CREAT, 0600));
  if (lock.get() < 0) return SystemError("cannot write", path + "/" + kLockName, errno);
  for (int i = 0; i < tries; ++i) {
    if (i > 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (disk->Lock(lock.get(), operation | LOCK_NB) == 0) {
      return std::optional<Descriptor>(std::move(lock));
    }
    if (errno != EWOULDBLOCK && errno != EINTR) {
      return SystemError("cannot lock", path + "/" + kLockName, errno);
    }
  }
  return std::optional<Descriptor>();
}

// The superblock of a file in the folder. `unreadable`, unless null, says whether the error may pass:
// the disk's, or a version that another program reads.
Result<ContextSuperblock> HeadOf(Disk* disk, int folder, const std::string& file,
                                 bool* unreadable = nullptr) {
  bool ignored;
  bool& may_pass = unreadable == nullptr ? ignored : *unreadable;
  may_pass = true;
  const Descriptor descriptor(disk->Open(folder, file.c_str(), O_RDONLY, 0));
  struct stat info;
  if (descriptor.get() < 0 || ::fstat(descriptor.get(), &info) != 0) {
    may_pass = errno != ENOENT && errno != ELOOP;
    return SystemError("cannot open", file, errno);
  }
  std::vector<std::byte> head(kSuperblockBytes);
  size_t filled = 0;
  while (S_ISREG(info.st_mode) && filled < head.size()) {
    const ssize_t got = disk->Read(descriptor.get(), head.data() + filled, head.size() - filled,
                                   static_cast<off_t>(filled));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return SystemError("cannot read", file, errno);
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  head.resize(filled);
  Result<ContextSuperblock> superblock = DecodeSuperblock(head);
  may_pass = !superblock.ok() && superblock.error().code() == Code::kUnsupported;
  return superblock;
}

// A file of the folder, with the parents of a delta.
Result<std::unique_ptr<ContextFile>> OpenFile(Disk* disk, int folder, const std::string& path,
                                              const std::string& file, const std::string& name,
                                              const ContextOpenOptions& options,
                                              uint32_t depth_max) {
  const int descriptor = disk->Open(folder, file.c_str(), O_RDONLY, 0);
  if (descriptor < 0) {
    if (errno == ENOENT) return ContextOpener::NotFound(name);
    if (errno == ELOOP) {
      return Error(Code::kBadInput, "saved context " + Quote(name, 120) + " is a link",
                   "put the file itself there");
    }
    return SystemError("cannot open", path + "/" + file, errno);
  }
  LODE_ASSIGN(auto source,
              ContextSource::FromDescriptor(disk, descriptor, path + "/" + file, options.map));
  const auto find_parent =
      [&](const ContextSuperblock& child) -> Result<std::unique_ptr<ContextFile>> {
    // Under its digest; or, if somebody copied files about by hand, under its name.
    auto base = OpenFile(disk, folder, path, BaseName(child.parent), child.parent_name, options,
                         child.depth - 1);
    if (base.ok() || !ContextStore::CheckName(child.parent_name).ok()) return base;
    return OpenFile(disk, folder, path, child.parent_name + kFileEnding, child.parent_name, options,
                    child.depth - 1);
  };
  return ContextOpener::Open(std::move(source), name, options, find_parent, depth_max);
}

// Gives the parent a second name by its digest. False where that cannot be done. The name is only
// given to the very file that was opened: meanwhile another saver may have put another one there,
// and a third may rely on what it finds under the digest. So the link is made aside and looked at.
bool LinkBase(Disk* disk, int folder, const ContextFile& parent) {
  const std::string base = BaseName(parent.digest());
  const std::string file = parent.name() + kFileEnding;
  const std::string aside = ".base-" + std::to_string(::gettid()) + kPartEnding;
  const auto is_parent = [&](const std::string& name) {
    struct stat opened, there;
    return ::fstat(ContextOpener::Source(parent).descriptor(), &opened) == 0 &&
           ::fstatat(folder, name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           there.st_ino == opened.st_ino && there.st_dev == opened.st_dev;
  };
  if (!is_parent(base)) {
    (void)disk->Unlink(folder, aside.c_str());  // of a thread of this number that died here
    if (disk->Link(folder, file.c_str(), aside.c_str()) == 0 && is_parent(aside)) {
      (void)disk->Rename(folder, aside.c_str(), base.c_str());
    }
    // Still there after a failure, and when both names were the same file's already.
    (void)disk->Unlink(folder, aside.c_str());
  }
  // The link must last longer than the delta's own name, which may be the parent's.
  return is_parent(base) && (disk->Sync(folder) == 0 || errno == EINVAL || errno == ENOTSUP);
}

// Removes bases that no context, and no unfinished save, needs. Nothing when savers are at work.
void SweepBases(Disk* disk, int folder, const std::string& path, ContextSweepReport* report) {
  const auto lock = LockStore(disk, folder, path, LOCK_EX, 1);
  if (!lock.ok() || !lock->has_value()) return;
  const Result<std::vector<std::string>> files = ListFolder(path);
  if (!files.ok()) return;
  std::set<std::string> needed;
  std::vector<std::string> open;  // whose parents are still to be looked up
  for (const std::string& file : *files) {
    if (IsPart(file) || !NameOf(file).empty()) open.push_back(file);
  }
  while (!open.empty()) {
    const std::string file = open.back();
    open.pop_back();
    bool unreadable = false;
    const Result<ContextSuperblock> head = HeadOf(disk, folder, file, &unreadable);
    if (unreadable) return;  // it may need any of them
    if (!head.ok() || !head->is_delta()) continue;
    const std::string base = BaseName(head->parent);
    if (needed.insert(base).second) open.push_back(base);
  }
  for (const std::string& file : *files) {
    struct stat info;
    if (!IsBase(file) || needed.count(file) > 0 ||
        ::fstatat(folder, file.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0 ||
        disk->Unlink(folder, file.c_str()) != 0) {
      continue;
    }
    ++report->bases;
    if (info.st_nlink == 1) report->bytes += static_cast<uint64_t>(info.st_blocks) * 512;
  }
}

// Removes a part that nobody writes. 1: removed, 0: not there or too young, -1: somebody writes it.
int SweepPart(Disk* disk, int folder, const std::string& part, int64_t age_seconds,
              uint64_t* bytes) {
  const Descriptor descriptor(disk->Open(folder, part.c_str(), O_RDWR, 0));
  if (descriptor.get() < 0) return 0;
  struct stat info;
  if (::fstat(descriptor.get(), &info) != 0 || !S_ISREG(info.st_mode)) return 0;
  if (disk->Lock(descriptor.get(), LOCK_EX | LOCK_NB) != 0) return -1;
  const int64_t age = static_cast<int64_t>(std::time(nullptr)) - info.st_mtime;
  // A clock that jumped back makes parts of the future: they are as stale as any. Not so a part of
  // the next second: a file's times and time() are read from clocks that tick apart.
  if (age_seconds > 0 && age > -age_seconds && age < age_seconds) return 0;
  if (disk->Unlink(folder, part.c_str()) != 0) return 0;
  *bytes += static_cast<uint64_t>(info.st_blocks) * 512;
  return 1;
}

}  // namespace

Result<void> ContextStore::CheckName(const std::string& name) {
  const auto is_letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  const bool allowed = !name.empty() && name.size() <= kNameMax && is_letter(name[0]) &&
                       std::all_of(name.begin(), name.end(), [&](char c) {
                         return is_letter(c) || c == '.' || c == '_' || c == '-';
                       });
  if (allowed) return {};
  return Error(Code::kBadInput, Quote(name, 120) + " cannot be the name of a saved context",
               Format("1 to %zu letters, digits, '.', '_' and '-', a letter or digit first; names, "
                      "not paths",
                      kNameMax));
}

Result<ContextStore> ContextStore::Open(const std::string& folder, Disk* disk) {
  ContextStore store;
  store.folder_ = folder;
  if (disk == nullptr) store.own_disk_ = std::make_unique<Disk>();
  store.disk_ = disk == nullptr ? store.own_disk_.get() : disk;
  if (!FileExists(folder)) {
    const size_t slash = folder.find_last_of('/');
    if (slash != std::string::npos && slash > 0) LODE_TRY(MakeFolders(folder.substr(0, slash)));
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
      return SystemError("cannot create the folder", folder, errno);
    }
  }
  store.descriptor_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (store.descriptor_ < 0) return SystemError("cannot open the folder", folder, errno);
  return store;
}

ContextStore::ContextStore() = default;
ContextStore::~ContextStore() {
  if (descriptor_ >= 0) ::close(descriptor_);
}
ContextStore::ContextStore(ContextStore&& other) noexcept
    : folder_(std::move(other.folder_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      own_disk_(std::move(other.own_disk_)),
      disk_(other.disk_) {}
ContextStore& ContextStore::operator=(ContextStore&& other) noexcept {
  std::swap(folder_, other.folder_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(own_disk_, other.own_disk_);
  std::swap(disk_, other.disk_);
  return *this;
}

Result<std::unique_ptr<ContextFile>> ContextStore::OpenContext(
    const std::string& name, const ContextOpenOptions& options) const {
  LODE_TRY(CheckName(name));
  // So that nobody sweeps a parent between our opening the delta and it. In a folder that cannot be
  // written nobody sweeps.
  const auto lock = LockStore(disk_, descriptor_, folder_, LOCK_SH, kLockTries);
  return OpenFile(disk_, descriptor_, folder_, name + kFileEnding, name, options, kDepthMax);
}

Result<void> ContextStore::CheckOwner(const std::string& name, const ContextDigest& tenant) const {
  const Result<ContextSuperblock> head = HeadOf(disk_, descriptor_, name + kFileEnding);
  if (head.ok() && head->tenant != tenant) return ContextOpener::NotFound(name);
  return {};
}

std::unique_ptr<ContextFile> ContextStore::OpenParent(const ContextImage& image,
                                                      const ContextSaveOptions& options) const {
  if (options.parent.empty() || options.chain_max < 1) return nullptr;
  ContextOpenOptions open;
  open.tenant = image.tenant;
  open.sealer = options.sealer;
  Result<std::unique_ptr<ContextFile>> parent = OpenContext(options.parent, open);
  if (!parent.ok() || !(*parent)->damage().empty()) return nullptr;
  const uint32_t depth = ContextOpener::Superblock(**parent).depth;
  if (depth >= std::min(static_cast<uint32_t>(options.chain_max), kDepthMax)) return nullptr;
  const ContextGeometry& g = (*parent)->geometry();
  const ContextFingerprints& f = (*parent)->fingerprints();
  if (g != image.geometry || f.model.digest != image.fingerprints.model.digest ||
      f.numerics.digest != image.fingerprints.numerics.digest) {
    return nullptr;
  }
  // Sealed contexts do not lean on open ones, nor the other way round.
  if ((*parent)->sealed() != (options.sealer != nullptr)) return nullptr;
  return std::move(parent).value();
}

Result<ContextSaveReport> ContextStore::Write(const std::string& name, const ContextPlan& plan,
                                              const ContextSaveOptions& options) {
  ContextWriter writer(disk_, descriptor_, folder_, name);
  LODE_TRY(writer.Open());
  return writer.Run(plan, options);
}

Result<ContextSaveReport> ContextStore::Save(const std::string& name, const ContextImage& image,
                                             const ContextSaveOptions& options) {
  LODE_TRY(CheckName(name));
  if (!CheckOwner(name, image.tenant).ok()) {
    return Error(Code::kBadInput, "the name " + Quote(name, 120) + " is in use",
                 "save under another name");
  }
  ContextSaveReport report;
  {
    LODE_ASSIGN(const auto lock, LockStore(disk_, descriptor_, folder_, LOCK_SH, kLockTries));
    if (!lock.has_value()) {
      return Error(Code::kBadInput, Quote(folder_, 300) + " is being swept", "try again");
    }
    std::unique_ptr<ContextFile> parent = OpenParent(image, options);
    LODE_ASSIGN(ContextPlan plan, PlanImage(name, image, parent.get(), options));
    if (plan.superblock.is_delta() && !LinkBase(disk_, descriptor_, *parent)) {
      LODE_ASSIGN(plan, PlanImage(name, image, nullptr, options));
    }
    LODE_ASSIGN(report, Write(name, plan, options));
  }
  ContextSweepReport swept;  // what the old file of this name was the last to need
  SweepBases(disk_, descriptor_, folder_, &swept);
  return report;
}

Result<ContextSaveReport> ContextStore::Flatten(const std::string& name, const std::string& target,
                                                const ContextSaveOptions& options,
                                                const ContextOpenOptions& open) {
  LODE_TRY(CheckName(target));
  LODE_ASSIGN(const std::unique_ptr<ContextFile> file, OpenContext(name, open));
  if (!CheckOwner(target, open.tenant).ok()) {
    return Error(Code::kBadInput, "the name " + Quote(target, 120) + " is in use",
                 "save under another name");
  }
  if (const std::vector<ContextDamage> damage = file->damage(); !damage.empty()) {
    return Error(Code::kBadInput,
                 "saved context " + Quote(name, 120) + " is damaged: " + damage[0].what + ": " +
                     damage[0].reason,
                 "restore it as far as it is sound, and save that");
  }
  ContextSaveReport report;
  {
    LODE_ASSIGN(const auto lock, LockStore(disk_, descriptor_, folder_, LOCK_SH, kLockTries));
    if (!lock.has_value()) {
      return Error(Code::kBadInput, Quote(folder_, 300) + " is being swept", "try again");
    }
    LODE_ASSIGN(const ContextPlan plan, PlanFile(target, *file, options));
    LODE_ASSIGN(report, Write(target, plan, options));
  }
  ContextSweepReport swept;
  SweepBases(disk_, descriptor_, folder_, &swept);
  return report;
}

Result<std::vector<ContextEntry>> ContextStore::List(const ContextDigest& tenant) const {
  LODE_ASSIGN(const std::vector<std::string> files, ListFolder(folder_));
  std::vector<ContextEntry> entries;
  for (const std::string& file : files) {
    ContextEntry entry;
    entry.name = NameOf(file);
    if (entry.name.empty()) continue;
    struct stat info;
    if (::fstatat(descriptor_, file.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) {
      entry.bytes = static_cast<uint64_t>(info.st_size);
    }
    const Result<ContextSuperblock> head = HeadOf(disk_, descriptor_, file);
    if (head.ok()) {
      if (head->tenant != tenant) continue;
      entry.tokens = head->tokens;
      entry.created = head->created;
      entry.delta = head->is_delta();
      entry.sealed = head->is_sealed();
      entry.compressed = (head->flags & kContextZstd) != 0;
      entry.parent = head->parent_name;
    } else if (head.error().code() == Code::kNotFound) {
      continue;  // removed while we looked
    } else {
      entry.trouble = head.error().message();
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

Result<void> ContextStore::Remove(const std::string& name, const ContextDigest& tenant) {
  LODE_TRY(CheckName(name));
  LODE_TRY(CheckOwner(name, tenant));
  const std::string file = name + kFileEnding;
  ContextSweepReport swept;
  const bool removed = disk_->Unlink(descriptor_, file.c_str()) == 0;
  const int error_number = errno;
  if (!removed && error_number != ENOENT) {
    return SystemError("cannot remove", folder_ + "/" + file, error_number);
  }
  const bool had_part =
      SweepPart(disk_, descriptor_, ContextWriter::PartName(name), 0, &swept.bytes) > 0;
  if (!removed && !had_part) return ContextOpener::NotFound(name);
  (void)disk_->Sync(descriptor_);
  SweepBases(disk_, descriptor_, folder_, &swept);
  return {};
}

Result<uint64_t> ContextStore::Bytes() const {
  LODE_ASSIGN(const std::vector<std::string> files, ListFolder(folder_));
  std::map<ino_t, uint64_t> bytes;
  for (const std::string& file : files) {
    struct stat info;
    if (NameOf(file).empty() && !IsBase(file) && !IsPart(file)) continue;
    if (::fstatat(descriptor_, file.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (S_ISREG(info.st_mode)) bytes[info.st_ino] = static_cast<uint64_t>(info.st_blocks) * 512;
  }
  uint64_t total = 0;
  for (const auto& [inode, count] : bytes) total += count;
  return total;
}

Result<ContextSweepReport> ContextStore::Sweep(int64_t part_age_seconds) {
  LODE_ASSIGN(const std::vector<std::string> files, ListFolder(folder_));
  ContextSweepReport report;
  for (const std::string& file : files) {
    if (!IsPart(file)) continue;
    const int swept = SweepPart(disk_, descriptor_, file, part_age_seconds, &report.bytes);
    report.parts += swept > 0 ? 1 : 0;
    report.busy += swept < 0 ? 1 : 0;
  }
  SweepBases(disk_, descriptor_, folder_, &report);
  return report;
}

}  // namespace lode::runtime
