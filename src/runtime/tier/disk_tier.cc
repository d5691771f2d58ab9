#include "runtime/tier/disk_tier.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>

#include "base/check.h"

namespace lode::runtime {
namespace {

constexpr double kDay = 86400.0;

}  // namespace

DiskTier::~DiskTier() {
  worker_.reset();
  if (buffer_ != nullptr) ::munmap(buffer_, options_.buffer_bytes);
  for (const int descriptor : {folder_, lock_}) {
    if (descriptor >= 0) ::close(descriptor);
  }
}

// One tenant's key never finds what another wrote, were it the same key.
RootKey DiskTier::RootOf(TenantId tenant, const RootKey& key) {
  std::array<std::byte, sizeof(tenant) + sizeof(key)> seed;
  std::memcpy(seed.data(), &tenant, sizeof(tenant));
  std::copy(key.begin(), key.end(), seed.begin() + sizeof(tenant));
  const ContextDigest digest = Sha256(seed);
  RootKey root;
  std::copy_n(digest.begin(), root.size(), root.begin());
  return root;
}

// Names of the full pages of these tokens. Roots never share one.
std::vector<ContextDigest> DiskTier::KeysOf(const RootKey& root,
                                            std::span<const Token> tokens) const {
  std::array<std::byte, sizeof(ContextDigest) + sizeof(RootKey)> seed;
  std::copy(maker_.begin(), maker_.end(), seed.begin());
  std::copy(root.begin(), root.end(), seed.begin() + sizeof(ContextDigest));
  const size_t full = tokens.size() / kTokensPerPage * kTokensPerPage;
  return ChainTokens(Sha256(seed), {}, kTokensPerPage, tokens.first(full), {});
}

// --- Going down ----------------------------------------------------------------------------------

uint64_t DiskTier::Demote(const Demotion& demotion) {
  Poll();
  const uint64_t handle = next_handle_;
  File fresh;
  Record record = Plan(handle, demotion, &fresh);
  // What it shares must not go to make room for it.
  files_[handle] = std::move(fresh);
  Use(record, +1);
  const auto pages = std::ssize(files_[handle].pages);
  const uint64_t bytes =
      record.state_file_bytes + static_cast<uint64_t>(pages) * files_[handle].page_bytes;
  const double score = level_ + record.seconds_saved / static_cast<double>(bytes);
  if (!Admits(bytes, record.state_bytes, pages, score)) {
    Use(record, -1);
    for (const auto& [file, index] : record.pages) {
      if (file != handle) DropUnused(file);
    }
    files_.erase(handle);
    return 0;
  }
  ++next_handle_;
  for (size_t i = 0; i < files_[handle].pages.size(); ++i) {
    const Page& page = files_[handle].pages[i];
    if (page.keyed) by_key_[page.key] = {handle, i};
  }
  if (pages == 0) files_.erase(handle);
  counts_.shared_pages += std::ssize(record.pages) - pages;
  counts_.bytes += bytes;
  ++counts_.demoted;
  day_.emplace_back(options_.seconds(), bytes);
  records_[handle] = std::move(record);
  Queue(handle, demotion);
  return handle;
}

// The record, and the pages that no other one has.
DiskTier::Record DiskTier::Plan(uint64_t handle, const Demotion& demotion, File* fresh) {
  Record record;
  record.maker = maker_;
  record.root = RootOf(demotion.tenant, demotion.key);
  record.state_bytes = demotion.slot == kNoFrame ? 0 : frames_.slots().frame_bytes();
  record.state_file_bytes =
      DiskHeadBytes(demotion.offset, std::ssize(demotion.pages)) + record.state_bytes;
  record.seconds_saved = demotion.seconds_saved;
  record.base = level_;
  record.role = demotion.role;
  record.point_class = demotion.point_class;
  record.hidden = demotion.hidden;
  record.written = false;
  fresh->page_bytes = frames_.pages().frame_bytes();
  std::vector<ContextDigest> keys;
  if (!demotion.pages.empty()) keys = KeysOf(record.root, demotion.tokens);
  for (size_t i = 0; i < demotion.pages.size(); ++i) {
    Page page;
    page.keyed = i < keys.size();
    if (page.keyed) {
      page.key = keys[i];
      if (const auto found = by_key_.find(page.key); found != by_key_.end()) {
        record.pages.push_back(found->second);
        continue;
      }
    }
    record.pages.emplace_back(handle, fresh->pages.size());
    fresh->pages.push_back(page);
  }
  return record;
}

// Whether so much may be written now; removes what is worth less.
bool DiskTier::Admits(uint64_t file_bytes, uint64_t state_bytes, int64_t pages, double score) {
  if (file_bytes > options_.budget_bytes) return ++counts_.refused_full, false;
  if (Today() + file_bytes > options_.bytes_per_day) return ++counts_.refused_today, false;
  if (!BufferTakes(state_bytes, pages)) return ++counts_.refused_busy, false;
  const uint64_t room = disk_.FreeBytes(folder_);
  if (room < options_.free_bytes_min || room - options_.free_bytes_min < file_bytes) {
    return ++counts_.refused_disk, false;
  }
  if (!RoomFor(file_bytes, score)) return ++counts_.refused_full, false;
  return true;
}

// Bytes of the last 24 hours.
uint64_t DiskTier::Today() {
  const double now = options_.seconds();
  while (!day_.empty() && day_.front().first + kDay <= now) day_.pop_front();
  uint64_t bytes = 0;
  for (const auto& [when, count] : day_) bytes += count;
  return bytes;
}

// Copies what is new, and hands it to the worker.
void DiskTier::Queue(uint64_t handle, const Demotion& demotion) {
  Record& record = records_.at(handle);
  DiskJob job;
  DiskHead head;
  head.page_bytes = frames_.pages().frame_bytes();
  for (size_t i = 0; i < record.pages.size(); ++i) {
    const auto [file, index] = record.pages[i];
    Page& page = files_.at(file).pages[index];
    if (file == handle) {
      std::byte* copy = Buffer(frames_.pages().data(demotion.pages[i]), head.page_bytes);
      page.sum = SumOf({copy, head.page_bytes});
      job.ops.push_back({DiskOp::Kind::kWrite, DiskPagesName(handle), index * head.page_bytes, copy,
                         head.page_bytes, {}});
    }
    head.pages.push_back({file, index, page.sum});
  }
  head.maker = maker_;
  head.root = record.root;
  head.handle = handle;
  head.created = static_cast<int64_t>(options_.seconds());
  head.seconds_saved = record.seconds_saved;
  head.role = record.role;
  head.point_class = record.point_class;
  head.hidden = record.hidden;
  head.state_bytes = record.state_bytes;
  std::byte* state = nullptr;
  if (record.state_bytes > 0) {
    state = Buffer(frames_.slots().data(demotion.slot), record.state_bytes);
    record.state_sum = head.state_sum = SumOf({state, record.state_bytes});
  }
  head.tokens.assign(demotion.tokens.begin(), demotion.tokens.end());
  Writing writing;
  writing.handle = handle;
  writing.buffer_end = head_;
  writing.head = EncodeDiskHead(head);
  job.ops.push_back({DiskOp::Kind::kWrite, DiskStateName(handle), 0, writing.head.data(),
                     writing.head.size(), {}});
  if (state != nullptr) {
    job.ops.push_back({DiskOp::Kind::kWrite, DiskStateName(handle), writing.head.size(), state,
                       record.state_bytes, {}});
  }
  writing.job = AddJob(std::move(job.ops), false);
  writing_.push_back(std::move(writing));
}

// Whether the ring has places for a state and so many pages; each lies in one piece.
bool DiskTier::BufferTakes(uint64_t state_bytes, int64_t pages) const {
  const uint64_t size = options_.buffer_bytes;
  uint64_t at = head_;
  const auto take = [&](uint64_t bytes) {
    if (bytes > size) return false;
    if (at % size + bytes > size) at += size - at % size;
    at += bytes;
    return at - tail_ <= size;
  };
  for (int64_t i = 0; i < pages; ++i) {
    if (!take(frames_.pages().frame_bytes())) return false;
  }
  return state_bytes == 0 || take(state_bytes);
}

std::byte* DiskTier::Buffer(const std::byte* bytes, uint64_t count) {
  const uint64_t size = options_.buffer_bytes;
  if (head_ % size + count > size) head_ += size - head_ % size;
  std::byte* const place = buffer_ + head_ % size;
  head_ += count;
  LODE_CHECK(head_ - tail_ <= size);
  std::memcpy(place, bytes, count);
  return place;
}

uint64_t DiskTier::AddJob(std::vector<DiskOp> ops, bool urgent) {
  const uint64_t id = next_job_++;
  worker_->Add({id, std::move(ops), urgent});
  return id;
}

// --- What stays ----------------------------------------------------------------------------------

uint64_t DiskTier::BytesOnlyOf(const Record& record) const {
  uint64_t bytes = record.state_file_bytes;
  for (const auto& [file, index] : record.pages) {
    const File& of = files_.at(file);
    if (of.pages[index].users == 1) bytes += of.page_bytes;
  }
  return bytes;
}

// Seconds of computing that a byte saves; `base` ages what nobody asks for.
double DiskTier::Score(const Record& record) const {
  if (record.maker != maker_) return -1.0;
  return record.base + static_cast<double>(1 + record.hits) * record.seconds_saved /
                           static_cast<double>(BytesOnlyOf(record));
}

bool DiskTier::RoomFor(uint64_t bytes, double score) {
  while (counts_.bytes + bytes > options_.budget_bytes) {
    uint64_t victim = 0;
    double lowest = std::numeric_limits<double>::infinity();
    for (const auto& [handle, record] : records_) {
      if (record.readers > 0) continue;
      const double its = Score(record);
      if (its < lowest || (its == lowest && handle < victim)) victim = handle, lowest = its;
    }
    if (victim == 0 || lowest > score) return false;
    level_ = std::max(level_, lowest);
    ++counts_.removed;
    Remove(victim);
    gone_.push_back({victim, false});
  }
  return true;
}

void DiskTier::Use(const Record& record, int64_t by) {
  for (const auto& [file, index] : record.pages) files_.at(file).pages[index].users += by;
}

// Pages at the end of a file that no record refers to go.
void DiskTier::DropUnused(uint64_t handle) {
  const auto found = files_.find(handle);
  if (found == files_.end()) return;
  std::vector<Page>& pages = found->second.pages;
  const size_t before = pages.size();
  while (!pages.empty() && pages.back().users == 0) {
    const auto key = by_key_.find(pages.back().key);
    if (pages.back().keyed && key != by_key_.end() &&
        key->second == std::pair(handle, uint64_t{pages.size() - 1})) {
      by_key_.erase(key);
    }
    pages.pop_back();
  }
  if (pages.size() == before) return;
  const uint64_t page_bytes = found->second.page_bytes;
  counts_.bytes -= (before - pages.size()) * page_bytes;
  const auto kind = pages.empty() ? DiskOp::Kind::kUnlink : DiskOp::Kind::kTruncate;
  AddJob({{kind, DiskPagesName(handle), pages.size() * page_bytes, nullptr, 0, {}}}, false);
  if (pages.empty()) files_.erase(found);
}

void DiskTier::Remove(uint64_t handle) {
  const auto found = records_.find(handle);
  if (found == records_.end()) return;
  const Record record = std::move(found->second);
  records_.erase(found);
  counts_.bytes -= record.state_file_bytes;
  AddJob({{DiskOp::Kind::kUnlink, DiskStateName(handle), 0, nullptr, 0, {}}}, false);
  Use(record, -1);
  std::set<uint64_t> files;
  for (const auto& [file, index] : record.pages) files.insert(file);
  for (const uint64_t file : files) DropUnused(file);
}

void DiskTier::Forget(uint64_t handle) { Remove(handle); }

// --- Coming up -----------------------------------------------------------------------------------

std::optional<DiskTier::Info> DiskTier::Find(uint64_t handle) const {
  const auto found = records_.find(handle);
  if (found == records_.end() || found->second.maker != maker_) return std::nullopt;
  const Record& record = found->second;
  return Info{record.role, record.hidden, std::ssize(record.pages)};
}

uint64_t DiskTier::Read(uint64_t handle, int64_t first_page, std::span<std::byte* const> pages,
                        std::byte* slot) {
  Record& record = records_.at(handle);
  LODE_CHECK(first_page + std::ssize(pages) == std::ssize(record.pages));
  LODE_CHECK((slot != nullptr) == (record.state_bytes > 0));
  std::vector<DiskOp> ops;
  bool written = record.written;
  const auto is_written = [this](uint64_t file) {
    return std::none_of(writing_.begin(), writing_.end(),
                        [file](const Writing& writing) { return writing.handle == file; });
  };
  if (slot != nullptr) {
    ops.push_back({DiskOp::Kind::kRead, DiskStateName(handle),
                   record.state_file_bytes - record.state_bytes, slot, record.state_bytes,
                   record.state_sum});
  }
  for (size_t i = 0; i < pages.size(); ++i) {
    const auto [file, index] = record.pages[static_cast<size_t>(first_page) + i];
    const File& of = files_.at(file);
    const std::string name = DiskPagesName(file);
    if (ops.empty() || ops.back().name != name) written = written && is_written(file);
    ops.push_back({DiskOp::Kind::kRead, name, index * of.page_bytes, pages[i],
                   of.page_bytes, of.pages[index].sum});
  }
  ++record.readers;
  const uint64_t ticket = AddJob(std::move(ops), written);
  reading_.push_back({ticket, handle});
  return ticket;
}

// What the worker has done.
void DiskTier::Poll() {
  for (const DiskDone& done : worker_->Done()) {
    if (!writing_.empty() && writing_.front().job == done.id) {
      const Writing writing = std::move(writing_.front());
      writing_.pop_front();
      tail_ = writing.buffer_end;
      if (writing_.empty()) head_ = tail_ = 0;
      const auto record = records_.find(writing.handle);
      if (done.ok && record != records_.end()) record->second.written = true;
      if (!done.ok) Failed(writing.handle);
      continue;
    }
    const auto reading = std::find_if(reading_.begin(), reading_.end(),
                                      [&](const Reading& r) { return r.ticket == done.id; });
    if (reading == reading_.end()) continue;  // a file that was removed
    finished_.push_back({done.id, done.ok, done.bytes, done.seconds});
    const uint64_t handle = reading->handle;
    reading_.erase(reading);
    const auto record = records_.find(handle);
    if (record == records_.end()) continue;
    --record->second.readers;
    if (done.ok) {
      ++counts_.promoted;
      counts_.read_bytes += done.bytes;
      ++record->second.hits;
      record->second.base = level_;
    } else {
      ++counts_.damaged;
      Remove(handle);
      gone_.push_back({handle, true});
    }
  }
}

// A record could not be written: neither can those be read that share its pages.
void DiskTier::Failed(uint64_t handle) {
  ++counts_.failed;
  std::vector<uint64_t> lost;
  for (const auto& [other, record] : records_) {
    const bool needs = other == handle ||
                       std::any_of(record.pages.begin(), record.pages.end(),
                                   [handle](const auto& page) { return page.first == handle; });
    if (needs) lost.push_back(other);
  }
  for (const uint64_t record : lost) {
    Remove(record);
    gone_.push_back({record, false});
  }
}

std::vector<DiskTier::Finished> DiskTier::TakeFinished() {
  Poll();
  return std::exchange(finished_, {});
}

std::vector<DiskTier::Gone> DiskTier::TakeGone() { return std::exchange(gone_, {}); }

void DiskTier::Wait() {
  while (finished_.empty() && !reading_.empty()) {
    worker_->Wait();
    Poll();
  }
}

void DiskTier::Drain() {
  worker_->Drain();
  Poll();
  worker_->Drain();  // removing what failed
}

DiskTierCounts DiskTier::counts() const {
  DiskTierCounts counts = counts_;
  counts.records = std::ssize(records_);
  counts.bytes_today = const_cast<DiskTier*>(this)->Today();
  return counts;
}

}  // namespace lode::runtime
