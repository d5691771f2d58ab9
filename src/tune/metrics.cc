#include "tune/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>

#include "base/file.h"
#include "tune/write_all.h"

namespace lode::tune {
namespace {

// JSON has no infinity.
Json Finite(double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); }

}  // namespace

Json ToJson(const StepMetrics& m) {
  Json line = {{"step", m.step},       {"loss", Finite(m.loss)},
               {"balance", m.balance}, {"grad_norm", Finite(m.norm)},
               {"lr", m.rate},         {"tokens_per_second", m.tokens_per_second},
               {"seconds", m.seconds}, {"imbalance", m.imbalance}};
  for (const auto& [name, value] : m.more) line[name] = Finite(value);
  if (m.skipped) line["skipped"] = true;
  return line;
}

Json ToJson(const EvaluationMetrics& m) {
  if (m.rewarded()) {
    return {{"step", m.step},
            {"held_out_reward", m.reward},
            {"held_out_tokens", m.tokens},
            {"best", m.best}};
  }
  return {{"step", m.step},
          {"held_out_loss", Finite(m.loss)},
          {"held_out_nats_per_byte", Finite(m.nats_per_byte)},
          {"held_out_tokens", m.tokens},
          {"best", m.best}};
}

Result<std::unique_ptr<MetricsFile>> MetricsFile::Open(const std::string& path, uint64_t bytes) {
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor < 0) return SystemError("cannot open", path, errno);
  std::unique_ptr<MetricsFile> file(new MetricsFile(path, descriptor, bytes));
  const off_t size = lseek(descriptor, 0, SEEK_END);
  if (size < 0) return SystemError("cannot read", path, errno);
  if (static_cast<uint64_t>(size) < bytes) {
    return Error(Code::kBadInput, path + ": is shorter than when the checkpoint was made");
  }
  if (ftruncate(descriptor, static_cast<off_t>(bytes)) != 0 ||
      lseek(descriptor, static_cast<off_t>(bytes), SEEK_SET) < 0) {
    return SystemError("cannot write", path, errno);
  }
  return file;
}

MetricsFile::~MetricsFile() { close(descriptor_); }

Result<void> MetricsFile::Append(const Json& line) {
  const std::string text = DumpJson(line) + "\n";
  LODE_TRY(WriteAll(descriptor_, text, path_));
  bytes_ += text.size();
  return {};
}

}  // namespace lode::tune
