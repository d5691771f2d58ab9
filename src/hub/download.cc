#include "hub/download.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "base/text.h"
#include "hub/part_file.h"
#include "hub/patience.h"

namespace lode::hub {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kParallelMax = 32;
constexpr double kRateWindowSeconds = 5;

// "bytes 100-199/1000": its first byte and the whole size; the size may be "*", then -1.
bool ParseContentRange(const std::string& text, int64_t* first, int64_t* total) {
  if (!StartsWith(text, "bytes ")) return false;
  const size_t dash = text.find('-');
  const size_t slash = text.find('/');
  if (dash == std::string::npos || slash == std::string::npos || dash > slash) return false;
  *total = -1;
  const std::string size = text.substr(slash + 1);
  return ParseInt64(text.substr(6, dash - 6), first) && (size == "*" || ParseInt64(size, total));
}

class Downloader {
 public:
  Downloader(const DownloadPlan& plan, const PullOptions& options)
      : plan_(plan), options_(options), jobs_(plan.files.size()) {
    bytes_done_ = static_cast<int64_t>(plan.bytes_before);
    bytes_total_ = plan.bytes_before;
    std::vector<size_t> order(jobs_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    // The largest first: then no long file is alone at the end.
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return plan_.files[a].size > plan_.files[b].size; });
    for (const size_t index : order) queue_.push_back({index, nullptr});
    for (size_t i = 0; i < jobs_.size(); ++i) {
      jobs_[i].file = &plan_.files[i];
      bytes_total_ += plan_.files[i].size;
    }
  }

  Result<uint64_t> Run() {
    const int workers = std::clamp(options_.parallel, 1, kParallelMax);
    std::vector<std::thread> threads;
    working_ = workers;
    for (int i = 0; i < workers; ++i) threads.emplace_back([this] { Work(); });
    {
      std::unique_lock lock(mutex_);
      while (working_ > 0) {
        changed_.wait_for(lock, std::chrono::milliseconds(100));
        if (!options_.progress) continue;
        const PullProgress progress = Progress();
        lock.unlock();
        options_.progress(progress);
        lock.lock();
      }
    }
    for (std::thread& thread : threads) thread.join();
    if (error_.has_value()) {
      // Only now nobody writes any more. Losing this only costs time, and the disk may be what is
      // wrong: the error to tell is the first one.
      for (const Job& job : jobs_) {
        if (job.part != nullptr) (void)job.part->Remember().ok();
      }
      return *std::move(error_);
    }
    if (options_.progress) options_.progress(Progress());  // the last word: all of it
    return received_.load();
  }

 private:
  struct Job {
    const DownloadFile* file = nullptr;
    std::unique_ptr<PartFile> part;
    size_t segments_left = 0;  // under mutex_
    bool wrong_hash_once = false;
  };
  // A file to begin (no segment), or one more segment of a file that is under way.
  struct Task {
    size_t job;
    PartFile::Segment* segment;
  };

  bool Stop() const { return failed_ || (options_.cancel != nullptr && options_.cancel->load()); }

  void Work() {
    Result<std::unique_ptr<HttpSession>> session = HttpSession::Create(
        {.stall_timeout_s = options_.stall_timeout_s}, [this] { return Stop(); });
    if (!session.ok()) Fail(std::move(session).error());
    std::unique_lock lock(mutex_);
    while (files_done_ < jobs_.size() && !Stop()) {
      if (queue_.empty()) {
        changed_.wait_for(lock, std::chrono::milliseconds(50));
        continue;
      }
      const Task task = queue_.front();
      queue_.pop_front();
      lock.unlock();
      Result<void> done = task.segment == nullptr ? Begin(**session, task.job)
                                                  : Continue(**session, task.job, task.segment);
      if (!done.ok()) Fail(std::move(done).error().AddContext(jobs_[task.job].file->name));
      lock.lock();
    }
    if (files_done_ < jobs_.size() && !error_.has_value()) {
      error_ = Error(Code::kCancelled, "the pull was stopped",
                     "what has arrived is kept; pull again to go on");
    }
    --working_;
    changed_.notify_all();
  }

  void Fail(Error error) {
    const std::lock_guard lock(mutex_);
    // The transfers that an error stops report that they were stopped: not the reason.
    if (!error_.has_value() && error.code() != Code::kCancelled) error_ = std::move(error);
    failed_ = true;
    changed_.notify_all();
  }

  Result<void> Begin(HttpSession& session, size_t index) {
    Job& job = jobs_[index];
    if (job.part == nullptr) {
      LODE_ASSIGN(job.part, PartFile::Open({.path = job.file->path,
                                            .size = job.file->size,
                                            .hash = job.file->hash,
                                            .segment_bytes = options_.segment_bytes}));
      bytes_done_ += static_cast<int64_t>(job.part->done_bytes());
    }
    std::vector<PartFile::Segment*> open;
    for (const auto& segment : job.part->segments()) {
      if (!segment->complete()) open.push_back(segment.get());
    }
    if (open.empty()) return Finish(index);
    {
      const std::lock_guard lock(mutex_);
      job.segments_left = open.size();
    }
    // The first segment finds out whether the server knows ranges; only then do the others start.
    LODE_TRY(Fetch(session, index, open[0], &open));
    return SegmentDone(index);
  }

  Result<void> Continue(HttpSession& session, size_t index, PartFile::Segment* segment) {
    LODE_TRY(Fetch(session, index, segment, nullptr));
    return SegmentDone(index);
  }

  Result<void> SegmentDone(size_t index) {
    {
      const std::lock_guard lock(mutex_);
      if (--jobs_[index].segments_left > 0) return {};
    }
    return Finish(index);
  }

  // All bytes are there: verify. Bytes that are wrong once are fetched again, all of them.
  Result<void> Finish(size_t index) {
    Job& job = jobs_[index];
    Result<void> finished = job.part->Finish([this] { return Stop(); });
    if (!finished.ok()) {
      if (finished.error().code() != Code::kNetwork) return finished;
      bytes_done_ -= static_cast<int64_t>(job.part->done_bytes());
      LODE_TRY(job.part->Restart(/*whole=*/false));  // the next pull must not find bad bytes
      if (job.wrong_hash_once) return finished;
      job.wrong_hash_once = true;
      const std::lock_guard lock(mutex_);
      queue_.push_front({index, nullptr});
      return {};
    }
    job.part.reset();
    const std::lock_guard lock(mutex_);
    ++files_done_;
    changed_.notify_all();
    return {};
  }

  // Gets the rest of one segment, with as many requests as it takes. `open`: this is the first
  // segment of its file; the others are queued when the server has shown that it knows ranges, or
  // the file is taken as one piece when it does not.
  Result<void> Fetch(HttpSession& session, size_t index, PartFile::Segment* segment,
                     std::vector<PartFile::Segment*>* open) {
    Job& job = jobs_[index];
    Patience patience(
        options_.retry, [this] { return Stop(); }, [this](const std::string& note) { Note(note); });
    uint64_t best = segment->done;
    bool alone = open != nullptr;  // nobody else writes to this file
    Result<void> fetched;
    while (!segment->complete()) {
      HttpRequest request;
      request.url = job.file->url;
      request.token = options_.token;
      const bool whole = segment->begin == 0 && segment->end == job.file->size;
      if (!whole || segment->done > 0) {
        request.range_first = static_cast<int64_t>(segment->begin + segment->done);
        request.range_last = static_cast<int64_t>(segment->end) - 1;
      }
      request.on_headers = [&](const HttpResponse& response) -> Result<void> {
        if (response.status == 206) {
          LODE_TRY(CheckRange(response, request, *job.file));
          if (alone && open->size() > 1) {
            Queue(index, open);
            alone = false;
          }
          return {};
        }
        if (response.status < 200 || response.status > 299) return {};
        if (request.range_first >= 0) {  // the range was ignored: this is the whole file
          if (!alone) return Error(Code::kNetwork, "the hub ignores ranges now and then");
          bytes_done_ -= static_cast<int64_t>(job.part->done_bytes());
          LODE_TRY(job.part->Restart(/*whole=*/true));
          segment = job.part->segments()[0].get();
          open->resize(1);
          const std::lock_guard lock(mutex_);
          job.segments_left = 1;
        }
        return {};
      };
      request.on_body = [&](std::string_view bytes) -> Result<void> {
        LODE_TRY(job.part->Write(segment, bytes));
        received_ += bytes.size();
        bytes_done_ += static_cast<int64_t>(bytes.size());
        return {};
      };
      Result<HttpResponse> response = session.Send(request);
      if (response.ok() && segment->complete()) break;
      Error error = response.ok() ? Explain(*response, *job.file) : std::move(response).error();
      // Only bytes that were never here before are progress; else a server without ranges that
      // breaks off every time would be asked forever.
      if (segment->done > best) {
        best = segment->done;
        patience.Progressed();
      }
      const int64_t retry_after_s = response.ok() ? response->retry_after_s : 0;
      fetched = patience.AfterFailure(std::move(error), retry_after_s);
      if (!fetched.ok()) break;
    }
    return fetched;
  }

  Error Explain(const HttpResponse& response, const DownloadFile& file) const {
    if (response.status == 200 || response.status == 206) {
      return Error(Code::kNetwork, "the connection ended early");
    }
    if (MayRetry(response.status)) return RetryableError(response);
    return plan_.explain(response, file);
  }

  static Result<void> CheckRange(const HttpResponse& response, const HttpRequest& request,
                                 const DownloadFile& file) {
    int64_t first = -1;
    int64_t total = -1;
    if (!ParseContentRange(response.Header("content-range"), &first, &total) ||
        first != request.range_first || (total >= 0 && static_cast<uint64_t>(total) != file.size)) {
      return Error(Code::kNetwork, "the hub sends another range than the one asked for (" +
                                       Quote(response.Header("content-range")) + ")");
    }
    return {};
  }

  void Queue(size_t index, std::vector<PartFile::Segment*>* open) {
    const std::lock_guard lock(mutex_);
    // In front of files that have not begun: few files are under way at any time.
    for (size_t i = open->size(); i > 1; --i) queue_.push_front({index, (*open)[i - 1]});
    open->resize(1);
    changed_.notify_all();
  }

  void Note(const std::string& note) {
    const std::lock_guard lock(mutex_);
    note_ = note;
  }

  // Under mutex_, or when the workers are gone.
  PullProgress Progress() {
    PullProgress progress;
    progress.bytes_done = static_cast<uint64_t>(std::max<int64_t>(bytes_done_, 0));
    progress.bytes_total = bytes_total_;
    progress.files_done = plan_.files_before + static_cast<int>(files_done_);
    progress.files_total = plan_.files_before + static_cast<int>(jobs_.size());
    progress.note = note_;
    const Clock::time_point now = Clock::now();
    samples_.emplace_back(now, received_);
    while (samples_.size() > 2 &&
           std::chrono::duration<double>(now - samples_.front().first).count() >
               kRateWindowSeconds) {
      samples_.pop_front();
    }
    const double seconds = std::chrono::duration<double>(now - samples_.front().first).count();
    if (seconds > 0) {
      progress.bytes_per_second =
          static_cast<double>(received_ - samples_.front().second) / seconds;
    }
    if (progress.bytes_per_second > 0) {
      progress.seconds_left =
          static_cast<double>(bytes_total_ - progress.bytes_done) / progress.bytes_per_second;
    }
    return progress;
  }

  const DownloadPlan& plan_;
  const PullOptions& options_;
  std::vector<Job> jobs_;  // each is touched by the workers that hold one of its segments
  std::atomic<bool> failed_ = false;
  std::atomic<uint64_t> received_ = 0;
  std::atomic<int64_t> bytes_done_ = 0;
  uint64_t bytes_total_ = 0;

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<Task> queue_;
  size_t files_done_ = 0;
  int working_ = 0;
  std::optional<Error> error_;
  std::string note_;
  std::deque<std::pair<Clock::time_point, uint64_t>> samples_;
};

}  // namespace

Result<uint64_t> Download(const DownloadPlan& plan, const PullOptions& options) {
  return Downloader(plan, options).Run();
}

bool MayRetry(int status) {
  return status == 408 || status == 416 || status == 429 || (status >= 500 && status <= 599);
}

Error RetryableError(const HttpResponse& response) {
  if (response.status == 429) {
    return Error(Code::kNetwork, "the hub has had too many requests (status 429)",
                 response.retry_after_s == 0 ? "wait a few minutes, then pull again" : "");
  }
  return Error(Code::kNetwork, Format("the hub answers with status %d", response.status));
}

}  // namespace lode::hub
