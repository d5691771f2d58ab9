// The tier below memory: states that the prefix tree evicts, in files, until somebody needs them.
//
// A point's record is its state and those of its pages that no other record has: pages are known by
// the chain of tokens that led to them (context_chain.h), so the points of a conversation and its
// branches share theirs. Two files a record (disk_record.h); a file of pages lives as long as a
// record refers to one of them.
//
// This is a cache, not an archive: nothing is waited for (no fsync), nothing is promised. What a
// crash or a flipped bit spoils, a checksum finds when it is read, and the tokens are computed
// again. So it is not the `.lctx` of saved contexts, whose superblock, footer, names, locks and
// syncs would be paid for each eviction.
//
// Evictions need their room at once, so Demote copies into a buffer of fixed size, which a thread
// writes out; when the buffer is full, the state is dropped as it was without this tier.
// What costs least to lose goes first when the budget of bytes is used up, and what was written in
// the last 24 hours never exceeds its bound (flash wears).
//
// Files are read, never mapped: one that somebody shortens is an error, not a signal.
// Memory: the buffer, and some 100 bytes for each page on disk.
// Threads: one owner, the engine's; the disk is touched by a thread of its own, except at the start
// and the end. Life: the frame pool outlives it, it outlives the scheduler.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "runtime/saved/context_chain.h"
#include "runtime/tier/disk_record.h"
#include "runtime/tier/disk_worker.h"
#include "runtime/tree/prefix_tree.h"

namespace lode::runtime {

struct DiskTierOptions {
  std::string folder;  // its own; made if need be
  uint64_t budget_bytes = uint64_t{16} << 30;
  // Written within 24 hours at most. Flash of a terabyte is good for about 300 GB a day for five
  // years.
  uint64_t bytes_per_day = uint64_t{256} << 30;
  uint64_t buffer_bytes = uint64_t{256} << 20;     // of memory, beyond the frames' budget
  uint64_t free_bytes_min = uint64_t{256} << 20;  // that the disk keeps free
  // Digests of model and numerics: what others made is never read, and goes first.
  ContextDigest model{}, numerics{};
  // Any clock that goes on between runs; null: the system's.
  std::function<double()> seconds = nullptr;
  Disk* disk = nullptr;  // nullptr: the system's; must outlive the tier
};

struct DiskTierCounts {
  int64_t records = 0;
  uint64_t bytes = 0;             // of files
  uint64_t bytes_today = 0;       // written within 24 hours
  int64_t demoted = 0;            // since the start, as all below
  int64_t shared_pages = 0;       // that a record had not to write
  int64_t removed = 0;            // for room
  int64_t refused_full = 0;       // worth less than all that is there, or larger than the budget
  int64_t refused_busy = 0;       // the buffer was full
  int64_t refused_today = 0;      // the day's bytes were used up
  int64_t refused_disk = 0;       // the disk has no room
  int64_t failed = 0;             // writes
  int64_t promoted = 0, damaged = 0;
  uint64_t read_bytes = 0;
  int64_t found = 0;              // records of an earlier run
};

class DiskTier : public DemotionHook {
 public:
  // Takes up what an earlier run left. Errors: the folder cannot be made, or another process uses
  // it.
  static Result<std::unique_ptr<DiskTier>> Make(FramePool* frames, const DiskTierOptions& options);
  ~DiskTier() override;  // writes what is queued

  // The tree's (prefix_tree.h).
  uint64_t Demote(const Demotion& demotion) override;
  void Forget(uint64_t handle) override;
  std::vector<Known> KnownOf(TenantId tenant, const RootKey& key) override;

  struct Info {
    PointRole role = PointRole::kEnd;
    bool hidden = false;
    int64_t pages = 0;
  };
  // What is known of a record; nothing: it is not there (any more).
  std::optional<Info> Find(uint64_t handle) const;
  // Begins to read a record that is there: pages from `first_page` on, and the state (nullptr: the
  // model has none), into frames that nobody touches until it is done. Returns a ticket.
  uint64_t Read(uint64_t handle, int64_t first_page, std::span<std::byte* const> pages,
                std::byte* slot);
  struct Finished {
    uint64_t ticket = 0;
    bool ok = false;
    uint64_t bytes = 0;
    double seconds = 0.0;
  };
  // What has been read since the last call.
  std::vector<Finished> TakeFinished();
  // Handles that the tree has to forget; `corrupt`: they were found damaged.
  struct Gone {
    uint64_t handle = 0;
    bool corrupt = false;
  };
  std::vector<Gone> TakeGone();
  // Until something was read, or nothing is being done.
  void Wait();
  // Until all is written and read.
  void Drain();

  DiskTierCounts counts() const;
  // Recounts everything and CHECKs it, the files' bytes too.
  void Check();

 private:
  struct Page {
    ContextDigest key{};  // of a full page that a record of this model has
    bool keyed = false;
    DiskSum sum{};
    int64_t users = 0;
  };
  struct File {  // of pages
    uint64_t page_bytes = 0;
    std::vector<Page> pages;
  };
  struct Record {
    ContextDigest maker{};
    RootKey root{};
    uint64_t state_file_bytes = 0, state_bytes = 0;
    DiskSum state_sum{};
    double seconds_saved = 0.0, base = 0.0;
    PointRole role = PointRole::kEnd;
    PointClass point_class = PointClass::kOld;
    int64_t hits = 0, readers = 0;
    bool hidden = false, written = true;
    std::vector<std::pair<uint64_t, uint64_t>> pages;  // file and index
    std::vector<Token> tokens;  // of one that no tree knows yet
  };
  struct Writing {
    uint64_t job = 0, handle = 0, buffer_end = 0;
    std::vector<std::byte> head;
  };
  struct Reading {
    uint64_t ticket = 0, handle = 0;
  };
  using Records = std::unordered_map<uint64_t, Record>;

  DiskTier(FramePool* frames, const DiskTierOptions& options);
  Result<void> Open();
  Result<void> Load();
  bool ReadHead(uint64_t handle, DiskHead* head);
  bool Adopt(DiskHead head, const std::map<uint64_t, uint64_t>& sizes);
  void DropLeftovers(const std::map<uint64_t, uint64_t>& sizes);
  static RootKey RootOf(TenantId tenant, const RootKey& key);
  std::vector<ContextDigest> KeysOf(const RootKey& root, std::span<const Token> tokens) const;

  void Poll();
  void Failed(uint64_t handle);
  void Use(const Record& record, int64_t by);
  void DropUnused(uint64_t file);
  void Remove(uint64_t handle);
  uint64_t BytesOnlyOf(const Record& record) const;
  double Score(const Record& record) const;
  bool RoomFor(uint64_t bytes, double score);
  uint64_t Today();
  bool Admits(uint64_t file_bytes, uint64_t state_bytes, int64_t pages, double score);
  Record Plan(uint64_t handle, const Demotion& demotion, File* fresh);
  void Queue(uint64_t handle, const Demotion& demotion);
  bool BufferTakes(uint64_t state_bytes, int64_t pages) const;
  std::byte* Buffer(const std::byte* bytes, uint64_t count);
  uint64_t AddJob(std::vector<DiskOp> ops, bool urgent);

  FramePool& frames_;
  DiskTierOptions options_;
  ContextDigest maker_{};
  Disk own_disk_;
  Disk& disk_;
  int folder_ = -1, lock_ = -1;
  std::byte* buffer_ = nullptr;
  uint64_t head_ = 0, tail_ = 0;  // of the ring, ever growing: what is between is being written
  Records records_;
  std::unordered_map<uint64_t, File> files_;  // of pages, by the handle of the record that wrote it
  struct HashDigest {
    size_t operator()(const ContextDigest& digest) const;
  };
  std::unordered_map<ContextDigest, std::pair<uint64_t, uint64_t>, HashDigest> by_key_;
  std::deque<Writing> writing_;
  std::vector<Reading> reading_;
  std::vector<Finished> finished_;
  std::vector<Gone> gone_;
  std::deque<std::pair<double, uint64_t>> day_;  // when, and how many bytes
  uint64_t next_handle_ = 1, next_job_ = 1;
  double level_ = 0.0;
  DiskTierCounts counts_;
  std::unique_ptr<DiskWorker> worker_;
};

}  // namespace lode::runtime
