// One thread that moves bytes between memory and files beneath a folder, job after job, for an
// owner that must not wait: jobs to write, in order, and jobs to read, which pass them.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "runtime/saved/context_disk.h"
#include "runtime/tier/disk_record.h"

namespace lode::runtime {

struct DiskOp {
  enum class Kind : uint8_t { kWrite, kRead, kUnlink, kTruncate } kind = Kind::kWrite;
  std::string name;
  uint64_t offset = 0;          // kTruncate: the file's new length
  std::byte* data = nullptr;    // kWrite, kRead: stays the owner's, untouched until the job is done
  uint64_t bytes = 0;
  DiskSum sum{};                // kRead: what they must give
};

struct DiskJob {
  uint64_t id = 0;
  std::vector<DiskOp> ops;  // in order; the first that fails ends the job
  bool urgent = false;      // before all that are not: nothing it needs is still to be written
};

struct DiskDone {
  uint64_t id = 0;
  bool ok = false;
  uint64_t bytes = 0;
  double seconds = 0.0;
};

// Threads: one owner.
class DiskWorker {
 public:
  // Neither the folder's descriptor nor `disk` is its own.
  DiskWorker(int folder, Disk* disk);
  ~DiskWorker();  // does what is queued, first
  DiskWorker(const DiskWorker&) = delete;
  DiskWorker& operator=(const DiskWorker&) = delete;

  void Add(DiskJob job);
  // What was finished since the last call, in order.
  std::vector<DiskDone> Done();
  // Until there is something for Done, or nothing to do.
  void Wait();
  // Until nothing is left to do.
  void Drain();

 private:
  void Loop();
  bool Run(const DiskJob& job);
  bool RunOp(const DiskOp& op, int* descriptor, std::string* name);
  bool Move(const DiskOp& op, int descriptor);

  const int folder_;
  Disk& disk_;
  std::mutex mutex_;
  std::condition_variable work_, idle_;
  std::deque<DiskJob> urgent_, jobs_;
  std::vector<DiskDone> done_;
  int64_t open_ = 0;  // queued or running
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace lode::runtime
