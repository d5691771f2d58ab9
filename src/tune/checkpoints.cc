#include "tune/checkpoints.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/file.h"
#include "base/random.h"
#include "base/text.h"
#include "base/thread_pool.h"
#include "formats/hf_checkpoint.h"
#include "formats/safetensors.h"
#include "formats/safetensors_writer.h"
#include "tune/atomic_folder.h"

namespace lode::tune {
namespace {

constexpr int kVersion = 1;
constexpr char kPrefix[] = "step-";

uint64_t Digest(std::span<const float> numbers, uint64_t digest) {
  for (const float number : numbers) digest = MixBits(digest ^ std::bit_cast<uint32_t>(number));
  return digest;
}

Json ToJson(const RunState& s) {
  return {{"step", s.step},
          {"skips", s.skips},
          {"skips_in_row", s.skips_in_row},
          {"smooth_loss", s.smooth_loss},
          {"best_loss", std::isfinite(s.best_loss) ? Json(s.best_loss) : Json(nullptr)},
          {"best_step", s.best_step},
          {"since_best", s.since_best},
          {"judged_step", s.judged_step},
          {"seconds", s.seconds},
          {"metrics_bytes", s.metrics_bytes},
          {"cursor", s.cursor}};
}

RunState StateOf(const Json& json) {
  RunState s;
  s.step = GetInt(json, "step");
  s.skips = GetInt(json, "skips");
  s.skips_in_row = GetInt(json, "skips_in_row");
  s.smooth_loss = GetDouble(json, "smooth_loss");
  s.best_loss = GetDouble(json, "best_loss", s.best_loss);
  s.best_step = GetInt(json, "best_step");
  s.since_best = GetInt(json, "since_best");
  s.judged_step = GetInt(json, "judged_step", -1);
  s.seconds = GetDouble(json, "seconds");
  s.metrics_bytes = static_cast<uint64_t>(GetInt(json, "metrics_bytes"));
  if (const Json* cursor = FindKey(json, "cursor")) s.cursor = *cursor;
  return s;
}

Result<void> ReadMoments(const std::string& path, std::span<float> first, std::span<float> second) {
  LODE_ASSIGN(const auto map, MappedFile::Open(path));
  LODE_ASSIGN(const formats::SafetensorsFile file, formats::ParseSafetensors(map->bytes(), path));
  for (const auto& [name, target] : {std::pair("first", first), std::pair("second", second)}) {
    const auto info = std::find_if(file.tensors.begin(), file.tensors.end(),
                                   [&](const auto& t) { return t.name == name; });
    if (info == file.tensors.end() || info->dtype != tensor::DType::kF32 ||
        info->bytes != target.size_bytes()) {
      return Error(Code::kBadInput, path + ": does not hold the moments of this model");
    }
    std::memcpy(target.data(), map->bytes().data() + info->file_offset, info->bytes);
  }
  return {};
}

}  // namespace

std::string Checkpoints::PathOf(const std::string& folder, int64_t step) {
  return folder + "/" + kPrefix + std::to_string(step);
}

std::vector<int64_t> Checkpoints::Steps(const std::string& folder) {
  std::vector<int64_t> steps;
  const auto names = ListFolder(folder);
  if (!names.ok()) return steps;
  for (const std::string& name : *names) {
    int64_t step = 0;
    if (StartsWith(name, kPrefix) && ParseInt64(name.substr(sizeof(kPrefix) - 1), &step)) {
      steps.push_back(step);
    }
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

Checkpoints::Checkpoints(std::string folder, WeightList* weights, train::AdamW* optimizer,
                         TextFiles files, RunIdentity identity, int64_t keep)
    : folder_(std::move(folder)),
      weights_(weights),
      optimizer_(optimizer),
      files_(std::move(files)),
      identity_(std::move(identity)),
      keep_(keep) {}

Checkpoints::~Checkpoints() {
  if (thread_.joinable()) thread_.join();
}

uint64_t Checkpoints::Bytes() const {
  return (static_cast<uint64_t>(weights_->count()) + optimizer_->first().size() +
          optimizer_->second().size()) *
         sizeof(float);
}

Result<void> Checkpoints::Wait() {
  if (thread_.joinable()) thread_.join();
  Result<void> written = std::move(written_);
  written_ = {};
  return written;
}

Result<void> Checkpoints::Save(const RunState& state) {
  LODE_TRY(Wait());
  values_.resize(static_cast<size_t>(weights_->count()));
  weights_->CopyTo(values_);
  first_.assign(optimizer_->first().begin(), optimizer_->first().end());
  second_.assign(optimizer_->second().begin(), optimizer_->second().end());
  updates_ = optimizer_->steps();
  thread_ = std::thread([this, state] {
    UseProcessAffinity();
    written_ = Write(state);
    if (written_.ok()) {
      Prune(state);
    } else {
      written_.error().AddContext("the checkpoint of step " + std::to_string(state.step));
    }
  });
  return {};
}

uint64_t Checkpoints::DigestOfCopy() const {
  return Digest(second_, Digest(first_, Digest(values_, 0)));
}

Result<void> Checkpoints::Write(const RunState& state) {
  LODE_TRY(MakeFolders(folder_));
  LODE_ASSIGN(AtomicFolder folder, AtomicFolder::Create(PathOf(folder_, state.step)));
  LODE_TRY(weights_->Write(folder.temporary(), values_, tensor::DType::kF32, files_));
  formats::SafetensorsWriter writer;
  writer.AddTensor("first", tensor::DType::kF32, {std::ssize(first_)});
  writer.AddTensor("second", tensor::DType::kF32, {std::ssize(second_)});
  LODE_TRY(writer.BeginFile(folder.temporary() + "/optimizer.safetensors"));
  LODE_TRY(writer.Write(std::as_bytes(std::span(first_))));
  LODE_TRY(writer.Write(std::as_bytes(std::span(second_))));
  LODE_TRY(writer.Finish());
  const Json run = {{"version", kVersion},     {"state", ToJson(state)},
                    {"updates", updates_},     {"digest", DigestOfCopy()},
                    {"data", identity_.data},  {"settings", identity_.settings},
                    {"model", identity_.model}};
  LODE_TRY(WriteFileAtomic(folder.temporary() + "/run.json", DumpJson(run, 2) + "\n"));
  return folder.Commit();
}

void Checkpoints::Prune(const RunState& state) {
  std::vector<int64_t> steps = Steps(folder_);
  std::erase_if(steps, [&](int64_t step) { return step == state.best_step || step > state.step; });
  for (size_t i = 0; i + static_cast<size_t>(keep_) < steps.size(); ++i) {
    RemoveFolder(PathOf(folder_, steps[i]));
  }
}

Result<RunState> Checkpoints::Read(
    int64_t step, const std::function<Result<void>(const RunIdentity& saved)>& check,
    bool* refused) {
  const std::string path = PathOf(folder_, step);
  LODE_ASSIGN(const Json run, ReadJsonFile(path + "/run.json"));
  const Json* state = FindKey(run, "state");
  const Json* settings = FindKey(run, "settings");
  const Json* model = FindKey(run, "model");
  const Json *data = FindKey(run, "data"), *digest = FindKey(run, "digest");
  if (GetInt(run, "version") != kVersion || state == nullptr || settings == nullptr ||
      model == nullptr || data == nullptr || !data->is_number_unsigned() || digest == nullptr ||
      !digest->is_number_unsigned() || GetInt(*state, "step", -1) != step) {
    return Error(Code::kBadInput, path + "/run.json: is not what this program writes");
  }
  if (Result<void> same = check({*settings, *model, data->get<uint64_t>()}); !same.ok()) {
    *refused = true;
    return std::move(same.error().AddContext(path));
  }
  LODE_ASSIGN(const auto source, formats::HfCheckpoint::Open(path));
  LODE_TRY(weights_->Read(*source));
  LODE_TRY(ReadMoments(path + "/optimizer.safetensors", optimizer_->first(), optimizer_->second()));
  optimizer_->SetSteps(GetInt(run, "updates"));
  std::vector<float> values(static_cast<size_t>(weights_->count()));
  weights_->CopyTo(values);
  if (Digest(optimizer_->second(), Digest(optimizer_->first(), Digest(values, 0))) !=
      digest->get<uint64_t>()) {
    return Error(Code::kBadInput, path + ": its numbers are not those that were saved",
                 "the disk or a copy damaged it");
  }
  return StateOf(*state);
}

Result<std::optional<RunState>> Checkpoints::Restore(
    const std::function<Result<void>(const RunIdentity& saved)>& check,
    std::vector<std::string>* notes) {
  std::vector<int64_t> steps = Steps(folder_);
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    bool refused = false;
    Result<RunState> state = Read(*step, check, &refused);
    if (state.ok()) return std::optional<RunState>(*state);
    if (refused) return std::move(state).error();
    notes->push_back(state.error().ToString());
  }
  if (steps.empty()) return std::optional<RunState>();
  return Error(Code::kBadInput, folder_ + ": no checkpoint can be read: " + notes->back());
}

}  // namespace lode::tune
