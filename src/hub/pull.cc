#include "hub/pull.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "hub/download.h"
#include "hub/hash.h"
#include "hub/http.h"
#include "hub/patience.h"
#include "hub/select.h"
#include "hub/store.h"

namespace lode::hub {
namespace {

constexpr size_t kListBytesMax = size_t{64} << 20;
constexpr size_t kFilesMax = 100'000;

// What a hub says about one revision.
struct Revision {
  std::string sha;
  std::vector<RemoteFile> files;
};

std::string FolderOf(const std::string& path) { return path.substr(0, path.rfind('/')); }

// Only one pull of a model at a time: two would write the same parts.
class ModelLock {
 public:
  static Result<ModelLock> Take(const std::string& folder, const std::string& model) {
    LODE_TRY(MakeFolders(folder));
    const std::string path = folder + "/.lock";
    ModelLock lock;
    lock.descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (lock.descriptor_ < 0) return SystemError("cannot write", path, errno);
    if (::flock(lock.descriptor_, LOCK_EX | LOCK_NB) != 0) {
      return Error(Code::kBadInput, "another pull of " + model + " is running",
                   "wait until it is done");
    }
    return lock;
  }
  ModelLock(ModelLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  ~ModelLock() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

 private:
  ModelLock() = default;
  int descriptor_ = -1;
};

class Puller {
 public:
  Puller(const PullOptions& options, ModelName model, Store store)
      : options_(options), model_(std::move(model)), store_(std::move(store)) {}

  Result<PullResult> Run() {
    LODE_TRY(CheckOptions());
    LODE_ASSIGN(session_, HttpSession::Create({.stall_timeout_s = options_.stall_timeout_s},
                                              [this] { return Cancelled(); }));
    LODE_ASSIGN(revision_, Resolve());
    LODE_ASSIGN(std::vector<RemoteFile> files,
                SelectFiles(revision_.files, {model_.Id(), model_.file, options_.include}));
    for (RemoteFile& file : files) {
      if (!file.size_known) LODE_TRY(AskSize(&file));
    }
    LODE_ASSIGN(const ModelLock lock, ModelLock::Take(store_.ModelFolder(model_), model_.Id()));
    LODE_ASSIGN(const DownloadPlan plan, Plan(files));
    LODE_TRY(CheckSpace(plan));
    PullResult result;
    if (!plan.files.empty()) {
      LODE_ASSIGN(result.bytes_downloaded, Download(plan, options_));
    }
    LODE_TRY(Commit(files, plan));
    result.sha = revision_.sha;
    result.path = Final("");
    result.path.pop_back();
    if (!model_.file.empty()) result.path = Final(model_.file);
    result.files = static_cast<int>(files.size());
    for (const RemoteFile& file : files) result.bytes += file.size;
    return result;
  }

 private:
  bool Cancelled() const { return options_.cancel != nullptr && options_.cancel->load(); }
  std::string Final(const std::string& name) const {
    return store_.RevisionFolder(model_, revision_.sha) + "/" + name;
  }
  std::string Partial(const std::string& name) const {
    return store_.PartialFolder(model_, revision_.sha) + "/" + name;
  }
  std::string Host() const { return UrlForPeople(options_.endpoint); }
  std::string FileUrl(const std::string& name) const {
    return Endpoint() + "/" + model_.Id() + "/resolve/" + revision_.sha + "/" +
           UrlEscape(name, /*keep_slashes=*/true);
  }
  std::string Endpoint() const {
    std::string endpoint = options_.endpoint;
    while (EndsWith(endpoint, "/")) endpoint.pop_back();
    return endpoint;
  }

  Result<void> CheckOptions() const {
    if (OriginOf(options_.endpoint).empty()) {
      return Error(Code::kBadInput,
                   "the endpoint " + Quote(options_.endpoint) + " is not an http or https address");
    }
    for (const char c : options_.token) {
      if (c <= 0x20 || c == 0x7F) {
        return Error(Code::kBadInput, "the token has characters that no token has",
                     "set HF_TOKEN to the token alone");
      }
    }
    const std::string& revision = options_.revision;
    const bool plain =
        !revision.empty() && revision.size() <= 200 && revision[0] != '.' &&
        std::all_of(revision.begin(), revision.end(), [](unsigned char c) {
          return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-' || c == '/' || c == '+';
        });
    if (!plain || revision.find("..") != std::string::npos) {
      return Error(Code::kBadInput, Quote(revision) + " is not the name of a revision",
                   "give a branch, a tag or a commit");
    }
    return {};
  }

  // Sends until there is an answer that another try would not change.
  Result<HttpResponse> Send(const HttpRequest& request) {
    Patience patience(
        options_.retry, [this] { return Cancelled(); },
        [this](const std::string& note) {
          if (!options_.progress) return;
          PullProgress progress;
          progress.note = note;
          options_.progress(progress);
        });
    for (;;) {
      Result<HttpResponse> response = session_->Send(request);
      if (response.ok() && !MayRetry(response->status)) return response;
      const int64_t retry_after_s = response.ok() ? response->retry_after_s : 0;
      Error error = response.ok() ? RetryableError(*response) : std::move(response).error();
      LODE_TRY(patience.AfterFailure(std::move(error), retry_after_s));
    }
  }

  Result<Revision> Resolve() {
    HttpRequest request;
    request.url = Endpoint() + "/api/models/" + model_.Id() + "/revision/" +
                  UrlEscape(options_.revision) + "?blobs=true";
    request.token = options_.token;
    std::string body;
    request.on_headers = [&](const HttpResponse&) -> Result<void> {
      body.clear();
      return {};
    };
    request.on_body = [&](std::string_view bytes) -> Result<void> {
      if (body.size() + bytes.size() > kListBytesMax) {
        return Error(Code::kBadInput, Host() + " sends an endless list of files");
      }
      body += bytes;
      return {};
    };
    LODE_ASSIGN(const HttpResponse response, Send(request));
    if (response.status != 200) return Refused(response, "");
    const Result<Json> json = ParseJson(body);
    const Json* list = json.ok() ? FindKey(*json, "siblings") : nullptr;
    Revision revision;
    if (json.ok()) revision.sha = GetString(*json, "sha");
    if (list == nullptr || !list->is_array() || revision.sha.size() < 7 ||
        !IsHex(revision.sha, std::min<size_t>(revision.sha.size(), 64))) {
      return Error(Code::kBadInput, Host() + " does not speak the hub's language",
                   "check the endpoint: " + options_.endpoint);
    }
    LODE_TRY(ReadFiles(*list, &revision));
    return revision;
  }

  Result<void> ReadFiles(const Json& list, Revision* revision) const {
    if (list.size() > kFilesMax) {
      return Error(Code::kBadInput, model_.Id() + " has too many files");
    }
    std::set<std::string> names;
    for (const Json& entry : list) {
      RemoteFile file;
      file.name = GetString(entry, "rfilename");
      // One name that is not honest makes the whole answer one that is not trusted.
      if (Result<void> checked = CheckFileName(file.name); !checked.ok()) {
        return checked.error().AddContext(model_.Id() + " on " + Host());
      }
      if (!names.insert(file.name).second) {
        return Error(Code::kBadInput,
                     model_.Id() + " lists the file " + Quote(file.name) + " twice");
      }
      const Json* lfs = FindKey(entry, "lfs");
      const Json& sized = lfs != nullptr && lfs->is_object() ? *lfs : entry;
      const int64_t size = GetInt(sized, "size", -1);
      file.size_known = size >= 0;
      file.size = file.size_known ? static_cast<uint64_t>(size) : 0;
      const std::string sha256 = lfs != nullptr ? GetString(*lfs, "sha256") : "";
      const std::string blob = lfs == nullptr ? GetString(entry, "blobId") : "";
      if (IsHex(sha256, 64)) file.hash = sha256;
      if (IsHex(blob, 40)) file.hash = blob;
      revision->files.push_back(std::move(file));
    }
    return {};
  }

  // For hubs whose list has no sizes: the answer to HEAD, or of the redirect itself, has them.
  Result<void> AskSize(RemoteFile* file) {
    HttpRequest request;
    request.url = FileUrl(file->name);
    request.token = options_.token;
    request.head = true;
    request.follow = false;
    LODE_ASSIGN(HttpResponse response, Send(request));
    std::string size = response.Header("x-linked-size");
    std::string tag = response.Header("x-linked-etag");
    if (response.status >= 300 && response.status < 400 && size.empty()) {
      request.follow = true;
      LODE_ASSIGN(response, Send(request));
    }
    if (response.status < 200 || response.status >= 400) return Refused(response, file->name);
    if (size.empty()) size = response.Header("content-length");
    if (tag.empty()) tag = response.Header("etag");
    if (StartsWith(tag, "W/")) tag = tag.substr(2);
    std::erase(tag, '"');
    int64_t bytes = -1;
    if (!ParseInt64(size, &bytes) || bytes < 0) {
      return Error(Code::kBadInput, Host() + " does not tell the size of " + Quote(file->name));
    }
    file->size = static_cast<uint64_t>(bytes);
    file->size_known = true;
    if (IsHex(tag, 64) || IsHex(tag, 40)) file->hash = tag;
    return {};
  }

  // A sentence for an answer that is a refusal; `file` is empty for the model itself.
  Error Refused(const HttpResponse& response, const std::string& file) const {
    const std::string code = response.Header("x-error-code");
    const std::string what = file.empty() ? model_.Id() : model_.Id() + ": " + file;
    const std::string page = Endpoint() + "/" + model_.Id();
    if (code == "GatedRepo" || response.status == 403) {
      if (options_.token.empty()) {
        return Error(
            Code::kBadInput,
            what + " is gated: " + Host() + " gives it to accounts that accepted its terms",
            "accept them at " + page + ", then set HF_TOKEN to a token of that account");
      }
      return Error(
          Code::kBadInput,
          what + " is gated, and the account of HF_TOKEN has no access to it" + TokenNote(),
          "accept its terms at " + page + ", and check that the token may read gated models");
    }
    if (response.status == 401) {
      if (options_.token.empty()) {
        return Error(
            Code::kBadInput, Host() + " wants a login for " + what + ", or there is no such model",
            "check the name; for a private or gated model set HF_TOKEN to a token of your account");
      }
      return Error(Code::kBadInput,
                   Host() + " does not accept the token in HF_TOKEN for " + what + TokenNote(),
                   "check the name and the token; it may have expired");
    }
    if (response.status == 404) {
      if (code == "RevisionNotFound") {
        return Error(Code::kNotFound, model_.Id() + " has no revision " + Quote(options_.revision),
                     "check --revision");
      }
      if (!file.empty())
        return Error(Code::kNotFound, Host() + " lists " + what + " but does not have it");
      return Error(Code::kNotFound,
                   "there is no model " + model_.Id() + " with a revision " +
                       Quote(options_.revision) + " on " + Host(),
                   "check the spelling; a private model needs HF_TOKEN");
    }
    return Error(Code::kBadInput,
                 Host() + Format(" answers with status %d for ", response.status) + what);
  }

  std::string TokenNote() const {
    if (TokenMayTravel(options_.endpoint)) return "";
    return " (it was not sent: the endpoint is not https)";
  }

  bool InStore(const RemoteFile& file) const {
    for (const StoredFile& stored : stored_) {
      if (stored.name == file.name) return stored.size == file.size && stored.hash == file.hash;
    }
    return false;
  }

  // A finished file of a pull that was not completed, or that lies in the store's folder without
  // being listed there (the machine stopped between the two). Read again: what is not listed is not
  // trusted.
  bool Finished(const RemoteFile& file) const {
    for (const std::string& path : {Partial(file.name), Final(file.name)}) {
      const Result<uint64_t> size = FileSize(path);
      if (!size.ok() || *size != file.size || file.hash.empty()) continue;
      if (options_.progress) {
        PullProgress progress;
        progress.note = "checking " + file.name;
        options_.progress(progress);
      }
      const HashKind kind = IsHex(file.hash, 64) ? HashKind::kSha256 : HashKind::kGitBlob;
      const Result<std::string> hash = HashFile(path, kind, [this] { return Cancelled(); });
      if (hash.ok() && *hash == file.hash) return true;
    }
    return false;
  }

  Result<DownloadPlan> Plan(const std::vector<RemoteFile>& files) {
    stored_ = store_.Files(model_, revision_.sha);
    DownloadPlan plan;
    for (const RemoteFile& file : files) {
      if (InStore(file) || Finished(file)) {
        plan.bytes_before += file.size;
        ++plan.files_before;
        continue;
      }
      LODE_TRY(MakeFolders(FolderOf(Partial(file.name))));
      plan.files.push_back(
          {FileUrl(file.name), Partial(file.name), file.name, file.size, file.hash});
    }
    plan.explain = [this](const HttpResponse& response, const DownloadFile& file) {
      return Refused(response, file.name);
    };
    return plan;
  }

  Result<void> CheckSpace(const DownloadPlan& plan) const {
    uint64_t needed = 0;
    for (const DownloadFile& file : plan.files) {
      struct stat info;
      uint64_t there = 0;
      if (::stat((file.path + ".part").c_str(), &info) == 0) {
        there = static_cast<uint64_t>(info.st_blocks) * 512;
      }
      const uint64_t missing = file.size - std::min(file.size, there);
      needed = needed > UINT64_MAX - missing ? UINT64_MAX : needed + missing;
    }
    struct statvfs disk;
    if (needed == 0 || ::statvfs(store_.home().c_str(), &disk) != 0) return {};
    const uint64_t free = static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize;
    if (needed <= free) return {};
    return Error(Code::kNoSpace,
                 "the pull needs " + HumanBytes(needed) + ", but only " + HumanBytes(free) +
                     " are free at " + Quote(store_.home(), 300),
                 "free some space, or set LODE_HOME to a folder on a larger disk");
  }

  Result<void> Commit(const std::vector<RemoteFile>& files, const DownloadPlan& plan) {
    std::vector<StoredFile> stored;
    for (const RemoteFile& file : files) {
      if (!InStore(file) && FileExists(Partial(file.name))) {
        LODE_TRY(MakeFolders(FolderOf(Final(file.name))));
        if (std::rename(Partial(file.name).c_str(), Final(file.name).c_str()) != 0) {
          return SystemError("cannot rename", Partial(file.name), errno);
        }
      }
      // Left over when the file finished after all by another pull's part.
      ::unlink((Partial(file.name) + ".part").c_str());
      ::unlink((Partial(file.name) + ".part.json").c_str());
      stored.push_back({file.name, file.size, file.hash});
    }
    LODE_TRY(store_.Add(model_, options_.revision, revision_.sha, stored));
    RemoveEmptyFolders();
    return {};
  }

  // Parts of another choice of files stay: they may be wanted again.
  void RemoveEmptyFolders() const {
    std::error_code error;
    const std::string partial = store_.PartialFolder(model_, revision_.sha);
    for (auto entry = std::filesystem::recursive_directory_iterator(partial, error);
         !error && entry != std::filesystem::recursive_directory_iterator();
         entry.increment(error)) {
      if (!entry->is_directory(error)) return;
    }
    std::filesystem::remove_all(partial, error);
    std::filesystem::remove(FolderOf(partial), error);  // only if it is empty
  }

  const PullOptions& options_;
  const ModelName model_;
  const Store store_;
  std::unique_ptr<HttpSession> session_;
  Revision revision_;
  std::vector<StoredFile> stored_;
};

}  // namespace

PullOptions PullOptionsFromEnvironment() {
  PullOptions options;
  const auto get = [](const char* name) {
    const char* value = std::getenv(name);
    std::string text = value != nullptr ? value : "";
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) {
      text.pop_back();  // a token is often read from a file
    }
    return text;
  };
  options.token = get("HF_TOKEN");
  if (std::string endpoint = get("HF_ENDPOINT"); !endpoint.empty()) options.endpoint = endpoint;
  return options;
}

Result<PullResult> Pull(const PullOptions& options) {
  LODE_ASSIGN(ModelName model, ParseModelName(options.model));
  if (!model.file.empty() && !options.include.empty()) {
    return Error(Code::kBadInput, "both a file and --include were given", "give one of them");
  }
  if (!options.home.empty()) return Puller(options, std::move(model), Store(options.home)).Run();
  LODE_ASSIGN(Store store, Store::OfUser());
  return Puller(options, std::move(model), std::move(store)).Run();
}

std::string ProgressLine(const PullProgress& progress, int columns) {
  std::string line;
  if (progress.bytes_total > 0) {
    const double part =
        static_cast<double>(progress.bytes_done) / static_cast<double>(progress.bytes_total);
    constexpr int kBarCells = 20;
    const int full = std::clamp(static_cast<int>(part * kBarCells), 0, kBarCells);
    line = Format("%3d%% [%s%s]  ", static_cast<int>(part * 100), std::string(full, '#').c_str(),
                  std::string(kBarCells - full, '.').c_str());
    line += HumanBytes(progress.bytes_done) + " of " + HumanBytes(progress.bytes_total);
    line += "  " + HumanBytes(static_cast<uint64_t>(progress.bytes_per_second)) + "/s";
    if (progress.seconds_left >= 0 && progress.seconds_left < 100 * 3600) {
      const int seconds = static_cast<int>(progress.seconds_left + 0.5);
      line += seconds >= 3600
                  ? Format("  %d:%02d:%02d left", seconds / 3600, seconds / 60 % 60, seconds % 60)
                  : Format("  %d:%02d left", seconds / 60, seconds % 60);
    }
    if (progress.files_total > 1) {
      line += Format("  file %d of %d", std::min(progress.files_done + 1, progress.files_total),
                     progress.files_total);
    }
  }
  if (!progress.note.empty()) line += (line.empty() ? "" : "  ") + progress.note;
  if (columns > 0 && line.size() > static_cast<size_t>(columns)) line.resize(columns);
  return line;
}

}  // namespace lode::hub
