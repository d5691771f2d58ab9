// lode quantize: a model in fewer bits, and what that costs.
#include "quant/quantize.h"

#include <algorithm>
#include <memory>
#include <optional>

#include "api/open.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "base/topology.h"
#include "cli/console.h"
#include "cli/evaluate.h"
#include "cli/verbs.h"

namespace lode::cli {
namespace {

constexpr std::pair<const char*, quant::Group> kGroupFlags[] = {
    {"--head", quant::Group::kHead},           {"--embedding", quant::Group::kEmbedding},
    {"--experts", quant::Group::kExperts},     {"--shared", quant::Group::kShared},
    {"--attention", quant::Group::kAttention}, {"--mamba", quant::Group::kMamba},
    {"--mlp", quant::Group::kMlp},             {"--latent", quant::Group::kLatent},
    {"--router", quant::Group::kRouter},       {"--mtp", quant::Group::kMtp}};

struct Flags {
  std::string in, out, type, imatrix, calibrate, save_imatrix, policy, report_on;
  std::string groups[std::size(kGroupFlags)];
  std::vector<std::string> tensors;
  int threads = 0;
  int64_t chunk_tokens = 512, chunks = 0;
  bool force = false, json = false, pure = false;
};

Result<quant::TypePolicy> PolicyOf(const Flags& flags) {
  quant::TypePolicy policy;
  if (!flags.policy.empty()) {
    LODE_ASSIGN(const std::string text, ReadFile(flags.policy));
    if (Result<void> read = quant::ReadPolicy(text, &policy); !read.ok()) {
      return std::move(read.error().AddContext(Quote(flags.policy, 300)));
    }
  }
  policy.type = flags.type;
  policy.pure = policy.pure || flags.pure;
  const auto matrix_type = [](const std::string& name) -> Result<tensor::DType> {
    LODE_ASSIGN(const tensor::DType dtype, tensor::DTypeFromName(name));
    if (tensor::Info(dtype).weights && tensor::Info(dtype).ggml_id >= 0) return dtype;
    return Error(Code::kUnsupported, "a matrix of a GGUF cannot be " + name);
  };
  for (size_t i = 0; i < std::size(kGroupFlags); ++i) {
    if (flags.groups[i].empty()) continue;
    LODE_ASSIGN(policy.groups[kGroupFlags[i].second], matrix_type(flags.groups[i]));
  }
  for (const std::string& entry : flags.tensors) {
    const size_t equals = entry.rfind('=');
    if (equals == std::string::npos || equals == 0) {
      return Error(Code::kBadInput, "--tensor " + Quote(entry) + " is not NAME=TYPE");
    }
    LODE_ASSIGN(const tensor::DType dtype, matrix_type(entry.substr(equals + 1)));
    policy.tensors.emplace_back(entry.substr(0, equals), dtype);
  }
  return policy;
}

// The model's own precision, so that what is measured is the weights.
Result<api::Running> OpenExact(std::shared_ptr<const tensor::TensorSource> source,
                               const Flags& flags) {
  api::RunOptions run;
  run.threads = flags.threads;
  run.context_tokens = flags.chunk_tokens;
  run.activations = api::ActivationMode::kF32;
  return api::Run(std::move(source), run);
}

// One chunk through the trunk, and through the MTP head when there is one.
Result<void> RunChunk(runtime::Engine& engine, const std::vector<int32_t>& tokens,
                      std::vector<float>* logits) {
  const auto width = static_cast<size_t>(engine.vocabulary());
  const auto rows_max = static_cast<size_t>(engine.rows_max());
  const auto hidden_width = static_cast<size_t>(engine.model().spec.width);
  LODE_ASSIGN(runtime::Sequence sequence, engine.NewSequence());
  constexpr size_t kBufferFloats = size_t{16} << 20;
  const size_t step = std::clamp<size_t>(kBufferFloats / width, 1, rows_max);
  logits->resize(step * width);
  std::vector<float> hidden;
  for (size_t at = 0; at < tokens.size(); at += step) {
    const size_t count = std::min(step, tokens.size() - at);
    LODE_TRY(engine.Append(sequence, std::span(tokens).subspan(at, count), logits->data(), true));
    hidden.insert(hidden.end(), engine.hidden(), engine.hidden() + count * hidden_width);
  }
  for (size_t at = 0; !engine.model().mtp.layers.empty() && at + 1 < tokens.size(); at += step) {
    const size_t count = std::min(step, tokens.size() - 1 - at);
    LODE_TRY(engine.Draft(sequence,
                          std::span(hidden).subspan(at * hidden_width, count * hidden_width),
                          std::span(tokens).subspan(at + 1, count), logits->data()));
  }
  return {};
}

Result<quant::Imatrix> Calibrate(const std::shared_ptr<const tensor::TensorSource>& source,
                                 const Flags& flags) {
  LODE_ASSIGN(const EvalText text, ReadEvalText(*source, flags.calibrate));
  const auto chunk = static_cast<size_t>(flags.chunk_tokens);
  size_t chunks = text.tokens.size() / chunk;
  if (chunks == 0) {
    return Error(Code::kBadInput,
                 Format("the calibration text has %zu tokens, but one chunk takes %zu",
                        text.tokens.size(), chunk),
                 "some hundred thousand tokens of what the model will be used for are good");
  }
  if (flags.chunks > 0) chunks = std::min(chunks, static_cast<size_t>(flags.chunks));
  LODE_ASSIGN(const quant::Matrices matrices, quant::Matrices::Open(*source));
  quant::Calibration calibration(matrices);
  LODE_ASSIGN(api::Running running, OpenExact(source, flags));
  running.engine->Observe(&calibration);
  ProgressBar bar("calibrate", "tok", static_cast<int64_t>(chunks * chunk));
  std::vector<float> logits;
  for (size_t i = 0; i < chunks; ++i) {
    std::vector<int32_t> tokens(text.tokens.begin() + static_cast<std::ptrdiff_t>(i * chunk),
                                text.tokens.begin() + static_cast<std::ptrdiff_t>((i + 1) * chunk));
    if (text.bos) tokens.front() = *text.bos;
    LODE_TRY(RunChunk(*running.engine, tokens, &logits));
    bar.Update(static_cast<int64_t>((i + 1) * chunk));
    if (Interrupted()) return InterruptedError();
  }
  bar.Finish();
  return calibration.Collected(flags.calibrate, static_cast<uint32_t>(chunks),
                               static_cast<uint32_t>(chunk));
}

// "0-3, 7": ascending numbers.
std::string Ranges(const std::vector<int64_t>& numbers) {
  std::vector<std::string> parts;
  for (size_t i = 0; i < numbers.size();) {
    size_t j = i;
    while (j + 1 < numbers.size() && numbers[j + 1] == numbers[j] + 1) ++j;
    parts.push_back(std::to_string(numbers[i]) +
                    (j > i ? "-" + std::to_string(numbers[j]) : std::string()));
    i = j + 1;
  }
  return Join(parts, ", ");
}

std::vector<const quant::MatrixReport*> WorstFirst(const quant::QuantizeReport& report) {
  std::vector<const quant::MatrixReport*> out;
  for (const quant::MatrixReport& matrix : report.matrices) out.push_back(&matrix);
  const auto key = [](const quant::MatrixReport* m) { return m->weighted.value_or(m->error); };
  std::stable_sort(out.begin(), out.end(), [&](auto* a, auto* b) { return key(a) > key(b); });
  return out;
}

std::string UnreachedText(const quant::QuantizeReport& report) {
  std::string text;
  for (const quant::MatrixReport& matrix : report.matrices) {
    if (matrix.unreached.empty()) continue;
    text += Format("  %-32s %zu: ", matrix.name.c_str(), matrix.unreached.size()) +
            Ranges(matrix.unreached) + "\n";
  }
  if (text.empty()) return "";
  return "WARNING: calibration never reached these experts; they take the mean of the others of\n"
         "their layer. A longer or more varied text reaches them:\n" + text;
}

std::string ReportText(const quant::QuantizeReport& report, const std::string& out) {
  std::vector<std::string> types;
  for (const auto& [type, count] : report.types) {
    types.push_back(Format("%lld %s", static_cast<long long>(count), type.c_str()));
  }
  std::string text = out + ": " + HumanBytes(report.bytes) +
                     Format(", %.3f bits a weight (%.3f in the matrices), %lld tensors (",
                            report.bits, report.matrix_bits,
                            static_cast<long long>(report.tensors)) +
                     Join(types, ", ") + ")\n";
  if (report.seconds > 0) {
    const double rate = static_cast<double>(report.source_bytes) / report.seconds;
    text += Format("%.1f s, ", report.seconds) + HumanBytes(static_cast<uint64_t>(rate)) +
            "/s of the source\n";
  }
  text += "\nrelative errors, the largest first:\n";
  constexpr size_t kShown = 12;
  size_t shown = 0;
  for (const quant::MatrixReport* matrix : WorstFirst(report)) {
    if (shown++ == kShown) break;
    text += Format("  %-32s %-6s %8.5f", matrix->name.c_str(), tensor::Name(matrix->to),
                   matrix->error);
    text += matrix->weighted ? Format("  weighted %8.5f\n", *matrix->weighted) : "\n";
  }
  if (report.matrices.size() > kShown) {
    text += Format("  .. and %zu more (--json has all)\n", report.matrices.size() - kShown);
  }
  for (const std::string& fallback : report.fallbacks) text += "note: " + fallback + "\n";
  for (const std::string& warning : report.warnings) text += "note: " + warning + "\n";
  return text + UnreachedText(report);
}

Json ReportJson(const quant::QuantizeReport& report) {
  Json matrices = Json::array();
  for (const quant::MatrixReport* matrix : WorstFirst(report)) {
    Json one = {{"name", matrix->name},         {"group", quant::Name(matrix->group)},
                {"from", tensor::Name(matrix->from)}, {"type", tensor::Name(matrix->to)},
                {"elements", matrix->elements}, {"bytes", matrix->bytes},
                {"error", matrix->error}};
    if (matrix->weighted) one["weighted_error"] = *matrix->weighted;
    if (!matrix->unreached.empty()) one["experts_never_reached"] = matrix->unreached;
    matrices.push_back(std::move(one));
  }
  return {{"bytes", report.bytes},          {"tensors", report.tensors},
          {"bits_per_weight", report.bits}, {"matrix_bits_per_weight", report.matrix_bits},
          {"seconds", report.seconds},      {"source_bytes", report.source_bytes},
          {"types", report.types},          {"paths", report.paths},
          {"fallbacks", report.fallbacks},  {"warnings", report.warnings},
          {"matrices", std::move(matrices)}};
}

Result<Evaluation> Judge(const std::shared_ptr<const tensor::TensorSource>& source,
                         const std::string& out, const std::string& file, const Flags& flags) {
  LODE_ASSIGN(const EvalText text, ReadEvalText(*source, file));
  LODE_ASSIGN(api::Running base, OpenExact(source, flags));
  LODE_ASSIGN(auto made, api::OpenSource(out));
  LODE_ASSIGN(api::Running model, OpenExact(std::move(made), flags));
  EvalOptions options;
  options.context = flags.chunk_tokens;
  options.chunks_max = flags.chunks;
  std::optional<ProgressBar> bar;
  Result<Evaluation> evaluation =
      Evaluate(model, &base, text, options, [&](int64_t done, int64_t all) {
        if (!bar) bar.emplace("report", "tok", all);
        bar->Update(done);
        return !Interrupted();
      });
  if (bar) bar->Finish();
  if (!evaluation.ok() && evaluation.error().code() == Code::kCancelled) return InterruptedError();
  return evaluation;
}

Result<quant::QuantizeReport> Write(const tensor::TensorSource& source, const Flags& flags,
                                    quant::TypePolicy policy, const quant::Imatrix* imatrix) {
  quant::QuantizeOptions options;
  options.policy = std::move(policy);
  options.imatrix = imatrix;
  options.imatrix_name = flags.imatrix.empty() ? flags.calibrate : flags.imatrix;
  options.force = flags.force;
  options.threads = flags.threads;
  std::optional<ProgressBar> bar;
  options.progress = [&](const quant::ConvertProgress& progress) {
    constexpr uint64_t kUnit = 1'000'000;
    if (!bar) bar.emplace("quantize", "MB", static_cast<int64_t>(progress.bytes_all / kUnit));
    bar->Update(static_cast<int64_t>(progress.bytes / kUnit));
    return !Interrupted();
  };
  Result<quant::QuantizeReport> report = quant::Quantize(source, flags.out, options);
  if (bar) bar->Finish();
  if (!report.ok() && report.error().code() == Code::kCancelled) return InterruptedError();
  return report;
}

Result<void> RunQuantize(Flags& flags) {
  if (!flags.imatrix.empty() && !flags.calibrate.empty()) {
    return Error(Code::kBadInput, "--imatrix and --calibrate exclude each other");
  }
  if (!flags.save_imatrix.empty() && flags.calibrate.empty() && flags.imatrix.empty()) {
    return Error(Code::kBadInput, "--save-imatrix needs --calibrate or --imatrix");
  }
  if (flags.threads <= 0) flags.threads = UsableCores();
  LODE_ASSIGN(quant::TypePolicy policy, PolicyOf(flags));
  LODE_ASSIGN(const auto source, api::OpenSource(flags.in));
  {  // What can be wrong with the policy is found before minutes of calibration.
    LODE_ASSIGN(const quant::Matrices matrices, quant::Matrices::Open(*source));
    LODE_TRY(quant::ChooseTypes(matrices, policy, false));
  }
  std::optional<quant::Imatrix> imatrix;
  if (!flags.imatrix.empty()) {
    LODE_ASSIGN(imatrix, quant::ReadImatrix(flags.imatrix));
  } else if (!flags.calibrate.empty()) {
    LODE_ASSIGN(imatrix, Calibrate(source, flags));
  }
  if (!flags.save_imatrix.empty()) LODE_TRY(quant::WriteImatrix(*imatrix, flags.save_imatrix));
  LODE_ASSIGN(const quant::QuantizeReport report,
              Write(*source, flags, std::move(policy), imatrix ? &*imatrix : nullptr));
  Json json = ReportJson(report);
  std::string text = ReportText(report, flags.out);
  const std::string& judge = flags.report_on.empty() ? flags.calibrate : flags.report_on;
  if (!judge.empty()) {
    LODE_ASSIGN(const Evaluation evaluation, Judge(source, report.paths.front(), judge, flags));
    json["evaluation"] = EvaluationJson(evaluation);
    text += "\non " + judge + ", against the source:\n" + EvaluationText(evaluation);
  }
  Print(flags.json ? DumpJson(json) + "\n" : text);
  return {};
}

}  // namespace

void AddQuantize(CLI::App& app, Action* action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* verb = app.add_subcommand(
      "quantize", "Write a model in fewer bits, and say what that costs");
  verb->add_option("IN", flags->in,
                   "the model: a .gguf file, a Hugging Face folder, demo, ORG/NAME")
      ->required();
  verb->add_option("OUT", flags->out, "what to write: NAME.gguf")->required();
  std::vector<std::string> types;
  for (const auto& [name, words] : quant::TypeChoices()) types.push_back(name);
  verb->add_option("TYPE", flags->type, "one of " + Join(types, ", "))->required();
  verb->add_option("--imatrix", flags->imatrix,
                   "importance of the columns, from --save-imatrix, or llama.cpp's");
  verb->add_option("--calibrate", flags->calibrate,
                   "measure that importance by running this text through the model");
  verb->add_option("--save-imatrix", flags->save_imatrix, "keep what --calibrate measured here");
  verb->add_option("--policy", flags->policy,
                   "a JSON file with types for groups of matrices and for single ones");
  for (size_t i = 0; i < std::size(kGroupFlags); ++i) {
    verb->add_option(kGroupFlags[i].first, flags->groups[i],
                     std::string("type of the matrices of: ") +
                         quant::Name(kGroupFlags[i].second));
  }
  verb->add_option("--tensor", flags->tensors, "NAME=TYPE for one tensor; '*' stands for anything");
  verb->add_flag("--pure", flags->pure, "all matrices in TYPE, no finer ones here and there");
  verb->add_option("--report-on", flags->report_on,
                   "a text for perplexity and KL against the source (default: --calibrate's)");
  verb->add_option("--chunk", flags->chunk_tokens, "tokens of a chunk of these texts")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 20));
  verb->add_option("--chunks", flags->chunks, "chunks at most of these texts")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  verb->add_option("--threads", flags->threads, "threads (default: all)")
      ->check(CLI::Range(1, 1024));
  verb->add_flag("--force", flags->force, "replace OUT when it is there");
  verb->add_flag("--json", flags->json, "report as JSON");
  verb->footer("Example: lode quantize ./My-Model my-model.gguf q4_k_m --calibrate text.txt");
  verb->callback([=] { *action = [=] { return RunQuantize(*flags); }; });
}

}  // namespace lode::cli
