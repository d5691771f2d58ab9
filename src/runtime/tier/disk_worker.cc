#include "runtime/tier/disk_worker.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

namespace lode::runtime {
namespace {

// A call for more than this is cut short by the system.
constexpr uint64_t kPieceMax = uint64_t{1} << 30;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

DiskWorker::DiskWorker(int folder, Disk* disk)
    : folder_(folder), disk_(*disk), thread_([this] { Loop(); }) {}

DiskWorker::~DiskWorker() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_.notify_one();
  thread_.join();
}

void DiskWorker::Add(DiskJob job) {
  {
    const std::lock_guard lock(mutex_);
    (job.urgent ? urgent_ : jobs_).push_back(std::move(job));
    ++open_;
  }
  work_.notify_one();
}

std::vector<DiskDone> DiskWorker::Done() {
  const std::lock_guard lock(mutex_);
  return std::exchange(done_, {});
}

void DiskWorker::Wait() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return !done_.empty() || open_ == 0; });
}

void DiskWorker::Drain() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return open_ == 0; });
}

void DiskWorker::Loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [this] { return stop_ || !urgent_.empty() || !jobs_.empty(); });
    if (urgent_.empty() && jobs_.empty()) return;
    std::deque<DiskJob>& from = urgent_.empty() ? jobs_ : urgent_;
    const DiskJob job = std::move(from.front());
    from.pop_front();
    lock.unlock();
    const double start = Now();
    DiskDone done = {.id = job.id, .ok = Run(job)};
    done.seconds = Now() - start;
    for (const DiskOp& op : job.ops) done.bytes += op.bytes;
    lock.lock();
    done_.push_back(done);
    --open_;
    idle_.notify_all();
  }
}

bool DiskWorker::Run(const DiskJob& job) {
  int descriptor = -1;
  std::string name;
  bool ok = true;
  for (const DiskOp& op : job.ops) {
    ok = RunOp(op, &descriptor, &name);
    if (!ok) break;
  }
  if (descriptor >= 0) ::close(descriptor);
  if (ok) return true;
  for (const DiskOp& op : job.ops) {  // nothing half-written stays
    if (op.kind == DiskOp::Kind::kWrite && op.offset == 0) disk_.Unlink(folder_, op.name.c_str());
  }
  return false;
}

bool DiskWorker::RunOp(const DiskOp& op, int* descriptor, std::string* name) {
  if (op.kind == DiskOp::Kind::kUnlink) {
    return disk_.Unlink(folder_, op.name.c_str()) == 0 || errno == ENOENT;
  }
  if (*descriptor < 0 || *name != op.name) {  // mostly many pieces of one file come together
    if (*descriptor >= 0) ::close(*descriptor);
    const int flags = op.kind == DiskOp::Kind::kRead       ? O_RDONLY
                      : op.kind == DiskOp::Kind::kTruncate ? O_WRONLY
                                                           : O_WRONLY | O_CREAT | O_TRUNC;
    *descriptor = disk_.Open(folder_, op.name.c_str(), flags, 0600);
    *name = op.name;
    if (*descriptor < 0) return false;
  }
  if (op.kind == DiskOp::Kind::kTruncate) {
    return disk_.Truncate(*descriptor, static_cast<off_t>(op.offset)) == 0;
  }
  if (!Move(op, *descriptor)) return false;
  return op.kind == DiskOp::Kind::kWrite || SumOf({op.data, op.bytes}) == op.sum;
}

bool DiskWorker::Move(const DiskOp& op, int descriptor) {
  for (uint64_t done = 0; done < op.bytes;) {
    const size_t count = std::min(op.bytes - done, kPieceMax);
    const auto offset = static_cast<off_t>(op.offset + done);
    ssize_t moved;
    if (op.kind == DiskOp::Kind::kWrite) {
      const iovec piece = {op.data + done, count};
      moved = disk_.Write(descriptor, &piece, 1, offset);
    } else {
      moved = disk_.Read(descriptor, op.data + done, count, offset);
    }
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) return false;  // also: the file ends before its bytes do
    done += static_cast<uint64_t>(moved);
  }
  return true;
}

}  // namespace lode::runtime
