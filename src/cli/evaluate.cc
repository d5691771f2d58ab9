#include "cli/evaluate.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/file.h"
#include "base/text.h"
#include "base/thread_pool.h"

namespace lode::cli {
namespace {

// What one prediction adds up to.
struct Row {
  double nll = 0, base_nll = 0, kl = 0;
  bool same_top = false;
};

struct Softmax {
  double log_sum;  // log of the sum of exp of all logits
  int64_t top;
};

Softmax SoftmaxOf(const float* logits, int64_t count) {
  const int64_t top = std::max_element(logits, logits + count) - logits;
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += std::exp(static_cast<double>(logits[i] - logits[top]));
  return {std::log(sum) + static_cast<double>(logits[top]), top};
}

Row Compare(const float* logits, const float* base, int64_t count, int32_t token) {
  Row row;
  const Softmax own = SoftmaxOf(logits, count);
  row.nll = own.log_sum - static_cast<double>(logits[token]);
  if (base == nullptr) return row;
  const Softmax other = SoftmaxOf(base, count);
  row.base_nll = other.log_sum - static_cast<double>(base[token]);
  row.same_top = own.top == other.top;
  for (int64_t i = 0; i < count; ++i) {
    const double log_base = static_cast<double>(base[i]) - other.log_sum;
    row.kl += std::exp(log_base) * (log_base - (static_cast<double>(logits[i]) - own.log_sum));
  }
  row.kl = std::max(row.kl, 0.0);
  return row;
}

struct Moments {
  double mean = 0, error = 0;  // standard error of the mean
};

template <class Value>
Moments MomentsOf(const std::vector<Row>& rows, const Value& value) {
  double sum = 0, squares = 0;
  for (const Row& row : rows) {
    sum += value(row);
    squares += value(row) * value(row);
  }
  const auto n = static_cast<double>(std::max<size_t>(1, rows.size()));
  const double mean = sum / n;
  const double variance = std::max(0.0, squares / n - mean * mean);
  return {mean, rows.size() > 1 ? std::sqrt(variance / (n - 1)) : 0.0};
}

Divergence DivergenceOf(const std::vector<Row>& rows) {
  Divergence d;
  const Moments kl = MomentsOf(rows, [](const Row& row) { return row.kl; });
  const Moments top = MomentsOf(rows, [](const Row& row) { return row.same_top ? 1.0 : 0.0; });
  const Moments ratio = MomentsOf(rows, [](const Row& row) { return row.nll - row.base_nll; });
  d.mean = kl.mean;
  d.error = kl.error;
  d.same_top = top.mean;
  d.same_top_error = top.error;
  d.log_ratio = ratio.mean;
  d.log_ratio_error = ratio.error;
  d.base_perplexity =
      std::exp(MomentsOf(rows, [](const Row& row) { return row.base_nll; }).mean);
  std::vector<double> sorted;
  for (const Row& row : rows) sorted.push_back(row.kl);
  std::sort(sorted.begin(), sorted.end());
  const auto at = [&](double share) {
    return sorted[static_cast<size_t>(share * static_cast<double>(sorted.size() - 1))];
  };
  d.median = at(0.5);
  d.p90 = at(0.9);
  d.p99 = at(0.99);
  d.max = sorted.back();
  return d;
}

// One chunk through one engine: the logits of rows [first, context - 1) are given out piece by
// piece.
class ChunkRun {
 public:
  ChunkRun(api::Running& running, std::span<const int32_t> tokens)
      : engine_(*running.engine), tokens_(tokens) {}

  Result<void> Begin(int64_t first) {
    LODE_ASSIGN(runtime::Sequence sequence, engine_.NewSequence());
    sequence_.emplace(std::move(sequence));
    return Run(tokens_.first(static_cast<size_t>(first)), nullptr);
  }
  Result<void> Next(int64_t at, int64_t count, float* logits) {
    return Run(tokens_.subspan(static_cast<size_t>(at), static_cast<size_t>(count)), logits);
  }
  double seconds() const { return seconds_; }

 private:
  Result<void> Run(std::span<const int32_t> tokens, float* logits) {
    if (tokens.empty()) return {};
    const auto start = std::chrono::steady_clock::now();
    LODE_TRY(engine_.Append(*sequence_, tokens, logits, logits != nullptr));
    seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return {};
  }

  runtime::Engine& engine_;
  std::span<const int32_t> tokens_;
  std::optional<runtime::Sequence> sequence_;
  double seconds_ = 0;
};

class Evaluator {
 public:
  Evaluator(api::Running& model, api::Running* base, const EvalText& text,
            const EvalOptions& options)
      : model_(model), base_(base), text_(text), options_(options), pool_(model.engine->threads()) {
    width_ = model.engine->vocabulary();
    constexpr int64_t kBufferBytes = int64_t{64} << 20;
    piece_ = std::clamp<int64_t>(kBufferBytes / 4 / width_, 1, model.engine->rows_max());
    logits_.resize(static_cast<size_t>(piece_ * width_));
    if (base != nullptr) base_logits_.resize(logits_.size());
  }

  Result<void> Chunk(int64_t begin) {
    std::vector<int32_t> tokens(
        text_.tokens.begin() + begin, text_.tokens.begin() + begin + options_.context);
    if (text_.bos) tokens.front() = *text_.bos;
    // The row of token i predicts token i + 1.
    const int64_t first =
        options_.stride > 0 ? options_.context - options_.stride - 1 : options_.context / 2;
    ChunkRun own(model_, tokens);
    LODE_TRY(own.Begin(first));
    std::optional<ChunkRun> other;
    if (base_ != nullptr) {
      other.emplace(*base_, tokens);
      LODE_TRY(other->Begin(first));
    }
    for (int64_t at = first; at < options_.context - 1; at += piece_) {
      const int64_t count = std::min(piece_, options_.context - 1 - at);
      LODE_TRY(own.Next(at, count, logits_.data()));
      if (other) LODE_TRY(other->Next(at, count, base_logits_.data()));
      Add(tokens, at, count, begin);
    }
    seconds_ += own.seconds();
    tokens_ += options_.context - 1;
    return {};
  }

  Evaluation Sum(int64_t chunks) const {
    Evaluation e;
    const Moments nll = MomentsOf(rows_, [](const Row& row) { return row.nll; });
    e.chunks = chunks;
    e.predictions = static_cast<int64_t>(rows_.size());
    e.tokens = tokens_;
    e.perplexity = std::exp(nll.mean);
    e.error = nll.error * e.perplexity;
    if (bytes_ > 0) {
      e.bits_per_byte = nll.mean * static_cast<double>(rows_.size()) / std::log(2.0) /
                        static_cast<double>(bytes_);
    }
    e.seconds = seconds_;
    e.tokens_per_second = seconds_ > 0 ? static_cast<double>(tokens_) / seconds_ : 0;
    if (base_ != nullptr) e.divergence = DivergenceOf(rows_);
    return e;
  }

 private:
  void Add(const std::vector<int32_t>& tokens, int64_t at, int64_t count, int64_t begin) {
    const size_t old = rows_.size();
    rows_.resize(old + static_cast<size_t>(count));
    pool_.ParallelFor(count, 1, [&](int64_t from, int64_t to, int) {
      for (int64_t i = from; i < to; ++i) {
        const int32_t token = tokens[static_cast<size_t>(at + i + 1)];
        const float* base = base_ == nullptr ? nullptr : base_logits_.data() + i * width_;
        rows_[old + static_cast<size_t>(i)] =
            Compare(logits_.data() + i * width_, base, width_, token);
      }
    });
    for (int64_t i = 0; i < count; ++i) {
      bytes_ += text_.bytes[static_cast<size_t>(begin + at + i + 1)];
    }
  }

  api::Running& model_;
  api::Running* base_;
  const EvalText& text_;
  const EvalOptions& options_;
  ThreadPool pool_;
  int64_t width_ = 0, piece_ = 0, tokens_ = 0, bytes_ = 0;
  double seconds_ = 0;
  std::vector<float> logits_, base_logits_;
  std::vector<Row> rows_;
};

}  // namespace

Result<EvalText> ReadEvalText(const tensor::TensorSource& source, const std::string& file) {
  LODE_ASSIGN(const std::string content, ReadFile(file, uint64_t{4} << 30));
  LODE_ASSIGN(const auto tokenizer, api::OpenTokenizer(source));
  text::EncodeOptions options;
  options.recognise_special = false;
  options.add_special = true;
  EvalText text;
  LODE_ASSIGN(text.tokens, tokenizer->Encode(content, options));
  if (!text.tokens.empty() && tokenizer->bos_id() && text.tokens.front() == *tokenizer->bos_id()) {
    text.bos = *tokenizer->bos_id();
  }
  for (const int32_t token : text.tokens) {
    const bool special = tokenizer->IsSpecial(token);
    text.bytes.push_back(special ? 0 : static_cast<int32_t>(tokenizer->TokenBytes(token).size()));
  }
  return text;
}

Result<Evaluation> Evaluate(api::Running& model, api::Running* base, const EvalText& text,
                            const EvalOptions& options,
                            const std::function<bool(int64_t done, int64_t all)>& progress) {
  if (base != nullptr && base->engine->vocabulary() != model.engine->vocabulary()) {
    return Error(Code::kBadInput,
                 Format("the models have vocabularies of %lld and %lld tokens",
                        static_cast<long long>(model.engine->vocabulary()),
                        static_cast<long long>(base->engine->vocabulary())),
                 "only models with one tokenizer can be compared");
  }
  const auto count = static_cast<int64_t>(text.tokens.size());
  if (count < options.context) {
    return Error(Code::kBadInput,
                 Format("the text has %lld tokens, but one chunk takes %lld",
                        static_cast<long long>(count), static_cast<long long>(options.context)),
                 "give a longer text, or a smaller --context");
  }
  const int64_t step = options.stride > 0 ? options.stride : options.context;
  int64_t chunks = (count - options.context) / step + 1;
  if (options.chunks_max > 0) chunks = std::min(chunks, options.chunks_max);
  Evaluator evaluator(model, base, text, options);
  for (int64_t i = 0; i < chunks; ++i) {
    LODE_TRY(evaluator.Chunk(i * step));
    if (progress && !progress((i + 1) * options.context, chunks * options.context)) {
      return Error(Code::kCancelled, "stopped");
    }
  }
  return evaluator.Sum(chunks);
}

std::string EvaluationText(const Evaluation& e) {
  std::string out =
      Format("perplexity %.4f +/- %.4f, %.4f bits per byte (%s predictions in %lld chunks)\n",
             e.perplexity, e.error, e.bits_per_byte,
             WithThousands(static_cast<uint64_t>(e.predictions)).c_str(),
             static_cast<long long>(e.chunks));
  if (e.divergence) {
    const Divergence& d = *e.divergence;
    out += Format("base       %.4f; ln of the ratio %+.5f +/- %.5f\n", d.base_perplexity,
                  d.log_ratio, d.log_ratio_error);
    out += Format("KL         mean %.6f +/- %.6f, median %.6f, ", d.mean, d.error, d.median);
    out += Format("90%% %.6f, 99%% %.6f, largest %.4f\n", d.p90, d.p99, d.max);
    out += Format("same top   %.2f %% +/- %.2f %%\n", 100 * d.same_top, 100 * d.same_top_error);
  }
  out += Format("speed      %.1f tok/s\n", e.tokens_per_second);
  return out;
}

Json EvaluationJson(const Evaluation& e) {
  Json json = {{"perplexity", e.perplexity},     {"perplexity_error", e.error},
               {"bits_per_byte", e.bits_per_byte}, {"predictions", e.predictions},
               {"chunks", e.chunks},             {"tokens", e.tokens},
               {"seconds", e.seconds},           {"tokens_per_second", e.tokens_per_second}};
  if (e.divergence) {
    const Divergence& d = *e.divergence;
    json["base_perplexity"] = d.base_perplexity;
    json["ln_perplexity_ratio"] = d.log_ratio;
    json["ln_perplexity_ratio_error"] = d.log_ratio_error;
    json["kl"] = {{"mean", d.mean},     {"error", d.error}, {"median", d.median},
                  {"p90", d.p90},       {"p99", d.p99},     {"max", d.max}};
    json["same_top"] = d.same_top;
    json["same_top_error"] = d.same_top_error;
  }
  return json;
}

}  // namespace lode::cli
