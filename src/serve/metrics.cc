#include "serve/metrics.h"

#include <algorithm>

#include "base/text.h"

namespace lode::serve {
namespace {

double Seconds(chat::AnswerTimes::Clock::duration time) {
  return std::chrono::duration<double>(time).count();
}

std::string Escaped(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '"' || c == '\\') escaped += '\\';
    escaped += c == '\n' ? ' ' : c;
  }
  return escaped;
}

// Writes the exposition format.
class Page {
 public:
  Page(std::string model, std::string* out)
      : labels_("model_name=\"" + Escaped(model) + "\""), out_(out) {}

  void Type(const std::string& name, const char* type, const char* help) {
    *out_ += "# HELP " + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
  }
  void Line(const std::string& name, const std::string& labels, double value) {
    *out_ += name + "{" + labels_ + (labels.empty() ? "" : "," + labels) + "} " +
             Format("%.17g", value) + "\n";
  }
  void One(const std::string& name, const char* type, const char* help, double value) {
    Type(name, type, help);
    Line(name, "", value);
  }
  // Under both names.
  void Both(const std::string& name, const std::string& other, const char* type, const char* help,
            double value) {
    One("lode_" + name, type, help, value);
    One("vllm:" + other, type, help, value);
  }
  void Histograms(const std::string& name, const std::string& other, const char* help,
                  const Histogram& histogram) {
    for (const std::string& full : {"lode_" + name, "vllm:" + other}) {
      Type(full, "histogram", help);
      histogram.Append(full, labels_, out_);
    }
  }

 private:
  std::string labels_;
  std::string* out_;
};

}  // namespace

void Histogram::Observe(double value) {
  const auto at = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  ++counts_[static_cast<size_t>(at - bounds_.begin())];
  sum_ += value;
  ++count_;
}

void Histogram::Append(const std::string& name, const std::string& labels, std::string* out) const {
  uint64_t below = 0;
  for (size_t i = 0; i < bounds_.size(); ++i) {
    below += counts_[i];
    *out += name + "_bucket{" + labels +
            Format(",le=\"%g\"} %llu\n", bounds_[i], static_cast<unsigned long long>(below));
  }
  const auto count = static_cast<unsigned long long>(count_);
  *out += name + "_bucket{" + labels + Format(",le=\"+Inf\"} %llu\n", count);
  *out += name + "_sum{" + labels + Format("} %.9g\n", sum_);
  *out += name + "_count{" + labels + Format("} %llu\n", count);
}

void Metrics::CountRequest(const std::string& route, int status) {
  const std::lock_guard lock(mutex_);
  ++requests_[{route, status}];
}

void Metrics::CountUsage(const chat::Usage& now, chat::Usage* counted) {
  const std::lock_guard lock(mutex_);
  totals_.prompt += now.prompt - counted->prompt;
  totals_.cached += now.cached - counted->cached;
  totals_.completion += now.completion - counted->completion;
  totals_.reasoning += now.reasoning - counted->reasoning;
  *counted = now;
}

chat::Usage Metrics::totals() const {
  const std::lock_guard lock(mutex_);
  return totals_;
}

void Metrics::CountAnswer(const AnswerRecord& record) {
  const auto never = chat::AnswerTimes{}.started;
  const chat::AnswerTimes& times = record.times;
  const std::lock_guard lock(mutex_);
  for (const auto& [reason, count] : record.finished) {
    finished_[reason] += static_cast<uint64_t>(count);
  }
  abandoned_ += record.abandoned ? 1 : 0;
  unknown_calls_ += static_cast<uint64_t>(record.unknown_calls);
  if (times.started != never) queued_.Observe(Seconds(times.started - times.submitted));
  prompt_lengths_.Observe(static_cast<double>(record.usage.prompt));
  answer_lengths_.Observe(static_cast<double>(record.usage.completion));
  if (times.first_token == never) return;
  first_token_.Observe(Seconds(times.first_token - times.submitted));
  whole_.Observe(Seconds(times.last_token - times.submitted));
  if (record.usage.completion > 1) {
    between_tokens_.Observe(Seconds(times.last_token - times.first_token) /
                            static_cast<double>(record.usage.completion - 1));
  }
}

std::string Metrics::Text(const std::string& model, const chat::BackendLoad& load,
                          size_t connections, size_t busy) const {
  std::string out;
  Page page(model, &out);
  const auto number = [](auto value) { return static_cast<double>(value); };
  const std::lock_guard lock(mutex_);
  page.Both("requests_running", "num_requests_running", "gauge", "Answers being computed",
            number(load.running));
  page.Both("requests_waiting", "num_requests_waiting", "gauge", "Requests in the queue",
            number(load.waiting));
  const double share =
      load.bytes_budget == 0 ? 0.0 : number(load.bytes_committed) / number(load.bytes_budget);
  page.Both("cache_usage", "kv_cache_usage_perc", "gauge", "Share of the memory for state in use",
            share);
  page.Both("prompt_tokens_total", "prompt_tokens_total", "counter", "Tokens of prompts",
            number(totals_.prompt));
  page.Both("generation_tokens_total", "generation_tokens_total", "counter", "Tokens of answers",
            number(totals_.completion));
  page.Both("prefix_cache_queries_total", "prefix_cache_queries_total", "counter",
            "Tokens of prompts that were looked for", number(totals_.prompt));
  page.Both("prefix_cache_hits_total", "prefix_cache_hits_total", "counter",
            "Tokens of prompts that needed no computing", number(totals_.cached));
  page.Both("preemptions_total", "num_preemptions_total", "counter",
            "Answers that gave their place back", number(load.preemptions));
  page.Both("draft_tokens_total", "spec_decode_num_draft_tokens_total", "counter", "Tokens guessed",
            number(load.drafted));
  page.Both("accepted_tokens_total", "spec_decode_num_accepted_tokens_total", "counter",
            "Guesses that stood", number(load.accepted));
  page.One("lode_reasoning_tokens_total", "counter", "Tokens of traces",
           number(totals_.reasoning));
  page.One("lode_rows_total", "counter", "Rows that steps have run", number(load.rows));
  page.One("lode_clients_gone_total", "counter", "Answers whose client went away first",
           number(abandoned_));
  page.One("lode_unknown_tool_calls_total", "counter", "Calls of tools that were not given",
           number(unknown_calls_));
  page.One("lode_connections", "gauge", "Open connections", number(connections));
  page.One("lode_connections_busy", "gauge", "Connections with a request", number(busy));
  for (const char* name : {"lode_answers_total", "vllm:request_success_total"}) {
    page.Type(name, "counter", "Answers by how they ended");
    for (const auto& [reason, count] : finished_) {
      page.Line(name, "finished_reason=\"" + reason + "\"", number(count));
    }
  }
  page.Type("lode_http_requests_total", "counter", "Requests by route and status");
  for (const auto& [key, count] : requests_) {
    page.Line("lode_http_requests_total",
              "route=\"" + Escaped(key.first) + "\",status=\"" + std::to_string(key.second) + "\"",
              number(count));
  }
  page.Histograms("time_to_first_token_seconds", "time_to_first_token_seconds",
                  "From a request to its first token", first_token_);
  page.Histograms("inter_token_seconds", "inter_token_latency_seconds",
                  "Between two tokens of an answer, on average", between_tokens_);
  page.Histograms("request_seconds", "e2e_request_latency_seconds",
                  "From a request to its last token", whole_);
  page.Histograms("queue_seconds", "request_queue_time_seconds", "Until an answer began", queued_);
  page.Histograms("request_prompt_tokens", "request_prompt_tokens", "Tokens of a prompt",
                  prompt_lengths_);
  page.Histograms("request_generation_tokens", "request_generation_tokens", "Tokens of an answer",
                  answer_lengths_);
  return out;
}

}  // namespace lode::serve
