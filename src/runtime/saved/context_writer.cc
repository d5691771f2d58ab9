#include "runtime/saved/context_writer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <optional>

#include "base/check.h"
#include "base/file.h"
#include "base/text.h"

namespace lode::runtime {
namespace {

constexpr int kOpenTries = 16;  // each lost to a saver that finished in between
constexpr uint32_t kFooterNonce = UINT32_MAX;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Calls that a signal may interrupt, until they are through.
template <typename F>
int Retried(const F& call) {
  int result;
  do {
    result = call();
  } while (result != 0 && errno == EINTR);
  return result;
}

iovec Piece(std::span<const std::byte> bytes) {
  return {const_cast<std::byte*>(bytes.data()), bytes.size()};
}

}  // namespace

ContextWriter::~ContextWriter() {
  if (part_ >= 0) ::close(part_);  // with it the lock goes
}

Error ContextWriter::Failed(const char* what, int error_number) const {
  return SystemError(what, folder_path_ + "/" + PartName(name_), error_number);
}

Result<void> ContextWriter::Open() {
  const std::string part = PartName(name_);
  for (int i = 0; i < kOpenTries; ++i) {
    part_ = disk_->Open(folder_, part.c_str(), O_RDWR | O_CREAT, 0600);
    if (part_ < 0) return Failed("cannot write", errno);
    struct stat mine, there;
    if (::fstat(part_, &mine) != 0) return Failed("cannot write", errno);
    if (!S_ISREG(mine.st_mode)) return Failed("cannot write", EINVAL);
    if (disk_->Lock(part_, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return Failed("cannot lock", errno);
      return Error(Code::kBadInput,
                   "another save of the context " + Quote(name_, 120) + " is under way",
                   "wait until it is done, or save under another name");
    }
    // While we waited for the lock its holder may have made the part the file.
    if (::fstatat(folder_, part.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
        there.st_ino == mine.st_ino && there.st_dev == mine.st_dev) {
      if (::fchmod(part_, 0600) != 0) return Failed("cannot write", errno);
      return {};
    }
    ::close(std::exchange(part_, -1));
  }
  return Error(Code::kBadInput,
               "others keep saving the context " + Quote(name_, 120) + " at the same time",
               "save under another name");
}

PayloadKey ContextWriter::Key() const { return {superblock_.salt, facts_, sealer_}; }

Result<void> ContextWriter::WriteAll(std::vector<iovec> pieces, uint64_t offset) {
  size_t first = 0;
  while (first < pieces.size()) {
    const ssize_t written =
        disk_->Write(part_, pieces.data() + first, static_cast<int>(pieces.size() - first),
                     static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Failed("cannot write", errno);
    if (written == 0) return Failed("cannot write", ENOSPC);
    offset += static_cast<uint64_t>(written);
    size_t left = static_cast<size_t>(written);
    while (first < pieces.size() && left >= pieces[first].iov_len) left -= pieces[first++].iov_len;
    if (left > 0) {
      pieces[first].iov_base = static_cast<std::byte*>(pieces[first].iov_base) + left;
      pieces[first].iov_len -= left;
    }
  }
  return {};
}

bool ContextWriter::ReadAll(uint64_t offset, std::span<std::byte> target) {
  while (!target.empty()) {
    const ssize_t got =
        disk_->Read(part_, target.data(), target.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    offset += static_cast<uint64_t>(got);
    target = target.subspan(static_cast<size_t>(got));
  }
  return true;
}

bool ContextWriter::AdoptHead(const ContextPlan& plan, const ContextSaveOptions& options) {
  std::vector<std::byte> head(kSuperblockBytes);
  if (!ReadAll(0, head)) return false;
  const Result<ContextSuperblock> found = DecodeSuperblock(head);
  if (!found.ok()) return false;
  superblock_ = plan.superblock;
  superblock_.salt = found->salt;
  superblock_.created = options.created < 0 ? found->created : options.created;
  return EncodeSuperblock(superblock_) == head;
}

Result<void> ContextWriter::BeginAnew(const ContextPlan& plan, const ContextSaveOptions& options) {
  superblock_ = plan.superblock;
  superblock_.created =
      options.created < 0 ? static_cast<int64_t>(std::time(nullptr)) : options.created;
  if (disk_->Random(superblock_.salt.data(), superblock_.salt.size()) != 0) {
    return Error(Code::kInternal, "the system gives no random numbers");
  }
  if (Retried([&] { return disk_->Truncate(part_, 0); }) != 0) return Failed("cannot write", errno);
  return {};
}

ContextRecord ContextWriter::Describe(const ContextPlanItem& item, uint32_t sequence) const {
  ContextRecord record;
  record.type = item.type;
  record.sealed = sealer_ != nullptr;
  record.sequence = sequence;
  record.rows = item.rows;
  record.raw_bytes = item.raw_bytes;
  record.first_token = static_cast<uint64_t>(item.first_token);
  record.chain = item.chain;
  return record;
}

void ContextWriter::Append(const ContextRecord& record) {
  const HeaderBytes header = EncodeHeader(record, superblock_.salt);
  index_.insert(index_.end(), header.begin(), header.end());
  end_ = record.end();
}

bool ContextWriter::KeepRecord(const ContextPlanItem& item, uint32_t sequence) {
  HeaderBytes header;
  ContextRecord record;
  if (!ReadAll(HeaderOffset(end_), header) || !DecodeHeader(header, superblock_.salt, &record)) {
    return false;
  }
  const ContextRecord wanted = Describe(item, sequence);
  if (record.type != wanted.type || record.sealed != wanted.sealed || record.sequence != sequence ||
      record.rows != wanted.rows || record.raw_bytes != wanted.raw_bytes ||
      record.first_token != wanted.first_token || record.chain != wanted.chain) {
    return false;
  }
  record.payload_offset = PayloadOffset(end_, record);
  const uint64_t extra = sealer_ == nullptr ? 0 : sizeof(ContextNonce) + sealer_->overhead();
  struct stat info;
  if (::fstat(part_, &info) != 0 ||
      CheckRecord(superblock_, record, extra, static_cast<uint64_t>(info.st_size)) != nullptr) {
    return false;
  }
  std::vector<std::byte> buffer;
  const auto raw = item.payload(&buffer);
  if (!raw.ok() || raw->size() != record.raw_bytes) return false;
  std::vector<std::byte> stored(record.stored_bytes);
  std::vector<std::byte> decoded(record.raw_bytes);
  if (!ReadAll(record.payload_offset, stored) ||
      !DecodePayload(Key(), record, stored, decoded).ok() ||
      !std::equal(decoded.begin(), decoded.end(), raw->begin())) {
    return false;
  }
  Append(record);
  return true;
}

size_t ContextWriter::KeepRecords(const ContextPlan& plan) {
  size_t kept = 0;
  while (kept < plan.items.size() && KeepRecord(plan.items[kept], static_cast<uint32_t>(kept))) {
    report_.kept_bytes += plan.items[kept].raw_bytes;
    ++kept;
  }
  return kept;
}

Result<void> ContextWriter::CheckRoom(const ContextPlan& plan, size_t kept) const {
  if ((superblock_.flags & kContextZstd) != 0) return {};  // nobody knows how much it will be
  uint64_t bytes = kTailBytes;
  for (size_t i = kept; i < plan.items.size(); ++i) {
    bytes += plan.items[i].raw_bytes + kPayloadAlign + kHeaderBytes;
  }
  const uint64_t free = disk_->FreeBytes(folder_);
  if (bytes <= free) return {};
  return Error(Code::kNoSpace,
               "saving the context " + Quote(name_, 120) + " takes " + HumanBytes(bytes) +
                   ", and " + HumanBytes(free) + " are free in " + Quote(folder_path_, 300),
               "free some space or write to another disk");
}

Result<void> ContextWriter::WriteItem(const ContextPlanItem& item, uint32_t sequence, int level) {
  static constexpr std::array<std::byte, kPayloadAlign> kZeros{};
  std::vector<std::byte> item_buffer, buffer;
  LODE_ASSIGN(const std::span<const std::byte> raw, item.payload(&item_buffer));
  LODE_CHECK(raw.size() == item.raw_bytes);
  ContextRecord record = Describe(item, sequence);
  std::memcpy(nonce_.data() + 8, &sequence, sizeof(sequence));
  LODE_ASSIGN(const std::span<const std::byte> stored,
              EncodePayload(Key(), nonce_, item.compress ? level : 0, raw, &record, &buffer));
  record.payload_offset = PayloadOffset(end_, record);
  const HeaderBytes header = EncodeHeader(record, superblock_.salt);
  const uint64_t header_offset = HeaderOffset(end_);
  const uint64_t gap = record.payload_offset - header_offset - kHeaderBytes;
  if (gap <= kZeros.size()) {
    LODE_TRY(WriteAll({Piece(header), Piece(std::span(kZeros).first(gap)), Piece(stored)},
                      header_offset));
  } else {  // a hole in front of a large state takes no room on the disk
    LODE_TRY(WriteAll({Piece(header)}, header_offset));
    LODE_TRY(WriteAll({Piece(stored)}, record.payload_offset));
  }
  Append(record);
  report_.written_bytes += raw.size();
  return {};
}

Result<void> ContextWriter::WriteFooter() {
  ContextTail tail;
  tail.index_offset = HeaderOffset(end_);
  tail.records = static_cast<uint32_t>(index_.size() / kHeaderBytes);
  tail.file_bytes = tail.index_offset + index_.size() + kTailBytes;
  tail.digest = FileDigest(facts_, index_);
  if (sealer_ != nullptr) {
    std::memcpy(nonce_.data() + 8, &kFooterNonce, sizeof(kFooterNonce));
    tail.nonce = nonce_;
    std::vector<std::byte> signed_bytes(facts_.begin(), facts_.end());
    signed_bytes.insert(signed_bytes.end(), index_.begin(), index_.end());
    LODE_CHECK(sealer_->overhead() <= tail.tag.size());
    LODE_TRY(sealer_->Seal(superblock_.salt, nonce_, signed_bytes, {},
                           std::span(tail.tag).first(sealer_->overhead())));
  }
  const auto bytes = EncodeTail(tail, superblock_.salt, index_);
  LODE_TRY(WriteAll({Piece(index_), Piece(bytes)}, tail.index_offset));
  report_.file_bytes = tail.file_bytes;
  report_.digest = tail.digest;
  return {};
}

// The data is on the disk before the footer says so, and all of the file before its name does.
Result<void> ContextWriter::Publish() {
  const double begin = Now();
  if (Retried([&] { return disk_->SyncData(part_); }) != 0) return Failed("cannot write", errno);
  LODE_TRY(WriteFooter());
  if (Retried([&] { return disk_->Sync(part_); }) != 0) return Failed("cannot write", errno);
  const std::string part = PartName(name_);
  const std::string file = FileName(name_);
  if (Retried([&] { return disk_->Rename(folder_, part.c_str(), file.c_str()); }) != 0) {
    return Failed("cannot rename", errno);
  }
  // Some file systems do not sync folders, and say so.
  if (Retried([&] { return disk_->Sync(folder_); }) != 0 && errno != EINVAL && errno != ENOTSUP) {
    return SystemError(
        "the context " + Quote(name_, 120) + " is saved, but the disk does not confirm its name",
        folder_path_, errno);
  }
  report_.sync_seconds = Now() - begin;
  return {};
}

Result<void> ContextWriter::Prepare(const ContextPlan& plan, const ContextSaveOptions& options) {
  sealer_ = options.sealer;
  report_ = plan.counts;
  index_.clear();
  const bool adopted = options.resume && AdoptHead(plan, options);
  if (!adopted) LODE_TRY(BeginAnew(plan, options));
  facts_ = EncodeFacts(superblock_);
  if (sealer_ != nullptr && disk_->Random(nonce_.data(), 8) != 0) {
    return Error(Code::kInternal, "the system gives no random numbers");
  }
  end_ = kSuperblockBytes;
  const size_t kept = adopted ? KeepRecords(plan) : 0;
  LODE_TRY(CheckRoom(plan, kept));
  if (!adopted) return WriteAll({Piece(EncodeSuperblock(superblock_))}, 0);
  // What follows the last sound record goes, so that no remains shine through a hole.
  if (Retried([&] { return disk_->Truncate(part_, static_cast<off_t>(end_)); }) != 0) {
    return Failed("cannot write", errno);
  }
  return {};
}

Result<ContextSaveReport> ContextWriter::Run(const ContextPlan& plan,
                                             const ContextSaveOptions& options) {
  const double begin = Now();
  const auto write = [&]() -> Result<void> {
    LODE_TRY(Prepare(plan, options));
    uint64_t done = report_.kept_bytes;
    for (size_t i = index_.size() / kHeaderBytes; i < plan.items.size(); ++i) {
      if (options.progress && !options.progress(done, plan.raw_bytes)) {
        return Error(Code::kCancelled, "saving the context " + Quote(name_, 120) + " was stopped",
                     "save it again to go on from there");
      }
      LODE_TRY(WriteItem(plan.items[i], static_cast<uint32_t>(i), options.zstd_level));
      done += plan.items[i].raw_bytes;
    }
    if (options.progress) (void)options.progress(done, plan.raw_bytes);
    return Publish();
  };
  if (Result<void> written = write(); !written.ok()) {
    // Half a file on a full disk is in everybody's way.
    if (written.error().code() == Code::kNoSpace) {
      (void)disk_->Unlink(folder_, PartName(name_).c_str());
    }
    return std::move(written).error();
  }
  report_.seconds = Now() - begin;
  return report_;
}

}  // namespace lode::runtime
