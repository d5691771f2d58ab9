// Downloads a list of files, each in parallel ranges where the server allows it, and verifies them.
// It knows HTTP and part files, not what a model is.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "hub/http.h"
#include "hub/pull.h"

namespace lode::hub {

struct DownloadFile {
  std::string url;
  std::string path;  // where it shall lie; its folder exists
  std::string name;  // for messages
  uint64_t size = 0;
  std::string hash;
};

struct DownloadPlan {
  std::vector<DownloadFile> files;
  uint64_t bytes_before = 0;  // for the progress: what is there already
  int files_before = 0;
  // An answer that is neither bytes, nor worth another try, as a sentence.
  std::function<Error(const HttpResponse&, const DownloadFile&)> explain;
};

// Returns the bytes received. The first error stops all transfers; parts are kept.
Result<uint64_t> Download(const DownloadPlan& plan, const PullOptions& options);

// Whether to ask again after this status: overload and the server's own errors.
bool MayRetry(int status);
// What a status that may be retried says, for people.
Error RetryableError(const HttpResponse& response);

}  // namespace lode::hub
