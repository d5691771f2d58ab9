#include "cli/trace.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <random>
#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"

namespace lode::cli {
namespace {

constexpr size_t kSaltDigits = 32;
constexpr uint64_t kBits = (uint64_t{1} << 52) - 1;  // whole numbers that every reader of JSON has

double Now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

double Milliseconds(double seconds) { return std::round(seconds * 1e3); }

// The salt and the start in FILE.salt; made when it is not there.
Result<void> ReadSalt(const std::string& path, std::string* salt, double* start) {
  if (!FileExists(path)) {
    std::random_device random;
    while (salt->size() < kSaltDigits) *salt += Format("%08x", random());
    *start = Now();
    LODE_TRY(WriteFileAtomic(path, Format("%s %.3f\n", salt->c_str(), *start)));
    if (::chmod(path.c_str(), 0600) != 0) {
      return SystemError("cannot change the mode of", path, errno);
    }
  }
  LODE_ASSIGN(const std::string text, ReadFile(path, 256));
  const size_t blank = text.find(' ');
  *salt = text.substr(0, blank);
  const std::string rest = blank == std::string::npos ? "" : text.substr(blank + 1);
  if (salt->size() == kSaltDigits && ParseDouble(rest.substr(0, rest.find('\n')), start)) return {};
  return Error(Code::kBadInput, path + ": is no salt of a trace",
               "begin another file, or remove both");
}

}  // namespace

std::vector<uint64_t> TraceBlocks(std::span<const int32_t> tokens, const std::string& salt) {
  std::vector<uint64_t> blocks;
  runtime::ContextDigest chain = runtime::Sha256("lode.trace.1 " + salt);
  std::vector<std::byte> text;
  for (size_t at = 0; at < tokens.size(); at += kTraceBlock) {
    const auto block = tokens.subspan(at, std::min<size_t>(kTraceBlock, tokens.size() - at));
    text.assign(chain.begin(), chain.end());
    const auto ids = std::as_bytes(block);
    text.insert(text.end(), ids.begin(), ids.end());
    chain = runtime::Sha256(text);
    uint64_t number = 0;
    std::memcpy(&number, chain.data(), sizeof(number));
    blocks.push_back(number & kBits);
  }
  return blocks;
}

Result<TraceFile> TraceFile::Open(const std::string& path, bool ids) {
  TraceFile trace;
  trace.path_ = path;
  trace.ids_ = ids;
  LODE_TRY(ReadSalt(path + ".salt", &trace.salt_, &trace.start_));
  return trace;
}

Result<void> TraceFile::Add(const TracedRequest& request) {
  Json line;
  const double took = request.prompt_seconds + request.answer_seconds;
  line["timestamp"] = std::max(0.0, Milliseconds(Now() - took - start_));
  const auto prompt = request.tokens.first(static_cast<size_t>(request.prompt));
  const auto answer = request.tokens.subspan(static_cast<size_t>(request.prompt));
  line["input_length"] = prompt.size();
  line["output_length"] = answer.size();
  if (ids_) {
    line["prompt"] = std::vector<int32_t>(prompt.begin(), prompt.end());
    line["output"] = std::vector<int32_t>(answer.begin(), answer.end());
  } else {
    line["block_tokens"] = kTraceBlock;
    line["hash_ids"] = TraceBlocks(prompt, salt_);
    // From the first block that is not the prompt's alone.
    const std::vector<uint64_t> all = TraceBlocks(request.tokens, salt_);
    const auto first = all.begin() + request.prompt / kTraceBlock;
    line["output_hash_ids"] = std::vector<uint64_t>(first, all.end());
  }
  Json probes = Json::array();
  for (const runtime::Probe& probe : request.probes) {
    probes.push_back({{"offset", probe.offset}, {"role", Name(probe.role)}});
  }
  line["probes"] = std::move(probes);
  line["finish"] = request.length ? "length" : "stop";
  line["cached"] = request.reused;
  line["reason"] = request.reason;
  line["prompt_ms"] = Milliseconds(request.prompt_seconds);
  line["output_ms"] = Milliseconds(request.answer_seconds);
  const std::string text = DumpJson(line) + "\n";
  const int file = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (file < 0) return SystemError("cannot open", path_, errno);
  const ssize_t written = ::write(file, text.data(), text.size());
  const int error = errno;
  ::close(file);
  if (written == static_cast<ssize_t>(text.size())) return {};
  return SystemError("cannot write", path_, written < 0 ? error : ENOSPC);
}

}  // namespace lode::cli
